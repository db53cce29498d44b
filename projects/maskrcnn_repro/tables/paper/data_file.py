"""The YAML files of this package, read key by key, so that each error message names the file and the key."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from maskrcnn_repro.errors import TableError, did_you_mean

import yaml

T = TypeVar("T")

FOLDER = Path(__file__).parent / "data"


class Node:
    """A mapping in a YAML file whose keys are taken one by one; :meth:`end` refuses those that nobody took.

    Args:
        value: the parsed YAML.
        place: the file and the keys that lead to it, for error messages.

    Raises:
        TableError: ``value`` is no mapping.
    """

    def __init__(self, value: Any, place: str) -> None:
        if not isinstance(value, dict):
            raise TableError(f"{place} must be a mapping, not {value!r}.")
        self._unread: dict[str, Any] = dict(value)
        self.place = place

    def __contains__(self, key: str) -> bool:
        """Return whether a key is there and has not been taken."""
        return key in self._unread

    def take(self, key: str, kind: type[T]) -> T:
        """Return the value of a required key.

        Raises:
            TableError: the key is missing, or its value is not of type ``kind``.
        """
        if key not in self._unread:
            raise TableError(f"{self.place} lacks {key!r}.")
        value = self._unread.pop(key)
        if kind is float and type(value) is int:
            value = float(value)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise TableError(
                f"{self.place}: {key} must be {_describe_type(kind)}, not {value!r} ({type(value).__name__})."
            )
        return value

    def maybe(self, key: str, kind: type[T]) -> T | None:
        """Return the value of a key, or None without it."""
        return self.take(key, kind) if key in self._unread else None

    def names(self, key: str) -> tuple[str, ...]:
        """Return a list of strings, empty without the key."""
        names = self.maybe(key, list) or []
        for name in names:
            if not isinstance(name, str):
                raise TableError(f"{self.place}: {key} has {name!r}, which is no string.")
        return tuple(names)

    def node(self, key: str) -> Node:
        """Return the mapping at a required key."""
        return Node(self.take(key, dict), f"{self.place}: {key}")

    def nodes(self) -> Iterator[tuple[str, Node]]:
        """Yield each key that has not been taken, with its mapping."""
        for key in list(self._unread):
            if not isinstance(key, str):
                raise TableError(f"{self.place}: the name {key!r} must be a string; quote it.")
            yield key, self.node(key)

    def build(self, kind: type[T], **values: Any) -> T:
        """Return a dataclass: fields that ``values`` lacks are taken from the keys of their names.

        Raises:
            TableError: a key is missing, of another type than its field, or unknown.
        """
        hints = get_type_hints(kind)
        for item in fields(kind):  # type: ignore[arg-type]
            if item.name in values:
                continue
            if item.name in self or item.default is MISSING:
                hint = hints[item.name]
                values[item.name] = self.take(item.name, next(iter(get_args(hint)), hint))
        self.end()
        return kind(**values)

    def choice(self, key: str, allowed: Iterable[str]) -> str:
        """Return the string of a required key, one of those ``allowed``."""
        value = self.take(key, str)
        if value not in allowed:
            raise TableError(f"{self.place}: {key} {value!r} is none of {', '.join(allowed)}.")
        return value

    def check_names(self, names: Iterable[str], existing: Iterable[str], what: str) -> None:
        """Raise TableError if one of ``names`` does not exist; ``what``: noun for one of them."""
        for name in names:
            if name not in existing:
                raise TableError(f"{self.place}: {describe_missing(existing, name, what)}")

    def end(self) -> None:
        """Raise TableError if a key has not been taken."""
        if self._unread:
            raise TableError(f"{self.place} has an unknown key {next(iter(self._unread))!r}.")

    def rest(self) -> dict[str, Any]:
        """Take all keys that are left, as a plain dict."""
        rest, self._unread = self._unread, {}
        return rest


def read_data(path: Path) -> Node:
    """Return the top-level mapping of a YAML file.

    Raises:
        TableError: the file cannot be read, is no YAML or no mapping, or has a key twice.
    """
    try:
        return Node(yaml.load(path.read_text(encoding="utf-8"), _Loader), path.name)
    except OSError as error:
        raise TableError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise TableError(f"{path} cannot be read as UTF-8: {error.reason}.") from error
    except (RecursionError, yaml.YAMLError) as error:
        raise TableError(f"{path} is no YAML: {error}") from error


def look_up(entries: Mapping[str, T], name: str, what: str, hint: str = "") -> T:
    """Return ``entries[name]``.

    Args:
        entries: by name.
        name: the one to find.
        what: noun for such an entry, which begins the error message.
        hint: a sentence that ends it.

    Raises:
        TableError: there is no such entry; the message lists all names.
    """
    if name not in entries:
        text = f"{describe_missing(entries, name, what)} There are {', '.join(entries)}. {hint}"
        raise TableError(text.rstrip())
    return entries[name]


def describe_missing(names: Iterable[str], name: str, what: str) -> str:
    """Return the error sentence that ``name`` does not exist, with the nearest of ``names``."""
    return f"{what} {name!r} does not exist.{did_you_mean(name, names)}"


class _Loader(yaml.SafeLoader):
    """Refuses a duplicate key; PyYAML's own loader silently keeps the last value."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key, _ in node.value:
            name = self.construct_object(key, deep=True)
            if not isinstance(name, Hashable):
                raise yaml.constructor.ConstructorError(
                    None, None, f"{name!r} can be no key", key.start_mark
                )
            if name in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{name!r} stands here twice", key.start_mark
                )
            seen.add(name)
        return dict(super().construct_mapping(node, deep=deep))


def _describe_type(kind: type) -> str:
    words = {
        str: "a string",
        list: "a list",
        dict: "a mapping",
        bool: "true or false",
        int: "a whole number",
        float: "a number",
    }
    return words.get(kind, f"a {kind.__name__}")
