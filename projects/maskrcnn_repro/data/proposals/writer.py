"""Writing of a store of proposals, image by image, with one image in memory at a time.

The folder is written under a hidden name and renamed at the end, so that a killed process leaves nothing
that looks like a store. P = proposals of one image.
"""

from __future__ import annotations

import datetime
import json
import os
import re
import shutil
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from maskrcnn_repro.data.proposals.store import (
    ARRAYS,
    BLOCK,
    FORMAT,
    IDS,
    INDEX,
    NPY_HEADER,
    VERSION,
    checksum,
)
from maskrcnn_repro.errors import DataError, OutputError, UserError
from maskrcnn_repro.utils.files import write_text

import numpy as np
from numpy.lib import format as npy


class StoreWriter:
    """Writes proposals to a temporary folder, which :meth:`finish` turns into a store.

    Args:
        path: of the store.
        part: number of the process in a distributed run: each process writes a folder of its own, and
            the first one appends the others' (:meth:`absorb`).

    Raises:
        OutputError: here and in all methods: a file cannot be written.
    """

    def __init__(self, path: Path, part: int = 0) -> None:
        self.path = path
        self.folder = part_folder(path, part)
        with _naming(path):
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            self._boxes = _GrowingArray(self.folder / "boxes.npy", (4,))
            self._logits = _GrowingArray(self.folder / "logits.npy", ())
        self._ids: list[int | str] = []
        self._offsets = [0]

    def add(self, image_id: int | str, boxes: np.ndarray, logits: np.ndarray) -> None:
        """Append the proposals of an image, sorted by descending logit.

        Args:
            image_id: as in the data set.
            boxes: (P, 4) x1, y1, x2, y2 in pixels of the original image.
            logits: (P,) objectness; boxes with equal logits keep their order.

        Raises:
            DataError: shapes do not fit, or a number is not finite.
        """
        boxes, logits = np.asarray(boxes, "<f4"), np.asarray(logits, "<f4")
        # An empty list has the shape (0,).
        if boxes.size == 0 and logits.size == 0:
            boxes, logits = boxes.reshape(0, 4), logits.reshape(0)
        if boxes.shape != (*logits.shape, 4) or logits.ndim != 1:
            raise DataError(
                f"Proposals of image {image_id!r}: boxes {boxes.shape} and logits {logits.shape}, not "
                "(P, 4) and (P,)."
            )
        if not (np.isfinite(boxes).all() and np.isfinite(logits).all()):
            raise DataError(f"Proposals of image {image_id!r}: a number is infinite or NaN.")
        if (logits[1:] > logits[:-1]).any():
            order = np.argsort(-logits, kind="stable")
            boxes, logits = boxes[order], logits[order]
        with _naming(self.path):
            self._boxes.append(boxes)
            self._logits.append(logits)
        self._ids.append(image_id)
        self._offsets.append(self._offsets[-1] + len(logits))

    def absorb(self, part: int) -> None:
        """Append the proposals that another process has written and closed, and remove its folder."""
        folder = part_folder(self.path, part)
        with _naming(self.path):
            self._boxes.append_file(folder / "boxes.npy")
            self._logits.append_file(folder / "logits.npy")
        self._ids += json.loads((folder / IDS).read_text(encoding="utf-8"))
        offsets = np.load(folder / "offsets.npy")
        self._offsets += (offsets[1:] + self._offsets[-1]).tolist()
        shutil.rmtree(folder)

    def close(self) -> None:
        """Finish the files of this process, so that the first process can absorb them."""
        with _naming(self.path):
            self._boxes.close()
            self._logits.close()
            offsets = _GrowingArray(self.folder / "offsets.npy", ())
            offsets.append(np.asarray(self._offsets, ARRAYS["offsets.npy"]))
            offsets.close()
        write_text(self.folder / IDS, json.dumps(self._ids))

    def finish(
        self, *, dataset: str | None, images_sha256: str | None, origin: Mapping[str, Any]
    ) -> None:
        """Write the index and move the folder to its final path, where it replaces an earlier store.

        Args:
            dataset: name of the data set; None if unknown.
            images_sha256: :func:`~maskrcnn_repro.data.proposals.store.digest_of` its images; None if unknown.
            origin: origin of the proposals, as values that JSON can represent.
        """
        self.close()
        index = {
            "format": FORMAT,
            "version": VERSION,
            "dataset": dataset,
            "images": len(self._ids),
            "proposals": self._offsets[-1],
            "images_sha256": images_sha256,
            "files": {name: self._facts(name) for name in (*ARRAYS, IDS)},
            "origin": dict(origin),
            "written": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }
        write_text(self.folder / INDEX, json.dumps(index, indent=2, allow_nan=False) + "\n")
        # A folder cannot be replaced in one step: the earlier one is moved out of the way first.
        old = self.path.with_name(f".old-{self.path.name}")
        with _naming(self.path):
            shutil.rmtree(old, ignore_errors=True)
            if self.path.exists():
                os.replace(self.path, old)
            os.replace(self.folder, self.path)
            # Killed runs with more processes may have left further parts.
            for folder in (old, *_part_folders(self.path)):
                shutil.rmtree(folder, ignore_errors=True)

    def _facts(self, name: str) -> dict[str, int]:
        file = self.folder / name
        growing = {"boxes.npy": self._boxes, "logits.npy": self._logits}.get(name)
        # The checksums of the large files were computed while they were written.
        crc32 = growing.crc32 if growing else checksum(file)
        return {"bytes": file.stat().st_size, "crc32": crc32}


def part_folder(path: Path, part: int) -> Path:
    """Return the temporary folder of process ``part`` for the store at ``path``."""
    return path.with_name(f".part{part}-{path.name}")


def _part_folders(path: Path) -> list[Path]:
    """Return the temporary folders of all processes; not those of a store whose name merely ends like this one's."""
    name = re.compile(rf"\.part\d+-{re.escape(path.name)}")
    return [folder for folder in path.parent.iterdir() if name.fullmatch(folder.name)]


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn what the system refuses within the block into an OutputError that names the store."""
    try:
        yield
    except UserError:
        raise
    except OSError as error:
        raise OutputError(
            f"Proposals {path} cannot be written: {error.strerror or error}."
        ) from error


class _GrowingArray:
    """An ``.npy`` file to which rows are appended; the header gets its length at the end."""

    def __init__(self, path: Path, row: tuple[int, ...]) -> None:
        self.crc32, self._length, self._row = 0, 0, row
        self._dtype = np.dtype(ARRAYS[path.name])
        self._file = path.open("wb")
        self._write_header()

    def append(self, rows: np.ndarray) -> None:
        self._append_bytes(np.ascontiguousarray(rows, self._dtype).tobytes())

    def append_file(self, path: Path) -> None:
        with path.open("rb") as stream:
            stream.seek(NPY_HEADER)
            while block := stream.read(BLOCK):
                self._append_bytes(block)

    def close(self) -> None:
        if not self._file.closed:
            row_bytes = self._dtype.itemsize * int(np.prod(self._row, dtype=int))
            self._length = (self._file.tell() - NPY_HEADER) // row_bytes
            self._write_header()
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()

    def _append_bytes(self, content: bytes) -> None:
        self.crc32 = zlib.crc32(content, self.crc32)
        self._file.write(content)

    def _write_header(self) -> None:
        self._file.seek(0)
        header = {
            "descr": self._dtype.str,
            "fortran_order": False,
            "shape": (self._length, *self._row),
        }
        npy.write_array_header_1_0(self._file, header)
        assert self._file.tell() == NPY_HEADER
