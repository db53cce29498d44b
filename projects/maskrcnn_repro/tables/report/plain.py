"""Frozen dataclasses as plain values for JSON, and back with every type checked.

``to_json`` and ``from_json`` are each other's inverse; what a file of an earlier version lacks has its default,
and stays out of the file when it is written again.
"""

from __future__ import annotations

import json
import types
from collections.abc import Mapping
from dataclasses import MISSING, field, fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

MOST = 1e12
"""Numbers of a report are smaller."""

T = TypeVar("T")


def later_field(default: Any) -> Any:
    """Return a field that files of earlier versions lack: it is written unless it is the default."""
    return field(default=default, metadata={"added": True})


def to_json(value: Any) -> Any:
    """Return a report, or a part of one, as plain values."""
    if is_dataclass(value):
        return {
            item.name: to_json(getattr(value, item.name))
            for item in fields(value)
            if not (item.metadata.get("added") and getattr(value, item.name) == item.default)
        }
    if isinstance(value, Mapping):
        return {key: to_json(item) for key, item in value.items()}
    return [to_json(item) for item in value] if isinstance(value, list | tuple) else value


def json_text(tree: Any) -> str:
    """Return plain values as JSON for a file that people may read."""
    return json.dumps(tree, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def from_json(kind: type[T], tree: Any) -> T:
    """Return a report, or a part of one, from what :func:`to_json` returned.

    Raises:
        ValueError: something is missing.
        TypeError: something is of another type.
    """
    if not isinstance(tree, Mapping):
        raise TypeError(f"{kind.__name__} must be a mapping, not {tree!r}")
    hints = get_type_hints(kind)
    values = {}
    for item in fields(kind):  # type: ignore[arg-type]
        if item.name in tree:
            values[item.name] = _convert(hints[item.name], tree[item.name])
        elif item.default is MISSING and item.default_factory is MISSING:
            raise ValueError(f"{kind.__name__} lacks {item.name!r}")
    return kind(**values)


def _convert(hint: Any, value: Any) -> Any:
    """Return a plain value as the type of a field: optional, a tuple, a mapping, a part or a plain one."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        (hint,) = (part for part in inner if part is not types.NoneType)
        return None if value is None else _convert(hint, value)
    if hint is not Any and is_dataclass(hint):
        return from_json(hint, value)  # type: ignore[arg-type]
    if (
        origin is tuple
        and isinstance(value, list)
        and (Ellipsis in inner or len(value) == len(inner))
    ):
        return tuple(_convert(inner[0], item) for item in value)
    if origin is Mapping and isinstance(value, Mapping):
        return {key: _convert(inner[1], item) for key, item in value.items()}
    if value in inner if origin is Literal else _is_plain(value, hint):
        return value
    expected = (
        f"none of {', '.join(map(repr, inner))}"
        if origin is Literal
        else _NO.get(origin or hint, "no such part")
    )
    raise TypeError(f"{value!r:.80} is {expected}")


_NO = {
    str: "no text",
    bool: "neither true nor false",
    int: f"no whole number below {MOST:g}",
    float: f"no number below {MOST:g}",
    tuple: "no list of as many values as it should be",
    Mapping: "no mapping",
}
"""Type of a field to what a value of another one is."""


def _is_plain(value: Any, kind: Any) -> bool:
    """Tell whether a value is a text, a truth value or a finite number as a field has it."""
    if type(value) in (int, float) and kind in (int, float):
        return (kind is float or type(value) is int) and abs(value) < MOST
    return kind in (str, bool) and type(value) is kind
