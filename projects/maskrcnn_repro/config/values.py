"""Values as people write them, as what their keys hold: ``1`` for a rate, ``1e3`` iterations, ``true``, ``('a')``."""

from __future__ import annotations

import ast
import math
import warnings
from typing import Any

from maskrcnn_repro.config.table import Key
from maskrcnn_repro.errors import ConfigError, shorten

NAMES = {
    "bool": "True or False",
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "list": "a list",
    "tuple": "a tuple",
}
"""Type -> what a sentence calls a value of it."""
LONGEST = 10_000
"""Characters of a value as text; Python's parser needs memory and stack for each."""


def read_value(name: str, raw: Any, key: Key) -> Any:
    """Return a value, as YAML or the command line has it, in the type of its key.

    Args:
        name: the key, for messages.
        raw: text is read as a Python literal where it is one, as in Detectron2.
        key: what the value has to be; whole numbers in a list of floats stay.

    Raises:
        ConfigError: it has another type and cannot mean a value of this one.
    """
    value = literal(raw)
    if value is None and key.optional:
        return None
    # A folder may be named 2024.
    if key.type == "str" and isinstance(raw, str) and isinstance(value, int | float):
        return raw
    if key.type in ("int", "float"):
        value = _number(value, key.type)
    elif key.type == "bool" and isinstance(value, str) and value.lower() in ("true", "false"):
        value = value.lower() == "true"
    elif key.type in ("list", "tuple"):
        value = _entries(name, value, key)
    if type(value).__name__ != key.type:
        raise ConfigError(
            f"{name} {shorten(raw)} must be {NAMES[key.type]}{_spelling(value, key)}."
        )
    return value


def literal(raw: Any) -> Any:
    """Return what a text means as a Python literal, or the text; other values unchanged."""
    if not isinstance(raw, str) or len(raw) > LONGEST:
        return raw
    try:
        with warnings.catch_warnings(action="ignore"):
            return ast.literal_eval(raw)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return raw


def _number(value: Any, kind: str) -> Any:
    """Return a number in the type of its key if it has one there; YAML takes ``1e3`` for text."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if kind == "int":
        return int(value) if math.isfinite(value) and value == int(value) else value
    # An int of more than 308 digits is no float.
    return float(value) if isinstance(value, float) or abs(value) < 1 << 1023 else value


def _entries(name: str, value: Any, key: Key) -> Any:
    """Return a list or tuple with each entry understood; a single text or flat list is the only one of several."""
    if isinstance(value, str) and key.items and key.items.type == "str" and value[:1] not in "([{":
        value = [value]
    if not isinstance(value, list | tuple):
        return value
    flat = value and not any(isinstance(entry, list | tuple) for entry in value)
    if flat and key.items and key.items.type in ("list", "tuple"):
        value = [value]
    if key.items:
        value = [_entry(f"{name}[{place}]", entry, key.items) for place, entry in enumerate(value)]
    return tuple(value) if key.type == "tuple" else list(value)


def _entry(name: str, raw: Any, key: Key) -> Any:
    value = read_value(name, raw, key)
    # Hashes of kept configs hold whole numbers among floats as they were written.
    return raw if isinstance(raw, int) and key.type == "float" else value


def _spelling(value: Any, key: Key) -> str:
    """Return how to write what was probably meant, as the end of a sentence."""
    if key.type == "bool" and value in (0, 1):
        return f"; write {bool(value)}"
    if key.type == "str" and value is not None and not isinstance(value, list | tuple | dict):
        return f"; write '{value}' in quotes"
    if key.type in ("list", "tuple") and isinstance(value, str) and value[:1] in "([{":
        return "; close every bracket and put each text into quotes"
    if key.type in ("list", "tuple") and isinstance(value, str | int | float):
        shown = [value] if key.type == "list" else (value,)
        return f", also of one entry: {shown!r}"
    return ""
