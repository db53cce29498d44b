"""Files of weights of every kind, read so that they run no code and take no more memory than their tensors.

``.pkl`` is a file of a model zoo, ``.safetensors`` has the model's names, ``.pyth`` is pycls's; everything else is
what ``torch.save`` wrote.
"""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from maskrcnn_repro._location import PACKAGE
from maskrcnn_repro.checkpoint import torch_file
from maskrcnn_repro.errors import CheckpointError
from maskrcnn_repro.utils.files import local_copy, other_than_file
from maskrcnn_repro.utils.pickle_scan import ExcessError
from maskrcnn_repro.utils.pickles import Allowance, Stand, as_array, entries, plain

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

T = TypeVar("T")
SHIPPED = PACKAGE / "models"
"""Folder of the models that come with the package, ``NAME.safetensors`` each."""
Shapes = Mapping[str, tuple[int, ...]]
UNREADABLE = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    struct.error,
    zipfile.BadZipFile,
    SafetensorError,
)
"""What reading a truncated or malformed file, or one of another kind, raises."""
WRAPPERS = ("model", "state_dict", "model_state")
"""Under which names Detectron2, MMDetection and pycls keep the tensors."""
REAL = frozenset({"F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL"})
"""Safetensors' names of the types that weights have."""
ARRAYS = frozenset({"f8", "f4", "f2", "i8", "i4", "i2", "i1", "u1", "b1"})
"""The same, of NumPy's that PyTorch takes."""
STARTS = {
    b"version https://git-lfs": "it is a pointer to the file, which `git lfs pull` fetches",
    b"<": "it is a web page, so its download failed",
    b"\x93NUMPY": "it is an array of NumPy",
    b"\x1f\x8b": "it is compressed; unpack it first",
    b"BZh": "it is compressed; unpack it first",
    b"7z": "it is compressed; unpack it first",
    b"\x89PNG": "it is a picture",
    b"\xff\xd8": "it is a picture",
}
"""Beginnings of files that are no weights, and what they are."""


class Shaped(NamedTuple):
    """Stand-in for a tensor."""

    shape: tuple[int, ...]


def shipped_models() -> dict[str, Path]:
    """Return the models that come with the package, by name."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.safetensors"))}


def local_file(path: str) -> Path:
    """Return the local copy of a file given by path, by URL or by the name of a model that comes with the package.

    Raises:
        CheckpointError: there is none, or it is a folder, a pipe or a device.
    """
    if "/" not in path and not Path(path).exists() and path in (shipped := shipped_models()):
        return shipped[path]
    return local_copy(path.partition("?")[0], f"Weights {path!r}", CheckpointError)


def matches_by_ending(path: str) -> bool:
    """Tell whether an address asks to match names by their ends: ``FILE?matching_heuristics=True``.

    Raises:
        CheckpointError: it asks for anything else.
    """
    query = path.partition("?")[2]
    if query in ("", "matching_heuristics=True"):
        return bool(query)
    raise CheckpointError(
        f"Weights {path!r} end in ?{query}; only ?matching_heuristics=True is understood."
    )


def read_outline(path: Path) -> dict[str, Any]:
    """Return what a file holds, with stand-ins that have a ``shape`` in place of its tensors.

    Raises:
        CheckpointError: the file is truncated, no weights, or would take more memory than it has bytes.
    """
    with _readable(path):
        if path.suffix == ".safetensors":
            return {"model": _outline_of_safetensors(path)}
        if path.suffix == ".pkl":
            with path.open("rb") as file:
                return dict(entries(file))
        content = torch_file.outline(path)
        if not isinstance(content, dict):
            kind = content.name if isinstance(content, Stand) else type(content).__name__
            kind = kind or "tensor"
            raise ExcessError(f"it holds a {kind}, no dict of tensors by name")
        return content


def read_metadata(path: Path) -> dict[str, str]:
    """Return the texts by name in the head of a ``.safetensors`` file; empty if it has none.

    Raises:
        CheckpointError: see :func:`read_outline`.
    """
    read_outline(path)
    with _readable(path), safe_open(path, framework="pt") as file:
        return dict(file.metadata() or {})


def read_shapes(path: Path) -> Shapes:
    """Return the shapes of a file's tensors by the names in it, without reading the tensors.

    Raises:
        CheckpointError: see :func:`read_outline`.
    """
    state = state_of(read_outline(path))
    # DistributedDataParallel's prefix, without which Detectron2's checkpointer loads them.
    prefix = "module." if state and all(str(n).startswith("module.") for n in state) else ""
    return {
        str(name).removeprefix(prefix): tuple(value.shape)
        for name, value in state.items()
        if hasattr(value, "shape") and not isinstance(value, type)  # a class that a pickle names
    }


def state_of(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the tensors by name of what a file holds, under whichever key its library keeps them."""
    states = (content.get(key) for key in WRAPPERS)
    return next((state for state in states if isinstance(state, dict)), content)


def read_content(path: Path) -> dict[str, Any]:
    """Return what a checkpoint (``.pth``, ``.safetensors``) holds, its tensors on the CPU.

    Raises:
        CheckpointError: see :func:`read_outline`; or it is a ``.pkl``.
    """
    if path.suffix == ".pkl":
        raise CheckpointError(
            f"{path} is a file of a model zoo, which MODEL.WEIGHTS takes as it is; this needs a .pth or "
            ".safetensors file."
        )
    read_outline(path)
    with _readable(path):
        if path.suffix == ".safetensors":
            return {"model": load_file(path)}
        # After the outline: weights_only refuses code, but not a claim of memory.
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        return content


def read_weights(path: Path, *, by_endings: bool = False) -> dict[str, Any]:
    """Return what a file holds as Detectron2's checkpointer takes it.

    Args:
        path: a regular file.
        by_endings: match the tensors' names by their ends, as ``?matching_heuristics=True`` asks for.

    Returns:
        ``model``, tensors or arrays by name, and beside it what else the file holds.

    Raises:
        CheckpointError: see :func:`read_outline`; or it holds something else than tensors by name.
    """
    if path.suffix == ".pkl":
        return read_pickle(path)
    content = read_content(path)
    if path.suffix == ".pyth":
        state = _get_part(content, "model_state", path)
        # Detectron2's frozen batch norm has no such counter.
        state = {n: t for n, t in state.items() if not n.endswith("num_batches_tracked")}
        return {"model": state, "__author__": "pycls", "matching_heuristics": True}
    if "model" not in content:
        content = {"model": state_of(content)}
    content["model"] = _get_part(content, "model", path)
    return content | ({"matching_heuristics": True} if by_endings else {})


def read_pickle(path: Path) -> dict[str, Any]:
    """Read a ``.pkl`` of Detectron2's model zoo or of Caffe2 Detectron, running nothing that it names.

    Returns:
        ``model``, arrays by name, and beside it what tells Detectron2 how to match the names.

    Raises:
        CheckpointError: the file holds weights that are no arrays of numbers, or is no pickle of a dict.
    """
    with _readable(path):
        with path.open("rb") as file:
            content = dict(entries(file))
        allowance = Allowance(path.stat().st_size)

        def native(value: Any) -> np.ndarray:
            return _to_native(allowance.spend(as_array(value)))

        if content.keys() >= {"model", "__author__"}:
            weights = _convert_each(native, content.pop("model"))
            return {**_convert_each(plain, content), "model": weights}
        # Detectron's detectors have "blobs", its backbones have the weights alone.
        weights = _convert_each(native, content.get("blobs", content))
    # Detectron keeps the optimiser's momentum beside each weight.
    arrays = {name: array for name, array in weights.items() if not name.endswith("_momentum")}
    return {"model": arrays, "__author__": "Caffe2", "matching_heuristics": True}


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn what reading a bad file raises into one sentence; a pipe, which may be waited for, is refused."""
    if kind := other_than_file(path):
        raise CheckpointError(f"{path} cannot be read as a checkpoint: it is {kind}.")
    try:
        yield
    except CheckpointError:
        raise
    except UNREADABLE as error:
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint: {_reason(path, error)}."
        ) from error


def _reason(path: Path, error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    with path.open("rb") as file:
        start = file.read(32).lstrip()
    told = next((what for begin, what in STARTS.items() if start.startswith(begin)), "")
    if told:
        return told
    if path.suffix in (".pkl", ".safetensors") and zipfile.is_zipfile(path):
        return "it is a file of torch.save; let its name end in .pth"
    if isinstance(error, ExcessError):
        return str(error)
    # PyTorch explains itself over many lines.
    reason = str(error).split("\n", 1)[0].split(". ", 1)[0].rstrip(".")[:200]
    return f"{reason or type(error).__name__} (perhaps it is truncated; take another one)"


def _outline_of_safetensors(path: Path) -> dict[str, Shaped]:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
    if length > torch_file.LIMIT:
        raise ExcessError(
            f"its description of the tensors is said to have {length} bytes, so it is damaged or no .safetensors file"
        )
    tensors = {}
    with safe_open(path, framework="pt") as file:
        for name in file.offset_keys():
            tensor = file.get_slice(name)
            if tensor.get_dtype() not in REAL:
                raise ExcessError(f"{name!r} is of type {tensor.get_dtype()}, not of real numbers")
            tensors[name] = Shaped(tuple(tensor.get_shape()))
    return tensors


def _get_part(content: Mapping[str, Any], key: str, path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors by name under a key."""
    state = content.get(key)
    if not isinstance(state, dict):
        raise CheckpointError(
            f"{path} holds no tensors by name under {key!r}, but {_kind(state)}; it has "
            f"{', '.join(str(name) for name in list(content)[:5])}."
        )
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise CheckpointError(
                f"{path} holds {_kind(value)} under {str(name)[:80]!r}, not a tensor under a name."
            )
    return dict(state)


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"


def _to_native(array: np.ndarray) -> np.ndarray:
    """Return an array as PyTorch takes it: in the machine's byte order, and its own to write to."""
    if array.dtype.str[1:] not in ARRAYS:
        raise ValueError(f"an array of {array.dtype}, not of real numbers")
    return array.astype(array.dtype.newbyteorder("="))


def _convert_each(convert: Callable[[Any], T], content: Any) -> dict[str, T]:
    if not isinstance(content, dict):
        raise TypeError(f"its weights are {_kind(content)}, no dict of arrays by name")
    converted = {}
    for name, value in content.items():
        if not isinstance(name, str):
            raise TypeError(f"{name!r} is no name of a tensor")
        try:
            converted[name] = convert(value)
        except ValueError as error:
            raise ExcessError(
                f"{name[:80]!r} is {error}; a pickle can run any code, so nothing else is read"
            ) from error
    return converted
