"""Where a mapper's images come from: Detectron2's mappers read them with ``detection_utils.read_image``."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from maskrcnn_repro.data.image_file import ImageError
from maskrcnn_repro.data.worker_notes import WorkerNotes
from maskrcnn_repro.errors import UserError

import numpy as np
from detectron2.data import detection_utils

Record = dict[str, Any]
BROKEN = "broken_images"
"""Key of a sample: the errors of images that were left out, by file name."""
_READ_IMAGE = threading.RLock()


class Source(Protocol):
    """Reads images: :class:`ImageFiles` or :class:`CachedImages`."""

    def read(
        self, path: str | Path, image_format: str | None, size: tuple[int, int] | None = None
    ) -> np.ndarray:
        """Return an (H, W, C) image."""


class WithSource:
    """A mapper whose images come from a source, and whose errors name the image.

    Args:
        mapper: a ``DatasetMapper`` or any other that reads with ``detection_utils.read_image``.
        source: of the images.
        notes: gets the name of the image that a data-loader worker is on.
    """

    def __init__(
        self, mapper: Callable[[Record], Record], source: Source, notes: WorkerNotes | None = None
    ) -> None:
        self.mapper = mapper
        self.source = source
        self.notes = notes or WorkerNotes(0)

    def __call__(self, record: Record) -> Record:
        """Map a dataset dict.

        Raises:
            ImageError: its image cannot be used.
        """
        self.notes.write(record["file_name"])
        try:
            with _read_from(self.source, record):
                return self.mapper(record)
        except UserError:
            raise
        except Exception as error:
            error.add_note(f"The mapper was at image {record['file_name']}.")
            raise


class LeavingOutBroken:
    """A mapper that gives, for a broken image, a sample with :data:`BROKEN` alone."""

    def __init__(self, mapper: Callable[[Record], Record]) -> None:
        self.mapper = mapper

    def __call__(self, record: Record) -> Record:
        """Map a dataset dict."""
        try:
            return self.mapper(record)
        except ImageError as error:
            return {BROKEN: {record["file_name"]: str(error)}}


@contextmanager
def _read_from(source: Source, record: Record) -> Iterator[None]:
    """Let ``detection_utils.read_image`` read from ``source`` meanwhile, one thread of a process at a time.

    Detectron2's mapper has no other place to exchange the source of its image alone.
    """
    size = (record["height"], record["width"]) if "height" in record else None

    def read_image(file_name: str, format: str | None = None) -> np.ndarray:
        return source.read(file_name, format, size if file_name == record["file_name"] else None)

    with _READ_IMAGE:
        before = detection_utils.read_image
        detection_utils.read_image = read_image
        try:
            yield
        finally:
            detection_utils.read_image = before
