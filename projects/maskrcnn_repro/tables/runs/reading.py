"""Reading the JSON and YAML files of runs; whatever is wrong with one is a sentence that names it."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from maskrcnn_repro.errors import TableError, UserError

import yaml

# The loader in C, where PyYAML has it, since a plan may read a config for every stage.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def read_json(path: Path) -> dict[str, Any]:
    """Return what a JSON file holds.

    Raises:
        TableError: it cannot be read.
    """
    return _read_mapping(path, json.loads, "results")


def read_text(path: Path) -> str:
    """Return a UTF-8 file's text.

    Raises:
        TableError: it cannot be read.
    """
    if path.is_fifo():  # it would be waited for
        raise TableError(f"{path} cannot be read: it is a pipe.")
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:  # bytes that are no UTF-8, or a path with a NUL
        raise TableError(f"{path} cannot be read: {_reason(error)}.") from error


def read_yaml(path: Path) -> dict[str, Any]:
    """Return what a config holds.

    Raises:
        TableError: it cannot be read.
    """
    return _read_mapping(path, _parse_yaml, "config")


# A status asks twice for one config: for its values and for its hash. No caller changes the values.
@functools.lru_cache(maxsize=1)
def _parse_yaml(text: str) -> Any:
    return yaml.load(text, _Loader)


def _read_mapping(path: Path, parse: Callable[[str], Any], contents: str) -> dict[str, Any]:
    text = read_text(path)
    try:
        tree = parse(text)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise TableError(f"{path} cannot be read: {_reason(error)}.") from error
    if not isinstance(tree, dict):
        raise TableError(f"{path} cannot be read: it holds no {contents}.")
    if _SURROGATE.search(text):
        try:  # bytes of a path that are no UTF-8 are stored so, and can be written again
            json.dumps(tree, ensure_ascii=False, default=str).encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raise TableError(f"{path} cannot be read: it holds half a character.") from None
    return tree


class WrongValueError(ValueError):
    """A value of a file's field that it cannot have; the text says so."""


def describe_error(error: Exception, path: Path) -> str:
    """Return what is wrong with a file by what its reader raised: a part of a sentence, without Python's words.

    Args:
        error: what was raised.
        path: the file, which the sentence names before.
    """
    if isinstance(error, KeyError):
        return f"it lacks {error}"
    if isinstance(error, WrongValueError | UserError):
        return str(error).removeprefix(f"{path} cannot be read: ").rstrip(".")
    if isinstance(error, OSError | json.JSONDecodeError | UnicodeDecodeError):
        return _reason(error)
    return "a value is of another type"


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).split("\n", 1)[0]
