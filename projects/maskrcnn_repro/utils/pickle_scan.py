"""A look at the instructions of a pickle before it is loaded: it may not ask for more than it holds.

Python's unpickler runs nothing harmful with stand-ins for all classes (:mod:`maskrcnn_repro.utils.pickles`),
but a few bytes can still make it take gigabytes or hours: a place in its memo far beyond those in use, containers
nested so deep that hashing one overflows the stack, or that hold each other and double at each level.
"""

from __future__ import annotations

import mmap
import pickletools
from collections.abc import Sequence
from typing import IO, NamedTuple, cast

OBJECTS = 1_000_000
"""Instructions that any file may have; each makes at most one object of a hundred bytes."""
BYTES_PER_OBJECT = 64
"""A larger file may have another instruction for each of so many bytes."""
DEPTH = 60
SHARING = 1000
"""How often, on average, a pickle may use an object again."""
REFUSED = frozenset({"EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER"})
"""Instructions for objects that are not in the file."""
_FILLING = frozenset({"APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD"})
_STORING = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
_READING = frozenset({"GET", "BINGET", "LONG_BINGET"})


class ExcessError(ValueError):
    """A file asks for code, memory or time that the data in it do not need."""


class _Extent(NamedTuple):
    """How deep a value's containers lie, and how many objects it would hold if none were shared."""

    depth: int
    objects: int


_LEAF = _Extent(0, 1)


def check_pickle(file: IO[bytes] | mmap.mmap, size: int) -> None:
    """Read the instructions of a pickle up to its end, building nothing.

    Args:
        file: at the beginning of the pickle; a memory map or a buffer, so that no read takes more than is there.
        size: of the pickle, or of the file that it is in, in bytes.

    Raises:
        ExcessError: it would take much more memory or time than its size.
        ValueError: it is truncated or no pickle.
    """
    machine = _Machine()
    instructions = pickletools.genops(cast(IO[bytes], file))  # a map has read and readline
    allowed = OBJECTS + size // BYTES_PER_OBJECT
    for number, (instruction, argument, _) in enumerate(instructions):
        if number > allowed:
            raise ExcessError(f"it makes more than {allowed} objects of {size} bytes")
        machine.step(instruction, argument)


class _Machine:
    """Follows the stack of the unpickler with the extents of the values alone; None is a mark."""

    def __init__(self) -> None:
        self.stack: list[_Extent | None] = []
        self.memo: dict[int, _Extent] = {}
        self.steps = 0

    def step(self, instruction: pickletools.OpcodeInfo, argument: object) -> None:
        self.steps += 1
        name = instruction.name
        if name in REFUSED:
            raise ExcessError(f"it needs objects from outside the file ({name})")
        if name == "MARK":
            self.stack.append(None)
        elif name in _STORING and isinstance(argument, int):
            self._store(argument)
        elif name == "MEMOIZE":
            self._store(len(self.memo))
        elif name in _READING and isinstance(argument, int):
            self.stack.append(self.memo.get(argument, _LEAF))
        elif name == "DUP":
            self.stack.append(self._top())
        else:
            self._build(name, self._taken(instruction.stack_before), len(instruction.stack_after))

    def _store(self, place: int) -> None:
        # The unpickler makes its memo twice as long as the highest place.
        if place > self.steps:
            raise ExcessError(f"it stores a value at place {place} of {self.steps} in use")
        self.memo[place] = self._top()

    def _top(self) -> _Extent:
        if not self.stack or self.stack[-1] is None:
            raise ValueError("it uses a value that is not there")
        return self.stack[-1]

    def _taken(self, before: Sequence[pickletools.StackObject]) -> list[_Extent]:
        """Remove what an instruction takes from the stack, all above the last mark among it."""
        values: list[_Extent] = []
        kinds = list(before)
        if pickletools.markobject in kinds:
            while self.stack and self.stack[-1] is not None:
                values.append(self._top())
                self.stack.pop()
            if not self.stack:
                raise ValueError("it ends a container that never began")
            self.stack.pop()
            kinds = kinds[: kinds.index(pickletools.markobject)]
        for _ in kinds:
            values.append(self._top())
            self.stack.pop()
        return values[::-1]

    def _build(self, name: str, parts: list[_Extent], results: int) -> None:
        if not results:
            return
        if not parts:
            self.stack.append(_LEAF)
            return
        deepest = max(part.depth for part in parts)
        if name in _FILLING:
            depth = max([parts[0].depth, *(part.depth + 1 for part in parts[1:])])
        else:
            depth = deepest + 1
        objects = 1 + sum(part.objects for part in parts)
        if depth > DEPTH:
            raise ExcessError(f"its containers are nested more than {DEPTH} deep")
        if objects > SHARING * (self.steps + SHARING):
            raise ExcessError("its containers hold each other again and again")
        self.stack.append(_Extent(depth, objects))
