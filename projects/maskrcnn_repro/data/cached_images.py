"""Images decoded once and kept in memory, for any mapper that reads its image as Detectron2's does."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from maskrcnn_repro.errors import ConfigError

import numpy as np
import torch
from detectron2.data import detection_utils

logger = logging.getLogger(__name__)
CHANNELS = {"BGR": 3, "RGB": 3, "L": 1}
"""Values of INPUT.FORMAT, to the channels of an image; ``L`` is grey."""
MEMORY_SHARE = 0.5
"""Fraction of the machine's memory that cached images may take."""
_READ_IMAGE = threading.RLock()


class CachedImages:
    """Images by file name, decoded once into one block of memory that data-loader workers share.

    One block, because every tensor sent to a spawned worker costs a file descriptor.

    Args:
        records: dataset dicts with ``file_name``, ``height`` and ``width``.
        image_format: one of :data:`CHANNELS`.

    Raises:
        ConfigError: the images do not fit into memory.
    """

    def __init__(self, records: Sequence[dict[str, Any]], image_format: str) -> None:
        self.image_format = image_format
        channels = CHANNELS[image_format]
        sizes = {r["file_name"]: (r["height"], r["width"], channels) for r in records}
        ends = np.cumsum([int(np.prod(size)) for size in sizes.values()])
        _check_memory(int(ends[-1]), len(sizes))
        self._block = torch.empty(int(ends[-1]), dtype=torch.uint8).share_memory_()
        self._places = {
            name: (int(end) - int(np.prod(size)), int(end), size)
            for (name, size), end in zip(sizes.items(), ends, strict=True)
        }
        for record in records:
            image = detection_utils.read_image(record["file_name"], format=image_format)
            detection_utils.check_image_size(record, image)
            self[record["file_name"]][:] = image
        logger.info("Cached %d decoded images, %.1f MB", len(sizes), ends[-1] / 1e6)

    def __getitem__(self, file_name: str) -> np.ndarray:
        """Return the (H, W, channels) uint8 image; a view, not to be changed."""
        begin, end, size = self._places[file_name]
        return self._block[begin:end].numpy().reshape(size)

    @contextmanager
    def in_place_of_files(self) -> Iterator[None]:
        """Let Detectron2's ``detection_utils.read_image`` return copies of these images meanwhile.

        Detectron2's mapper has no other place to exchange the source of its image alone. Files that are not
        cached, or are asked for in another format, are read as ever. One thread of a process at a time.
        """
        with _READ_IMAGE:
            read_file = detection_utils.read_image
            detection_utils.read_image = self._or_read(read_file)
            try:
                yield
            finally:
                detection_utils.read_image = read_file

    def _or_read(self, read_file: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
        def read_image(file_name: str, format: str | None = None) -> np.ndarray:
            if format != self.image_format or file_name not in self._places:
                return read_file(file_name, format=format)
            # Copied: augmentations may write into the image.
            return self[file_name].copy()

        return read_image


class WithCachedImages:
    """A mapper that finds its images in memory instead of in their files.

    Args:
        mapper: a ``DatasetMapper`` or any other that reads with ``detection_utils.read_image``.
        images: the images.
    """

    def __init__(
        self, mapper: Callable[[dict[str, Any]], dict[str, Any]], images: CachedImages
    ) -> None:
        self.mapper = mapper
        self.images = images

    def __call__(self, record: dict[str, Any]) -> dict[str, Any]:
        """Map a dataset dict."""
        with self.images.in_place_of_files():
            return self.mapper(record)


def _check_memory(needed: int, count: int) -> None:
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > MEMORY_SHARE * total:
        raise ConfigError(
            f"DATALOADER.CACHE_IMAGES True would keep {count} images of {needed / 1e9:.1f} GB in "
            f"{total / 1e9:.1f} GB of memory; set it to False."
        )
