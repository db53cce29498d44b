"""Description of a subcommand, and an argument parser whose errors are one sentence."""

from __future__ import annotations

import argparse
import difflib
import itertools
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn


class UsageError(Exception):
    """A wrong command line; the text is one sentence for the user."""


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that raises UsageError instead of printing its usage and ending the process."""

    def error(self, message: str) -> NoReturn:
        """Raise UsageError; for an option that does not exist, with the nearest that does."""
        option = re.match(r"unrecognized arguments: (--[\w-]+)", message)
        near = closest(option[1], self._option_string_actions) if option else []
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UsageError(f"{message}{hint} (see {self.prog} --help).")


class Once(argparse.Action):
    """Stores the value of an option and refuses a second: each would look like one more, and replaces the first."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Store the values."""
        if getattr(namespace, self.dest, None) is not None:
            raise argparse.ArgumentError(self, "it is given twice; join the files, or name one")
        setattr(namespace, self.dest, values)


@dataclass(frozen=True)
class Command:
    """A subcommand of ``maskrcnn``.

    Attributes:
        name: as it is typed.
        summary: one line for the list of subcommands.
        example: one command line for that list.
        runs: ``MODULE:FUNCTION`` to call with the parsed arguments; returns an exit status or None for 0.
            Imported after parsing, because the import takes seconds.
        add_options: adds the arguments to a parser.
        examples: last part of the subcommand's help; ``%(prog)s`` is the command.
        parse: parses the words of a command line; raises UsageError. It may replace ``runs`` in its result.
    """

    name: str
    summary: str
    example: str
    runs: str
    add_options: Callable[[Parser], None]
    examples: str
    parse: Callable[[Parser, Sequence[str]], argparse.Namespace] = Parser.parse_args

    def parser(self, prog: str | None = None) -> Parser:
        """Return the argument parser of the subcommand.

        Args:
            prog: the program's name in help and errors; by default ``maskrcnn NAME``.
        """
        parser = Parser(
            prog=prog or f"maskrcnn {self.name}",
            description=self.summary,
            epilog=f"examples:{self.examples}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.set_defaults(runs=self.runs)
        self.add_options(parser)
        return parser

    def arguments(self, words: Sequence[str], prog: str | None = None) -> argparse.Namespace:
        """Parse a command line.

        Args:
            words: the arguments after the subcommand.
            prog: see :meth:`parser`.

        Raises:
            UsageError: the arguments are wrong, or one is empty, as a shell variable without a value is.
        """
        args = self.parse(self.parser(prog), words)
        # As a path it would be the working directory. A config key may have an empty value.
        words = words[: words.index("--")] if "--" in words else words
        keys = [key for key, value in split_pairs(getattr(args, "opts", ())) if value == ""]
        for before, word in itertools.pairwise(["", *words]):
            if not word and before in keys:
                continue
            if not word or re.fullmatch(r"--[\w-]+=", word):
                after = f" after {(word or before)!r}" if word or before else ""
                raise UsageError(f"The argument{after} is empty; give a value, or leave it out.")
        return args


def count(word: str) -> int:
    """Parse a positive integer: the ``type`` of an option.

    Raises:
        ArgumentTypeError: the word is something else.
    """
    number = int(word) if word.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{word!r} is no number from 1 upwards")
    return number


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add the model of a command that uses one: ``MODEL`` and ``--trust``."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="folder of a run, a checkpoint, an exported file, or the name of a model",
    )
    parser.add_argument(
        "--trust",
        action="store_true",
        help="load MODEL even if it is a program (.pt2, .ts), which may do anything on this machine",
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add ``--device``, which a predictor computes on."""
    parser.add_argument(
        "--device", default="auto", help="auto (a GPU if there is one), cpu, cuda, cuda:1"
    )


def add_tiles(parser: argparse.ArgumentParser) -> None:
    """Add ``--tiles``."""
    parser.add_argument(
        "--tiles",
        type=count,
        default=0,
        metavar="PIXELS",
        help="cut larger images into overlapping tiles of this side",
    )


def fraction(word: str) -> float:
    """Parse a number from 0 to 1: the ``type`` of an option."""
    value = distance(word)
    if value > 1:
        raise argparse.ArgumentTypeError(f"{word!r} is no number from 0 to 1")
    return value


def distance(word: str) -> float:
    """Parse a finite number from 0 on: the ``type`` of an option."""
    try:
        value = float(word)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{word!r} is no number from 0 upwards")
    return value


def split_pairs(words: Sequence[str]) -> list[tuple[str, str | None]]:
    """Return the config keys and values of words, ``KEY VALUE`` or ``KEY=VALUE`` each; None for a last key without one."""
    rest, pairs = iter(words), []
    for word in rest:
        key, equals, value = word.partition("=")
        pairs.append((key, value if equals else next(rest, None)))
    return pairs


def split_overrides(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the words before ``--`` and those after it."""
    index = words.index("--") if "--" in words else len(words)
    return list(words[:index]), list(words[index + 1 :])


def refuse(args: argparse.Namespace, names: Iterable[str], reason: str) -> None:
    """Raise UsageError if one of these options was given: beside another it would be ignored.

    Args:
        args: the parsed arguments.
        names: of options or arguments that are empty, False or None by default.
        reason: beginning of the sentence, which names the other option.
    """
    for name in names:
        if getattr(args, name) not in (None, False, []):
            word = "TABLE" if name == "tables" else f"--{name.replace('_', '-')}"
            raise ignored(word, reason)


def ignored(word: str, reason: str) -> UsageError:
    """Return the error for a word that would be ignored; ``reason`` begins the sentence."""
    return UsageError(f"{reason}, so that {word} would be ignored: leave one of them out.")


def unknown(what: str, name: str, allowed: Collection[str]) -> UsageError:
    """Return the error for a name that does not exist; it suggests the most similar one."""
    near = closest(name, allowed, limit=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return UsageError(f"{what} {name!r} does not exist.{hint} There are {', '.join(allowed)}.")


def closest(name: str, allowed: Iterable[str], limit: int = 3, cutoff: float = 0.6) -> list[str]:
    """Return the names most similar to ``name``, the best first; upper and lower case count as equal.

    Args:
        name: that does not exist.
        allowed: names that do.
        limit: of names to return.
        cutoff: the least similarity, 0 to 1, as :func:`difflib.get_close_matches` has it.
    """
    by_lower = {other.lower(): other for other in allowed}
    near = difflib.get_close_matches(name.lower(), by_lower, limit, cutoff)
    return [by_lower[lower] for lower in near]
