"""Pickle files read without running anything that they name: a weights file could name any code.

Every object but the plain containers, numbers and strings becomes a :class:`Stand`, which keeps what
the pickle would have called it with. NumPy arrays are then put together from it on request.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import IO, Any, Self

import numpy as np

# Truth values, numbers, text. Of object arrays NumPy would take addresses from the file.
PLAIN_KINDS = frozenset("biufU")
# What Python's unpickler raises on a file that is truncated or no pickle.
UNREADABLE = (
    pickle.UnpicklingError,
    AttributeError,
    EOFError,
    IndexError,
    KeyError,
    OverflowError,
    TypeError,
    ValueError,
)


class Stand:
    """Stands for an object of a pickle; nothing is called to make it."""

    name = ""
    """``module.name`` that the pickle called."""
    arguments: tuple[Any, ...] = ()
    state: Any = None

    def __new__(cls, *arguments: Any) -> Self:
        """Keep the arguments."""
        stand = super().__new__(cls)
        stand.arguments = arguments
        return stand

    def __call__(self, *_: Any) -> Stand:
        """Stand for what a named function would return, too."""
        return Stand()

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        """Take what would be an entry of some mapping."""

    def append(self, value: Any) -> None:
        """Take what would be an entry of some list."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a NumPy array; AttributeError for anything else, so that ``hasattr`` tells arrays."""
        return _array_parts(self)[0]


class InertUnpickler(pickle.Unpickler):
    """Reads a pickle of Python 2 or 3, a :class:`Stand` for each object that it names."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file, encoding="latin1")
        self._stands: dict[str, type[Stand]] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Return a stand-in, or a plain dict for the one container that checkpoints use."""
        if (module, name) == ("collections", "OrderedDict"):
            return dict
        full = f"{module}.{name}"
        if full not in self._stands:
            self._stands[full] = type("Stand", (Stand,), {"name": full})
        return self._stands[full]


def as_array(value: Any) -> np.ndarray:
    """Return the NumPy array or scalar (an array without axes) that a :class:`Stand` stands for.

    Raises:
        ValueError: it is none, or not one of plain numbers or text.
    """
    try:
        if isinstance(value, Stand) and value.name.endswith(".multiarray.scalar"):
            code, data = value.arguments
            return np.frombuffer(_raw(data), _dtype(code))[0]
        shape, code, order, data = _array_parts(value)
        return np.frombuffer(_raw(data), _dtype(code)).reshape(shape, order=order)
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise ValueError(f"no NumPy array of plain numbers: {error}") from error


def _array_parts(value: Any) -> tuple[tuple[int, ...], Any, Any, Any]:
    """Return shape, dtype, order of the axes and data as they lie in the pickle."""
    name = getattr(value, "name", type(value).__name__)
    if name.endswith("._reconstruct") and isinstance(value.state, tuple):
        _, shape, dtype, is_fortran, data = value.state
        return shape, dtype, "F" if is_fortran else "C", data
    if name.endswith("._frombuffer"):  # protocol 5
        data, dtype, shape, order = value.arguments
        return shape, dtype, order, data
    raise AttributeError(f"{name or 'an object'} is no NumPy array")


def _dtype(stand: Any) -> np.dtype:
    # NumPy's codes hold the size; "f4", "U5".
    dtype = np.dtype(str(stand.arguments[0]))
    if dtype.kind not in PLAIN_KINDS:
        raise ValueError(f"refused NumPy type {dtype}")
    return dtype.newbyteorder(stand.state[1])


def _raw(data: Any) -> bytes | bytearray:
    if isinstance(data, Stand) and data.name == "_codecs.encode":  # bytes before protocol 3
        data = data.arguments[0]
    return data.encode("latin1") if isinstance(data, str) else data


def plain(value: Any) -> Any:
    """Return ``value`` with a NumPy scalar as Python's own.

    Raises:
        ValueError: it is some other object.
    """
    if not isinstance(value, Stand):
        return value
    if value.name.endswith(".multiarray.scalar"):
        return as_array(value).item()
    raise ValueError(f"no plain value, but {value.name or 'an object'}")


def entries(file: IO[bytes]) -> Mapping[Any, Any]:
    """Return a pickled mapping.

    Raises:
        ValueError: the file is truncated, no pickle, or holds no mapping.
    """
    try:
        content = InertUnpickler(file).load()
        if not isinstance(content, dict):
            raise TypeError(f"it holds a {type(content).__name__}, no dict")
    except UNREADABLE as error:
        raise ValueError(str(error).split("\n", 1)[0] or type(error).__name__) from error
    return content
