"""What ``torch.save`` wrote, looked into before PyTorch loads it: every tensor has its own numbers in the file.

PyTorch's ``weights_only`` keeps a file from running code, not from claiming memory: compressed archives,
storages of a claimed size, tensors of stride 0, sparse ones.
"""

from __future__ import annotations

import io
import math
import mmap
import pickle
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Self

from maskrcnn_repro.utils.pickle_scan import ExcessError, check_pickle
from maskrcnn_repro.utils.pickles import InertUnpickler, Stand

LIMIT = 1 << 24
"""Bytes that the part of a file may have that describes the tensors; that of a ResNet-152 has 200,000."""
MAGIC = 0x1950A86A20F9469CFC6C
"""What files of PyTorch before 1.6 begin with, pickled."""
SIZES = {
    "DoubleStorage": 8,
    "FloatStorage": 4,
    "HalfStorage": 2,
    "BFloat16Storage": 2,
    "LongStorage": 8,
    "IntStorage": 4,
    "ShortStorage": 2,
    "CharStorage": 1,
    "ByteStorage": 1,
    "BoolStorage": 1,
}
"""Kinds of storages of real numbers, and the bytes of a number."""
KINDS = {
    "_rebuild_sparse_tensor": "a sparse tensor",
    "_rebuild_qtensor": "a quantized tensor",
    "_rebuild_meta_tensor_no_storage": "a tensor without numbers",
    "_rebuild_nested_tensor": "a nested tensor",
    "ComplexFloatStorage": "a complex tensor",
    "ComplexDoubleStorage": "a complex tensor",
}
"""Names in a file, and what they make that is no weight of a model."""
PLAIN = frozenset(
    {
        "collections.OrderedDict",
        "collections.Counter",
        "_codecs.encode",
        "torch.Size",
        "torch.device",
        "torch.float32",
        "torch.float16",
        "torch.bfloat16",
        "torch.float64",
        "torch.int64",
        "torch.uint8",
    }
)
"""What the state of a training holds beside tensors; PyTorch decides which of it is loaded."""


@dataclass
class _Storage:
    numbers: int
    width: int
    views: set[tuple[Any, ...]] = field(default_factory=set)
    """Offset, shape and strides of its tensors."""
    viewed: int = 0
    """Numbers of these tensors together."""

    def add(self, begin: int, shape: tuple[int, ...], steps: tuple[int, ...]) -> None:
        """Check a tensor that lies in the storage."""
        if len(shape) != len(steps):
            raise ExcessError(f"a tensor has {len(shape)} dimensions and {len(steps)} strides")
        count, reach = math.prod(shape), 1
        for step, length in sorted((s, n) for s, n in zip(steps, shape, strict=True) if n > 1):
            if count and step < reach:
                raise ExcessError(
                    f"a tensor of shape {shape} is expanded: it uses the same numbers again and again"
                )
            reach += step * (length - 1)
        if count and begin + reach > self.numbers:
            raise ExcessError(
                f"a tensor of shape {shape} reaches beyond its storage of {self.numbers} numbers"
            )
        if (view := (begin, shape, steps)) not in self.views:
            self.views.add(view)
            self.viewed += count
        if self.viewed > self.numbers:
            raise ExcessError("several tensors overlap in one storage")


class TensorStand(Stand):
    """Stand-in for a tensor: its shape alone, after a look at its storage."""

    size: tuple[int, ...] = ()

    def __new__(cls, storage: _Storage, offset: int, size: Any, stride: Any, *_: Any) -> Self:
        """Check that the tensor's numbers are all in the storage, each its own."""
        stand = super().__new__(cls)
        (begin,), stand.size, steps = _numbers((offset,)), _numbers(size), _numbers(stride)
        storage.add(begin, stand.size, steps)
        return stand

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor."""
        return self.size


class _Parameter(Stand):
    """Gives the stand-in for the tensor that a parameter is."""

    def __new__(cls, tensor: Any, *_: Any) -> Any:
        return tensor


class _TensorUnpickler(InertUnpickler):
    """Unpickler that returns a :class:`TensorStand` for each tensor, after a look at its storage.

    Args:
        file: the pickle.
        sizes: bytes of each storage by key; None if they are only claimed here and follow the pickle.
    """

    def __init__(self, file: IO[bytes], sizes: Mapping[str, int] | None) -> None:
        super().__init__(file)
        self.sizes = sizes
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a name of the file."""
        full = f"{module}.{name}"
        if full in ("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2"):
            return TensorStand
        if full == "torch._utils._rebuild_parameter":
            return _Parameter
        if full in PLAIN or (module == "torch" and name in SIZES):
            return super().find_class(module, name)
        if module.startswith("ultralytics."):
            raise ExcessError(
                "it is a YOLO model of ultralytics, as code, which no config here has"
            )
        raise ExcessError(
            f"it holds {KINDS.get(name, full)}, which is no plain weight; save a model's state_dict() alone"
        )

    def persistent_load(self, pid: Any) -> _Storage:
        """Return the storage that the file refers to."""
        if len(pid) not in (5, 6) or pid[0] != "storage" or (len(pid) == 6 and pid[5] is not None):
            raise ExcessError("it refers to something that is no storage of numbers")
        _, kind, key, _, numbers = pid[:5]
        storage = _Storage(int(numbers), SIZES[kind.name.removeprefix("torch.")])
        earlier = self.storages.setdefault(str(key), storage)
        if (earlier.numbers, earlier.width) != (storage.numbers, storage.width):
            raise ExcessError(f"it gives storage {key!s:.20} two sizes")
        size = storage.numbers * storage.width
        if self.sizes is not None and self.sizes.get(str(key)) != size:
            raise ExcessError(
                f"its storage {key!s:.20} has {self.sizes.get(str(key), 'no')} bytes, not {size}"
            )
        return earlier


def _numbers(values: Any) -> tuple[int, ...]:
    numbers = tuple(values.arguments[0] if isinstance(values, Stand) else values)
    if not all(type(number) is int and 0 <= number < 1 << 62 for number in numbers):
        raise ExcessError("a shape, stride or offset is no natural number")
    return numbers


def outline(path: Path) -> Any:
    """Return what a file holds, stand-ins with shapes in place of its tensors.

    Args:
        path: a regular file.

    Raises:
        ExcessError: its tensors are not plainly there, or it names code.
        ValueError: it is truncated, or no file of ``torch.save``.
        pickle.UnpicklingError: the same.
        zipfile.BadZipFile: the same.
    """
    with path.open("rb") as file:
        start = file.read(4)
        file.seek(0)
        if not start:
            raise ValueError("it is empty")
        if start == b"PK\3\4":
            return _outline_of_archive(file)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _outline_of_stream(content)


def _outline_of_archive(file: IO[bytes]) -> Any:
    size = file.seek(0, io.SEEK_END)
    _check_directory(file, size)
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        _check_members(members)
        root = members[0].filename.split("/", 1)[0]
        if f"{root}/data.pkl" not in archive.namelist():
            raise ValueError("it is an archive, but none of torch.save")
        description = archive.getinfo(f"{root}/data.pkl")
        if description.file_size > LIMIT:
            raise ExcessError(f"its description of the tensors has {description.file_size} bytes")
        data = archive.read(description)
        prefix = f"{root}/data/"
        sizes = {
            member.filename.removeprefix(prefix): member.file_size
            for member in members
            if member.filename.startswith(prefix)
        }
    check_pickle(io.BytesIO(data), len(data))
    return _TensorUnpickler(io.BytesIO(data), sizes).load()


def _check_directory(file: IO[bytes], size: int) -> None:
    """Check the size of a ZIP archive's list of members, of which Python builds ten times as many bytes."""
    # A ZIP archive without a comment ends with a record of 22 bytes; before it lies, if it is ZIP64, a locator of 20.
    file.seek(max(size - 42, 0))
    end = file.read(42)[-42:].rjust(42)
    if end[20:24] != b"PK\5\6":
        raise ValueError("the end of the archive is missing")
    (listing,) = struct.unpack_from("<L", end, 20 + 12)
    if end[:4] == b"PK\6\7":
        (record,) = struct.unpack_from("<Q", end, 8)
        file.seek(min(record, size))
        head = file.read(56)
        if len(head) < 56:
            raise ValueError("the end of the archive is damaged")
        (listing,) = struct.unpack_from("<Q", head, 40)
    if listing > LIMIT:
        raise ExcessError(f"the archive's list of members has {listing} bytes")


def _check_members(members: list[zipfile.ZipInfo]) -> None:
    """Check that the members of an archive are stored as they are, each once and at its own place."""
    if not members:
        raise ValueError("the archive is empty")
    if any(m.filename.endswith("/constants.pkl") for m in members):
        raise ExcessError("it is a program of TorchScript; save the model's state_dict() instead")
    packed = next((m for m in members if m.compress_type != zipfile.ZIP_STORED), None)
    if packed or any(m.file_size != m.compress_size or m.flag_bits & 1 for m in members):
        raise ExcessError("the archive is compressed or encrypted, and torch.save does neither")
    if len({m.filename.lower() for m in members}) < len(members):
        raise ExcessError("the archive has two members of one name")
    end = 0
    for member in sorted(members, key=lambda m: m.header_offset):
        if member.header_offset < end:
            raise ExcessError("the archive's members overlap")
        # 30 bytes is a member's own header at least: its name and padding follow.
        end = member.header_offset + 30 + member.file_size


def _outline_of_stream(content: mmap.mmap) -> Any:
    """Return the outline of a file of PyTorch before 1.6: five pickles, then the storages."""
    try:
        magic = _open_part(content, None).load()
    except (pickle.UnpicklingError, ValueError, TypeError, AttributeError, KeyError, IndexError):
        magic = None
    if magic != MAGIC:
        raise ValueError("it is no file of torch.save")
    for _ in range(2):  # version of the format, sizes of C's types
        _open_part(content, None).load()
    tensors = _open_part(content, None)
    result = tensors.load()
    keys = _open_part(content, None).load()
    storages = tensors.storages
    if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(storages):
        raise ValueError("its list of storages is damaged")
    # Each storage begins with its count of numbers, in 8 bytes.
    needed = sum(8 + storage.numbers * storage.width for storage in storages.values())
    if needed > len(content) - content.tell():
        raise ExcessError(
            f"its tensors need {needed} bytes, and {len(content) - content.tell()} are there"
        )
    return result


def _open_part(content: mmap.mmap, sizes: Mapping[str, int] | None) -> _TensorUnpickler:
    """Return an unpickler for the next pickle of a file, of which only that part is read."""
    begin = content.tell()
    check_pickle(content, min(len(content), LIMIT))
    if content.tell() - begin > LIMIT:
        raise ExcessError(f"its description of the tensors has {content.tell() - begin} bytes")
    return _TensorUnpickler(io.BytesIO(content[begin : content.tell()]), sizes)
