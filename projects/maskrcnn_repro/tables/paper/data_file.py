"""YAML data of this package, read key by key: whatever is wrong is named with its place."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from maskrcnn_repro.errors import TableError, did_you_mean

import yaml

T = TypeVar("T")

FOLDER = Path(__file__).parent / "data"


class Node:
    """A mapping in a data file.

    Args:
        value: what the file has there.
        place: file and keys that lead to it, for messages.

    Raises:
        TableError: ``value`` is no mapping.
    """

    def __init__(self, value: Any, place: str) -> None:
        if not isinstance(value, dict):
            raise TableError(f"{place} must be a mapping, not {value!r}.")
        self._left: dict[str, Any] = dict(value)
        self.place = place

    def __contains__(self, key: str) -> bool:
        """Tell whether a key is there and has not been read."""
        return key in self._left

    def take(self, key: str, kind: type[T]) -> T:
        """Return the value of a key that must be there, of this type.

        Raises:
            TableError: it is missing or of another type.
        """
        if key not in self._left:
            raise TableError(f"{self.place} lacks {key!r}.")
        value = self._left.pop(key)
        if not isinstance(value, kind):
            raise TableError(
                f"{self.place}: {key} must be {_article(kind)}, not {value!r} ({type(value).__name__})."
            )
        return value

    def maybe(self, key: str, kind: type[T]) -> T | None:
        """Return the value of a key, or None without it."""
        return self.take(key, kind) if key in self._left else None

    def names(self, key: str) -> tuple[str, ...]:
        """Return a list of strings, empty without the key."""
        found = self.maybe(key, list) or []
        for one in found:
            if not isinstance(one, str):
                raise TableError(f"{self.place}: {key} has {one!r}, which is no string.")
        return tuple(found)

    def node(self, key: str) -> Node:
        """Return the mapping at a key."""
        return Node(self.take(key, dict), f"{self.place}: {key}")

    def nodes(self) -> Iterator[tuple[str, Node]]:
        """Yield all keys that are left with their mappings."""
        for key in list(self._left):
            if not isinstance(key, str):
                raise TableError(f"{self.place}: the name {key!r} must be a string; quote it.")
            yield key, self.node(key)

    def end(self) -> None:
        """Raise TableError if a key was not read."""
        if self._left:
            raise TableError(f"{self.place} has an unknown key {next(iter(self._left))!r}.")

    def rest(self) -> dict[str, Any]:
        """Return what is left as a plain dict."""
        left, self._left = self._left, {}
        return left


def read_data(path: Path) -> Node:
    """Return the top of a YAML file.

    Raises:
        TableError: the file is missing, no YAML, no mapping, or has a key twice.
    """
    try:
        return Node(yaml.load(path.read_text(encoding="utf-8"), _Loader), path.name)
    except OSError as error:
        raise TableError(f"{path} cannot be read: {error.strerror}.") from error
    except yaml.YAMLError as error:
        raise TableError(f"{path} is no YAML: {error}") from error


def look_up(known: Mapping[str, T], name: str, what: str) -> T:
    """Return ``known[name]``.

    Raises:
        TableError: it does not exist; the message lists what there is.
    """
    if name not in known:
        raise TableError(f"{missing(known, name, what)} There are {', '.join(known)}.")
    return known[name]


def missing(known: Iterable[str], name: str, what: str) -> str:
    """Return one sentence that ``name`` does not exist, with the nearest names that do."""
    return f"{what} {name!r} does not exist.{did_you_mean(name, known)}"


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice, which YAML's own loader overwrites in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key, _ in node.value:
            name = self.construct_object(key, deep=deep)
            if name in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{name!r} stands here twice", key.start_mark
                )
            seen.add(name)
        return dict(super().construct_mapping(node, deep=deep))


def _article(kind: type) -> str:
    words = {str: "a string", list: "a list", dict: "a mapping", bool: "true or false"}
    return words.get(kind, f"a {kind.__name__}")
