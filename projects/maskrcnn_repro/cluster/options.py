"""Options of a cluster: ``KEY=VALUE,…`` of a command line, or a YAML file with the same keys."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maskrcnn_repro.errors import ConfigError, did_you_mean

import yaml

_FORMS: dict[str | type, str] = {
    "time": "minutes, MM:SS, H:MM:SS or D-H:MM:SS",
    int: "a whole number from 0 on",
    float: "a number from 0 on",
    bool: "true or false",
}
_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_CLOCK = re.compile(
    r"(?P<days>\d+)-(?P<hours>\d+)(:(?P<minutes>\d+)(:(?P<seconds>\d+))?)?"
    r"|((?P<h>\d+):)?(?P<m>\d+):(?P<s>\d+)"
)


def parse_options(text: str, option: str, allowed: Mapping[str, type]) -> dict[str, Any]:
    """Return the values of an option by key.

    Args:
        text: ``KEY=VALUE,…`` or the path of a YAML; a value with a comma needs the file.
        option: its name, for messages.
        allowed: keys and the types of their values.

    Raises:
        ConfigError: a key does not exist, or a value is of another type; the file cannot be read.
    """
    if text.endswith((".yaml", ".yml")):
        pairs = _read(text, option)
    else:
        words = [word.partition("=") for word in text.split(",") if word]
        if bare := next((key for key, sign, _ in words if not sign), None):
            raise ConfigError(f"{option} {text}: {bare!r} needs a value, KEY=VALUE.")
        pairs = {key.strip(): value.strip() for key, _, value in words}
    for key in pairs:
        if key not in allowed:
            hint = did_you_mean(str(key), allowed)
            raise ConfigError(
                f"{option}: {key!r} is no option.{hint} There are {', '.join(allowed)}."
            )
    return {key: _convert(option, key, value, allowed[key]) for key, value in pairs.items()}


def minutes(text: str) -> int:
    """Return a time limit in minutes, rounded up, from what SLURM takes.

    That is a number of minutes, ``MM:SS``, ``H:MM:SS``, ``D-H``, ``D-H:MM`` or ``D-H:MM:SS``.

    Raises:
        ValueError: it is none of these, or less than a second.
    """
    if match := _CLOCK.fullmatch(text):
        part = {name: int(digits or 0) for name, digits in match.groupdict().items()}
        if max(part["minutes"], part["seconds"], part["s"], part["m"] * bool(match["h"])) > 59:
            raise ValueError("more than 59 minutes or seconds")
        hours = part["days"] * 24 + part["hours"] + part["h"]
        number = hours * 60 + part["minutes"] + part["m"] + bool(part["seconds"] + part["s"])
    else:
        number = int(text)
    if number < 1:
        raise ValueError("less than a minute")
    return number


def _read(path: str, option: str) -> dict[str, Any]:
    try:
        # Texts alone: YAML would read 4:00:00 as a number of base 60.
        tree = yaml.load(Path(path).read_text(encoding="utf-8"), yaml.BaseLoader) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise ConfigError(f"{option} {path} cannot be read: {reason}.") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{option} {path} holds no keys.")
    return tree


def _convert(option: str, key: str, value: Any, kind: type) -> Any:
    try:
        if key == "time":
            return minutes(value)
        if kind in (list, dict):
            if isinstance(value, kind):
                return value
            raise ValueError(value)
        if kind is bool:
            return _TRUTH[value.lower()]
        number = kind(value)
        if kind in (int, float) and not 0 <= number < math.inf:
            raise ValueError(value)
        return number
    except (ValueError, TypeError, KeyError, AttributeError):
        what = _FORMS.get("time" if key == "time" else kind, f"a value of type {kind.__name__}")
        raise ConfigError(f"{option}: {key} must be {what}, not {value!r}.") from None
