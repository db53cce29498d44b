"""Values of a record's fields: each function returns its argument, or raises WrongValueError for what the field cannot be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from maskrcnn_repro.tables.runs.reading import WrongValueError

LONGEST = 1e9
"""Seconds that a run may have taken: thirty years."""


def numbers(values: Mapping[str, Any]) -> dict[str, float | None]:
    """Return metrics by name; None for one without ground truth."""
    return {key: None if value is None else number(value) for key, value in values.items()}


def number(value: Any) -> float:
    """Return a finite number."""
    if type(value) not in (int, float) or not math.isfinite(value):
        raise WrongValueError(f"{value!r:.80} is no finite number")
    return float(value)


def duration(value: Any) -> float:
    """Return seconds."""
    if not 0 <= number(value) <= LONGEST:
        raise WrongValueError(f"{value:g} seconds are none that a run takes")
    return float(value)


def word(value: Any) -> str:
    """Return a text that a terminal can show."""
    if not text(value).isprintable():
        raise WrongValueError(f"{value!r:.80} has characters that cannot be shown")
    return str(value)


def whole_number(value: Any) -> int:
    """Return a whole number."""
    if type(value) is not int:
        raise WrongValueError(f"{value!r:.80} is no whole number")
    return value


def text(value: Any) -> str:
    """Return a text."""
    if not isinstance(value, str):
        raise WrongValueError(f"{value!r:.80} is no text")
    return value


def optional_text(value: Any) -> str | None:
    """Return a text, or None."""
    return None if value is None else text(value)
