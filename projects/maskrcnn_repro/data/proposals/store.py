"""Store of proposals: a folder of memory-mapped arrays, shared by any number of processes.

``<name>.proposals/`` has P proposals of N images, sorted by descending logit within each image:

- ``boxes.npy`` (P, 4) float32: x1, y1, x2, y2 in pixels of the original image;
- ``logits.npy`` (P,) float32: objectness before the sigmoid;
- ``offsets.npy`` (N + 1,) int64: image i has the rows from ``offsets[i]`` up to ``offsets[i + 1]``;
- ``image_ids.json``: list of N image ids, integers or strings;
- ``store.json``: sizes and checksums of these files, and the origin of the proposals.

For the 118,000 images of COCO with 2,000 boxes each that is 4.7 GB. A process reads only the pages that it
needs, and all processes of a machine share one copy of them.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from maskrcnn_repro.errors import DataError

import numpy as np

SUFFIX = ".proposals"
FORMAT = "maskrcnn-repro proposals"
VERSION = 1
INDEX = "store.json"
IDS = "image_ids.json"
ARRAYS = {"boxes.npy": "<f4", "logits.npy": "<f4", "offsets.npy": "<i8"}
NPY_HEADER = 128
"""Size of the header of an ``.npy`` file in bytes; NumPy pads it so that the array can grow."""
BLOCK = 1 << 24
"""Bytes that are read at once."""


class ProposalStore:
    """Read access to the proposals of a data set; item i has those of the image in row i.

    Args:
        path: the folder.

    Raises:
        DataError: the folder is no store, has another format version, or a file has the wrong size.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).absolute()
        self.index = _read_index(self.path)
        for name in (*ARRAYS, IDS):
            self._check_size(name)
        images, proposals = self.index["images"], self.index["proposals"]
        self.boxes = self._map("boxes.npy", (proposals, 4))
        self.logits = self._map("logits.npy", (proposals,))
        self.offsets = self._map("offsets.npy", (images + 1,))
        steps = np.diff(self.offsets)
        if self.offsets[0] != 0 or self.offsets[-1] != proposals or (steps < 0).any():
            raise self._altered("offsets.npy", "its offsets do not fit the proposals")

    def __reduce__(self) -> tuple[type[ProposalStore], tuple[Path]]:
        # Pickled as its path: a data-loader worker opens the files itself.
        return ProposalStore, (self.path,)

    def __len__(self) -> int:
        return int(self.index["images"])

    def __getitem__(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """Return copies of the boxes (P, 4) and logits (P,) of the image in a row, highest logit first."""
        begin, end = self.offsets[row : row + 2]
        return np.array(self.boxes[begin:end]), np.array(self.logits[begin:end])

    @property
    def dataset(self) -> str | None:
        """Name of the data set of the images; None if unknown (imported)."""
        return self.index["dataset"]

    def image_ids(self) -> list[int | str]:
        """Return the image ids in the order of the rows.

        Raises:
            DataError: the file of ids has been changed.
        """
        self._check_sum(IDS)
        try:
            ids: Any = json.loads((self.path / IDS).read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise self._altered(IDS, f"it is no list of ids: {error!r:.80}") from error
        if (
            not isinstance(ids, list)
            or len(ids) != len(self)
            or not all(isinstance(i, int | str) for i in ids)
        ):
            raise self._altered(IDS, f"it is no list of {len(self)} ids")
        return ids

    def rows(self, image_ids: Sequence[int | str]) -> list[int | None]:
        """Return the row of each image, or None if the store lacks it; ids are compared as text."""
        rows = {str(image_id): row for row, image_id in enumerate(self.image_ids())}
        return [rows.get(str(image_id)) for image_id in image_ids]

    def verify(self) -> None:
        """Check the checksums of all files (2 GB per second from memory).

        Raises:
            DataError: a file has been changed.
        """
        for name in (*ARRAYS, IDS):
            self._check_sum(name)

    def _check_size(self, name: str) -> None:
        file, expected = self.path / name, self.index["files"][name]["bytes"]
        size = file.stat().st_size if file.is_file() else None
        if size != expected:
            problem = "is missing" if size is None else f"has {size} bytes instead of {expected}"
            raise DataError(
                f"Proposals {file}: the file {problem}; write the store again with `maskrcnn proposals`."
            )

    def _check_sum(self, name: str) -> None:
        if checksum(self.path / name) != self.index["files"][name]["crc32"]:
            raise self._altered(name, "its checksum differs")

    def _map(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        file = self.path / name
        try:
            # A plain array: slicing an np.memmap is slow.
            array = np.lib.format.open_memmap(file, mode="r").view(np.ndarray)
        # Of a damaged header NumPy raises TypeError, TokenError, OverflowError and others, too.
        except Exception as error:
            raise self._altered(name, str(error).split("\n", 1)[0]) from error
        if array.shape != shape or array.dtype != np.dtype(ARRAYS[name]):
            raise self._altered(name, f"it holds {array.dtype} {array.shape}, not {shape}")
        return array

    def _altered(self, name: str, reason: str) -> DataError:
        return DataError(
            f"Proposals {self.path / name}: the file was altered ({reason}); write the store again "
            "with `maskrcnn proposals`."
        )


def _read_index(path: Path) -> Mapping[str, Any]:
    file = path / INDEX
    if not file.is_file():
        raise DataError(
            f"{str(path)!r} is no store of proposals: "
            + ("it has no " + INDEX if path.is_dir() else "there is no such folder")
            + "; `maskrcnn proposals` writes stores."
        )
    try:
        index = json.loads(file.read_text(encoding="utf-8"))
        kind, version = index["format"], index["version"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{str(file)!r} is no index of a store of proposals: {error!r}.") from error
    if (kind, version) != (FORMAT, VERSION):
        raise DataError(
            f"{str(file)!r} says format {kind!r} {version}, but this is read: {FORMAT!r} {VERSION}."
        )
    counts = [index.get(name) for name in ("images", "proposals")]
    files = index.get("files")
    sizes = [(files.get(name) if isinstance(files, dict) else None) for name in (*ARRAYS, IDS)]
    if not (
        all(type(count) is int and count >= 0 for count in counts)
        and all(isinstance(size, dict) and {"bytes", "crc32"} <= size.keys() for size in sizes)
        and {"dataset", "images_sha256", "origin"} <= index.keys()
    ):
        raise DataError(
            f"{str(file)!r} lacks counts, sizes or checksums; write the store again with `maskrcnn proposals`."
        )
    return index


def checksum(file: Path) -> int:
    """Return the CRC-32 of a file, without the header of an ``.npy`` file."""
    # The writer computes it while the array grows, before the header is known.
    total = 0
    with file.open("rb") as stream:
        stream.seek(NPY_HEADER if file.suffix == ".npy" else 0)
        while block := stream.read(BLOCK):
            total = zlib.crc32(block, total)
    return total


def digest_of(records: Iterable[Mapping[str, Any]]) -> str:
    """Return the SHA-256 of the ids and sizes of images, independent of their order.

    Args:
        records: dataset dicts with ``image_id``, ``height`` and ``width`` (pixels).
    """
    lines = sorted(f"{r['image_id']} {r['height']} {r['width']}\n" for r in records)
    return hashlib.sha256("".join(lines).encode()).hexdigest()
