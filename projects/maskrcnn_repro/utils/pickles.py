"""Safe reading of pickle files: nothing that they name is imported or called.

Every object except plain containers, numbers and strings becomes a :class:`Stand`, which holds the arguments
of the call that the pickle asked for. :func:`as_array` builds a NumPy array from it. What the file may make
Python build is bounded by its size (:mod:`maskrcnn_repro.utils.pickle_scan`).
"""

from __future__ import annotations

import mmap
import pickle
from collections.abc import Mapping
from typing import IO, Any, Self

from maskrcnn_repro.utils.pickle_scan import ExcessError, check_pickle

import numpy as np

# Truth values, numbers, text. In object arrays NumPy would read memory addresses from the file.
PLAIN_KINDS = frozenset("biufU")
# Raised by Python's unpickler for a file that is truncated or no pickle.
UNREADABLE = (
    pickle.UnpicklingError,
    AttributeError,
    EOFError,
    IndexError,
    KeyError,
    MemoryError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
)


class Stand:
    """Stand-in for an object of a pickle: the name and the arguments of the call that would build it."""

    name = ""
    """``module.name`` of the class or function that the pickle calls."""
    arguments: tuple[Any, ...] = ()
    state: Any = None

    def __new__(cls, *arguments: Any) -> Self:
        """Store the arguments; nothing is called."""
        stand = super().__new__(cls)
        stand.arguments = arguments
        return stand

    def __call__(self, *_: Any) -> Stand:
        """Return a stand-in for the result of calling this one."""
        return Stand()

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        """Ignore an entry: the unpickler fills mappings this way."""

    def append(self, value: Any) -> None:
        """Ignore an entry: the unpickler fills lists this way."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a NumPy array; AttributeError for other objects, so that ``hasattr`` detects arrays."""
        shape = _array_parts(self)[0]
        if not isinstance(shape, tuple) or not all(isinstance(length, int) for length in shape):
            raise AttributeError(f"{shape!r} is no shape")
        return shape


class Ordered(dict[Any, Any]):
    """Stand-in for an OrderedDict, without the attributes that PyTorch gives it."""

    def __setstate__(self, state: Any) -> None:
        """Ignore the attributes."""


class InertUnpickler(pickle.Unpickler):
    """Unpickler for Python 2 and 3 that returns a :class:`Stand` for each class or function it meets."""

    def __init__(self, file: IO[bytes] | mmap.mmap) -> None:
        # Python 2 pickled the bytes of arrays as str: only latin1 decodes every byte.
        super().__init__(file, encoding="latin1")
        self._stands: dict[str, type[Stand]] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Return a stand-in class; that of OrderedDict, the only other container in checkpoints, is a dict."""
        if (module, name) == ("collections", "OrderedDict"):
            return Ordered
        full = f"{module}.{name}"
        if full not in self._stands:
            self._stands[full] = type("Stand", (Stand,), {"name": full})
        return self._stands[full]


class Allowance:
    """Bytes that the arrays of a file may have together: those of the file.

    Arrays of a pickle may share their numbers, so that a copy of each takes many times the file's size.

    Args:
        size: of the file in bytes.
    """

    def __init__(self, size: int) -> None:
        self.left = size

    def spend(self, array: np.ndarray) -> np.ndarray:
        """Return the array.

        Raises:
            ExcessError: the file is too small for this one and those before.
        """
        self.left -= array.nbytes
        if self.left < 0:
            raise ExcessError("one of arrays that have more numbers than the file")
        return array


def as_array(value: Any) -> np.ndarray:
    """Return the NumPy array, or scalar, that a :class:`Stand` represents.

    Raises:
        ValueError: it is no array, or one of other things than numbers or text.
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
    """Return shape, dtype, memory order and data as stored in the pickle."""
    name = getattr(value, "name", type(value).__name__)
    if name.endswith("._reconstruct") and isinstance(value.state, tuple) and len(value.state) == 5:
        _, shape, dtype, is_fortran, data = value.state
        return shape, dtype, "F" if is_fortran else "C", data
    if name.endswith("._frombuffer") and len(value.arguments) == 4:  # protocol 5
        data, dtype, shape, order = value.arguments
        return shape, dtype, order, data
    raise AttributeError(f"{name or 'an object'} is no NumPy array")


def _dtype(stand: Any) -> np.dtype:
    # The first argument is a code with the size, such as "f4" or "U5"; the state holds the byte order.
    dtype = np.dtype(str(stand.arguments[0]))
    if dtype.kind not in PLAIN_KINDS:
        raise ValueError(f"refused NumPy type {dtype}")
    return dtype.newbyteorder(stand.state[1])


def _raw(data: Any) -> bytes | bytearray:
    if isinstance(data, Stand) and data.name == "_codecs.encode":  # bytes before protocol 3
        data = data.arguments[0]
    return data.encode("latin1") if isinstance(data, str) else data


def plain(value: Any) -> Any:
    """Return a plain value as it is, and a NumPy scalar as Python's own number or string.

    Raises:
        ValueError: it is another object.
    """
    if not isinstance(value, Stand):
        return value
    if value.name.endswith(".multiarray.scalar"):
        return as_array(value).item()
    raise ValueError(f"no plain value, but {value.name or 'an object'}")


def entries(file: IO[bytes]) -> Mapping[Any, Any]:
    """Read a pickled dict from a file on disk.

    Raises:
        ValueError: the file is truncated, no pickle, holds something else, or would take much more memory than
            its size.
    """
    try:
        # A mapped file gives what it has, however much the pickle asks for.
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            check_pickle(content, len(content))
            content.seek(0)
            loaded = InertUnpickler(content).load()
        if not isinstance(loaded, dict):
            raise TypeError(f"it holds a {type(loaded).__name__}, no dict")
    except ExcessError:
        raise
    except UNREADABLE as error:
        raise ValueError(str(error).split("\n", 1)[0] or type(error).__name__) from error
    return loaded
