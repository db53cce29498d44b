"""Where a process stands, in memory that its peers on the machine see: JSON in a file of a fixed size.

A file that is mapped costs microseconds for each phase; writing it anew costs milliseconds on a slow disk.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self

from maskrcnn_repro.engine.phases import Phase

SIZE = 8192
"""Bytes of a record; the images of a batch are counted where their names are too long for it."""
ROOM = SIZE - 256


class State(NamedTuple):
    """What a process is doing."""

    phase: Phase = Phase.START
    iteration: int = 0
    steps: int = 0
    images: Sequence[str] = ()


class PhaseRecord:
    """The state of a process, written by it alone.

    Args:
        path: of the file; None: in the memory of this process alone.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._images: Sequence[str] | None = None
        self._names = "[]"
        self._memory: bytearray | mmap.mmap = bytearray(b" " * SIZE)
        if path:
            # Written, not only made as long: a hole in a file has no room yet on a full disk.
            path.write_bytes(self._memory)
            self._memory = _map_file(path)

    @classmethod
    def of_peer(cls, path: Path) -> Self:
        """Return the record that another process has made.

        Raises:
            OSError: there is none.
            ValueError: the same.
        """
        record = cls()
        record._memory = _map_file(path)
        return record

    def write(self, state: State) -> None:
        """Replace the state."""
        if state.images is not self._images:
            names = json.dumps(list(state.images))
            if len(names) > ROOM:
                names = json.dumps([f"{len(state.images)} with long names"])
            self._images, self._names = state.images, names
        text = (
            f'{{"phase": "{state.phase.value}", "iteration": {state.iteration}, "steps": {state.steps}, '
            f'"images": {self._names}}}'
        )
        self._memory[:] = text.encode().ljust(SIZE - 1) + b"\n"

    def read(self) -> State:
        """Return the state; that of the start where none was written, or half of one."""
        try:
            values = json.loads(bytes(self._memory))
            return State(**{**values, "phase": Phase(values["phase"])})
        except ValueError:
            return State()


def _map_file(path: Path) -> mmap.mmap:
    with path.open("r+b") as file:
        return mmap.mmap(file.fileno(), SIZE)
