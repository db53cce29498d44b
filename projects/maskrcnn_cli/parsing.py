"""What all subcommands share: their description, and a parser whose errors are one sentence."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NoReturn


class UsageError(Exception):
    """A command line that cannot be understood; the text is one sentence for the user."""


class Parser(argparse.ArgumentParser):
    """A parser that raises UsageError instead of printing its usage and ending the process."""

    def error(self, message: str) -> NoReturn:
        """Raise UsageError."""
        raise UsageError(f"{message} (see {self.prog} --help).")


@dataclass(frozen=True)
class Command:
    """A subcommand of ``maskrcnn``.

    Attributes:
        name: as it is typed.
        summary: one line for the list of subcommands.
        example: one command line for that list.
        runs: ``MODULE:FUNCTION`` of the arguments, which returns an exit status or None for 0. The function
            is imported when the arguments have been understood.
        add_options: adds the arguments to a parser.
        examples: end of the subcommand's own help; ``%(prog)s`` stands for the command.
        parse: parses words; raises UsageError. It may set ``runs`` in its result to start something else.
    """

    name: str
    summary: str
    example: str
    runs: str
    add_options: Callable[[Parser], None]
    examples: str
    parse: Callable[[Parser, Sequence[str]], argparse.Namespace] = Parser.parse_args

    def parser(self, prog: str | None = None) -> Parser:
        """Return the parser with its options.

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
        """Return the parsed command line.

        Args:
            words: the arguments behind the subcommand.
            prog: see :meth:`parser`.

        Raises:
            UsageError: they cannot be understood.
        """
        return self.parse(self.parser(prog), words)


def count(word: str) -> int:
    """Return a number of an option, at least 1.

    Raises:
        ArgumentTypeError: it is none.
    """
    number = int(word) if word.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{word!r} is no number from 1 upwards")
    return number


def split_overrides(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return what stands before ``--`` and what stands behind it."""
    place = words.index("--") if "--" in words else len(words)
    return list(words[:place]), list(words[place + 1 :])


def unknown(what: str, name: str, allowed: Iterable[str]) -> UsageError:
    """Return the error for a name that does not exist, with the nearest one that does."""
    near = difflib.get_close_matches(name, list(allowed), n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return UsageError(f"{what} {name!r} does not exist.{hint} There are {', '.join(allowed)}.")
