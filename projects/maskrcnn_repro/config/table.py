"""What each config key may be, as data: ours in ``config_keys.yaml``, Detectron2's in ``detectron2_keys.yaml``.

A plug-in's keys stand in a file of the same form in its own folder.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

from maskrcnn_repro._location import PACKAGE
from maskrcnn_repro.errors import ConfigError, check_choice

import yaml

KEYS = PACKAGE / "config_keys.yaml"
"""Our keys as data: default, type, what else they may be, unit, section of the paper, and meaning of each."""
DETECTRON2_KEYS = PACKAGE / "detectron2_keys.yaml"
"""The same of Detectron2's keys that a run reads, without their defaults."""


@dataclass(frozen=True)
class Interval:
    """Numbers between two ends, each of them included or not."""

    low: float
    high: float
    closed_low: bool
    closed_high: bool

    @classmethod
    def parse(cls, text: str | int) -> Interval:
        """Return the interval of a text such as ``"[0, 1)"``; a single number has itself alone."""
        if isinstance(text, int):
            return cls(text, text, True, True)
        low, high = text[1:-1].split(",")
        return cls(float(low), float(high), text[0] == "[", text[-1] == "]")

    def __contains__(self, number: float) -> bool:
        above = number >= self.low if self.closed_low else number > self.low
        below = number <= self.high if self.closed_high else number < self.high
        return above and below

    def __str__(self) -> str:
        if self.low == self.high:
            return f"{self.low:.12g}"
        low = f"{'at least' if self.closed_low else 'above'} {self.low:.12g}"
        high = f"{'at most' if self.closed_high else 'below'} {self.high:.12g}"
        bounds = [low] * (self.low > -math.inf) + [high] * (self.high < math.inf)
        return " and ".join(bounds) or "finite"


@dataclass(frozen=True)
class Key:
    """A config key, or an entry of one: its type, and which values of that type it may have."""

    type: str
    range: Interval | None = None
    choices: tuple[Any, ...] = ()
    registry: str = ""
    """Name of the registry that has further choices; they are checked where it can be imported."""
    length: Interval | None = None
    unique: bool = False
    increasing: bool = False
    items: Key | None = None
    optional: bool = False

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Key:
        """Return the key of an entry of the YAML files."""
        values = {name: fields[name] for name in cls.__dataclass_fields__ if name in fields}
        for name in values.keys() & {"range", "length"}:
            values[name] = Interval.parse(values[name])
        if "items" in values:
            values["items"] = cls.of(values["items"])
        return cls(**values | {"choices": tuple(fields.get("choices", ()))})

    def check(self, name: str, value: Any) -> None:
        """Raise ConfigError unless ``value``, of the right type, is one that the key ``name`` may have."""
        if value is None and self.optional:
            return
        if self.choices and not self.registry:
            check_choice(name, value, self.choices)
        if self.range and value not in self.range:
            finite = "" if math.isfinite(value) else "finite, "
            raise ConfigError(f"{name} {value!r} must be {finite}{self.range}.")
        if isinstance(value, str | list | tuple):
            self._check_entries(name, value)

    def _check_entries(self, name: str, value: str | list[Any] | tuple[Any, ...]) -> None:
        if self.length and len(value) not in self.length:
            if isinstance(value, str):
                raise ConfigError(f"{name} {value!r} must not be empty.")
            raise ConfigError(
                f"{name} {value!r} has {len(value)} entries; their number must be {self.length}."
            )
        for place, entry in enumerate(value if self.items else ()):
            assert self.items
            self.items.check(f"{name}[{place}]", entry)
        twice = next((entry for entry in value if value.count(entry) > 1), None)
        if self.unique and twice is not None:
            raise ConfigError(f"{name} {value!r} has {twice!r} twice; name it once.")
        if self.increasing and any(a >= b for a, b in pairwise(value)):
            raise ConfigError(f"{name} {value!r} must increase from entry to entry.")

    def __str__(self) -> str:
        """Return what the key may be, for the documentation."""
        what = [f"one of {', '.join(f'`{choice!r}`' for choice in self.choices)}"] * bool(
            self.choices
        )
        what += [f"a name of the registry {self.registry}"] * bool(self.registry)
        what = [" or ".join(what)] if what else [self.type]
        what += ["or `None`"] * self.optional + [str(self.range)] * bool(self.range)
        if self.length:
            what.append("not empty" if self.type == "str" else f"number of entries {self.length}")
        what += ["no entry twice"] * self.unique + ["increasing"] * self.increasing
        return ", ".join(what) + (f"; of {self.items}" if self.items else "")


@functools.cache
def read_keys(file: Path = KEYS) -> Mapping[str, Mapping[str, Any]]:
    """Return one of the YAML files: the fields of each key."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return MappingProxyType(yaml.load(file.read_text(encoding="utf-8"), loader))


@functools.cache
def key_table(*files: Path) -> Mapping[str, Key]:
    """Return what each key may be, of ours, of those of Detectron2 that a run reads, and of those of ``files``."""
    every = (DETECTRON2_KEYS, KEYS, *files)
    fields = {name: entry for file in every for name, entry in read_keys(file).items()}
    return MappingProxyType({name: Key.of(entry) for name, entry in fields.items()})
