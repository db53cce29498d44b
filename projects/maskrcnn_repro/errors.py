"""Exceptions for users' mistakes: one sentence that names the value, the place and the way out."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable

from maskrcnn_cli.parsing import closest

LONGEST = 2000
"""Characters of an error's text; of a longer one, which a file's content makes, the middle is left out."""


class UserError(Exception):
    """Base of all errors that a user can mend; the command line prints its text and exits with 2.

    Its text is one line that any terminal can show, whatever of a damaged file it quotes.
    """

    def __str__(self) -> str:
        text = re.sub(r"\s*\n\s*", " ", super().__str__()).strip()
        if len(text) > LONGEST:
            text = f"{text[: LONGEST // 2]} [...] {text[-LONGEST // 4 :]}"
        return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class AgreedError(UserError):
    """A user's error that every process raises, so that only the main one need tell it."""


class BackendError(UserError, ImportError):
    """The Detectron2 that was asked for cannot be used."""


class ConfigError(UserError, ValueError):
    """A config file, key or value is wrong."""


class PluginError(UserError, ImportError):
    """A plug-in cannot be loaded."""


class DataError(UserError, ValueError):
    """A data set is missing, not registered, or not in COCO format."""


class CheckpointError(UserError, ValueError):
    """Weights are missing or do not fit the model."""


class OutputError(UserError, OSError):
    """An output folder cannot be used."""


class InUseError(OutputError):
    """Another run holds the output folder; it is free again when that run ends."""


class ExportError(UserError, ValueError):
    """A model cannot be exported, or an exported file cannot be used."""


class TableError(UserError, ValueError):
    """A table, row, experiment or level does not exist, or a record does not belong where it lies."""


class Ended(SystemExit):
    """A training that ended before its last iteration, on purpose; ``code`` is its exit status."""

    code: int


def did_you_mean(name: str, allowed: Iterable[str], limit: int = 3) -> str:
    """Return `` Did you mean 'A' or 'B'?`` for the names closest to ``name``, or an empty string."""
    close = closest(name, allowed, limit)
    return f" Did you mean {' or '.join(repr(c) for c in close)}?" if close else ""


def counted(number: int, singular: str, plural: str = "") -> str:
    """Return a number with its noun, as in "1 class" and "2 classes"; the plural has an s by default."""
    return f"{number} {singular if number == 1 else plural or f'{singular}s'}"


def listing(names: Iterable[str], limit: int = 10, describe: Callable[[str], str] = repr) -> str:
    """Return the first names, by default in quotes, and how many more there are."""
    shown = [describe(name) for name in names]
    rest = f" and {len(shown) - limit} more" if len(shown) > limit else ""
    return (", ".join(shown[:limit]) or "none") + rest


def shorten(value: object, limit: int = 80) -> str:
    """Return the value as Python writes it, cut where it has more than ``limit`` characters."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 4]} ..."


def check_choice(key: str, value: object, allowed: Collection[object]) -> None:
    """Raise ConfigError unless the value of a config key is one of those ``allowed``."""
    if value not in allowed:
        names = sorted(str(name) or repr("") for name in allowed)
        hint = did_you_mean(str(value), names)
        raise ConfigError(f"{key} {value!r} does not exist.{hint} It may be {', '.join(names)}.")
