"""A JSON file as a tree, without all of its text in memory beside it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

WINDOW = 1 << 18
"""Characters that are read at a time."""


def read_json(path: Path) -> Any:
    """Return what :func:`json.load` does.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no JSON in UTF-8.
        RecursionError: it is nested too deeply.
    """
    try:
        with open(path, encoding="utf-8") as stream:
            return dict(_Windows(stream).fields())
    except ValueError:
        # A form that windows do not know, or none: json tells the place.
        return json.loads(path.read_text(encoding="utf-8"))


class _Windows:
    """Reads an object of lists window by window; raises ValueError for anything that it is not sure of."""

    def __init__(self, stream: IO[str]) -> None:
        self.stream = stream
        # Python sets the memory of a read aside before it reads.
        self.size = os.fstat(stream.fileno()).st_size or 1
        self.text = ""
        self.place = 0
        self.names: dict[str, str] = {}
        self.decoder = json.JSONDecoder(object_hook=self._with_shared_names)

    def fields(self) -> Iterator[tuple[str, Any]]:
        """Yield the names and values of the object that the file holds."""
        self._expect("{")
        more = self._next() != "}"
        while more:
            if self._next() != '"':
                raise ValueError
            name = self._value()
            self._expect(":")
            yield name, list(self._elements()) if self._next() == "[" else self._value()
            more = self._next() == ","
            self.place += more
        self._expect("}")
        if self._next():
            raise ValueError

    def _elements(self) -> Iterator[Any]:
        self._expect("[")
        more = self._next() != "]"
        while more:
            yield self._value()
            more = self._next() == ","
            self.place += more
        self._expect("]")

    def _value(self) -> Any:
        self._next()
        while True:
            try:
                value, end = self.decoder.raw_decode(self.text, self.place)
            except ValueError:
                if not self._read():
                    raise
                continue
            # A number may go on in the next window.
            if end < len(self.text) or not self._read():
                self.place = end
                return value

    def _expect(self, character: str) -> None:
        if self._next() != character:
            raise ValueError
        self.place += 1

    def _next(self) -> str:
        """Return the next character that is no space, empty at the end."""
        while True:
            while self.place < len(self.text) and self.text[self.place] in " \t\n\r":
                self.place += 1
            if self.place < len(self.text) or not self._read():
                return self.text[self.place : self.place + 1]

    def _read(self) -> bool:
        """Drop what is read and read on; False at the end."""
        rest = self.text[self.place :]
        # Twice as much each time, for a value that is longer than a window.
        text = self.stream.read(min(max(WINDOW, len(rest)), self.size))
        if text:
            self.text, self.place = rest + text, 0
        return bool(text)

    def _with_shared_names(self, tree: dict[str, Any]) -> dict[str, Any]:
        """Return the object with names that all objects share, as within one call of json."""
        return {self.names.setdefault(name, name): value for name, value in tree.items()}
