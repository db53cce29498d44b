"""Reading pickle files without running code from them.

A pickle may name any function and have it called. The files of the model zoos need NumPy arrays and
plain containers only, so nothing else is let through. NumPy's own constructors are not let through
either: given object types, they take addresses from the file. What stands in for them here knows
plain numbers and strings.
"""

import builtins
import pickle
from collections import OrderedDict
from typing import IO, Any

import numpy as np


class _DType:
    """Stands for a ``numpy.dtype`` while its state is read, of which the byte order counts."""

    def __init__(self, code: str, align: bool = False, copy: bool = False):
        self.value = np.dtype(str(code))
        if self.value.kind not in "biufcSU":  # numbers, truth values, strings
            raise pickle.UnpicklingError(f"refused to load an array of NumPy type {self.value}")

    def __setstate__(self, state: tuple) -> None:
        self.value = self.value.newbyteorder(state[1])


class _Array(np.ndarray):
    def __setstate__(self, state: tuple) -> None:
        *version, shape, dtype, is_fortran, data = state
        super().__setstate__((*version, shape, dtype.value, is_fortran, data))


def _new_array(array_type: str, shape: tuple[int, ...], code: str | bytes) -> _Array:
    return _Array(0, "b")  # shape, type and values follow in the state


def _from_buffer(buffer: bytes, dtype: _DType, shape: tuple[int, ...], order: str) -> np.ndarray:
    return np.frombuffer(buffer, dtype.value).reshape(shape, order=order).copy(order)


def _scalar(dtype: _DType, data: bytes | str) -> np.generic:
    if isinstance(data, str):
        data = data.encode("latin1")
    return np.frombuffer(data, dtype.value)[0]


def _encode(text: str, encoding: str) -> bytes:
    # How protocols 0-2 write bytes: `_codecs.encode(text, "latin1")`. Others decompress or import.
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"refused to encode by the codec {encoding!r}")
    return text.encode("latin1")


def _of_text(kind: type[bytes] | type[bytearray]) -> Any:
    def make(content: bytes | bytearray | str = b"", encoding: str = "latin1") -> Any:
        # Of a number they would make as many zeros. Protocol 2 writes "latin-1".
        if isinstance(content, str):
            content = _encode(content, str(encoding).replace("-", ""))
        if not isinstance(content, bytes | bytearray):
            raise pickle.UnpicklingError(f"refused to make {kind.__name__} of {type(content)}")
        return kind(content)

    return make


# Not `range`, of which `list` makes as many numbers as it says.
_BUILTINS = "bool complex dict float frozenset int list set slice str tuple"
_ALLOWED: dict[tuple[str, str], Any] = {
    (module, name): getattr(builtins, name)
    for module in ("builtins", "__builtin__")  # Python 3 and 2
    for name in _BUILTINS.split()
}
_ALLOWED |= {
    (module, kind.__name__): _of_text(kind)
    for module in ("builtins", "__builtin__")
    for kind in (bytes, bytearray)
}
_ALLOWED |= {
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _encode,
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): _DType,
}
for _core in ("numpy.core", "numpy._core"):  # before and since NumPy 2
    _ALLOWED |= {
        (f"{_core}.multiarray", "_reconstruct"): _new_array,
        (f"{_core}.multiarray", "scalar"): _scalar,
        (f"{_core}.numeric", "_frombuffer"): _from_buffer,
    }


class _ArrayUnpickler(pickle.Unpickler):
    more: dict[tuple[str, str], Any]

    def find_class(self, module: str, name: str) -> Any:
        allowed = _ALLOWED | self.more
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(
                f"refused to load {module}.{name}: a checkpoint may hold NumPy arrays and plain "
                "containers only. A pickle can run any code; convert this file where you trust it"
            )
        return allowed[module, name]


def load_arrays(file: IO[bytes], more: dict[tuple[str, str], Any] | None = None) -> Any:
    """Read a pickle of NumPy arrays and plain containers; strings of Python 2 are read as Latin-1.

    Args:
        file: the pickle.
        more: further names that the file may use, by module and name.

    Raises:
        pickle.UnpicklingError: the file names anything else. Nothing of it has been called then.
    """
    unpickler = _ArrayUnpickler(file, encoding="latin1")
    unpickler.more = more or {}
    return unpickler.load()
