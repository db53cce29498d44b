"""Images decoded once and kept in memory."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from maskrcnn_repro.data.image_file import ImageError, ImageFiles
from maskrcnn_repro.data.shared_memory import free_shared_memory
from maskrcnn_repro.errors import ConfigError

import numpy as np
import torch
from detectron2.utils import comm

logger = logging.getLogger(__name__)
CHANNELS = {"BGR": 3, "RGB": 3, "L": 1}
"""Values of INPUT.FORMAT, to the channels of an image; ``L`` is grey."""
MEMORY_SHARE = 0.5
"""Fraction of the machine's memory that cached images may take."""


class CachedImages:
    """Images by file name, decoded once into one block of memory, which data-loader workers share.

    One block, because every tensor sent to a spawned worker costs a file descriptor.

    Args:
        records: dataset dicts with ``file_name``, ``height`` and ``width``.
        image_format: one of :data:`CHANNELS`.
        files: reads the images, also those that are not cached.
        workers: data-loader workers that share them; for none the memory is not a shared one.
        skip_broken: keep the error of a broken image for the time when it is asked for.

    Raises:
        ConfigError: the images do not fit into memory, or into shared memory.
        ImageError: an image is broken, without ``skip_broken``.
    """

    def __init__(
        self,
        records: Sequence[dict[str, Any]],
        image_format: str,
        files: ImageFiles | None = None,
        *,
        workers: int = 0,
        skip_broken: bool = False,
    ) -> None:
        self.image_format = image_format
        self.files = files or ImageFiles()
        channels = CHANNELS[image_format]
        sizes = {r["file_name"]: (r["height"], r["width"], channels) for r in records}
        ends = np.cumsum([int(np.prod(size)) for size in sizes.values()])
        _check_memory(int(ends[-1]), len(sizes))
        self._block = torch.empty(int(ends[-1]), dtype=torch.uint8)
        if workers:
            # Each process of the machine has a block of its own.
            _check_shared_memory(int(ends[-1]) * comm.get_local_size(), workers)
            self._block.share_memory_()
        self._places = {
            name: (int(end) - int(np.prod(size)), int(end), size)
            for (name, size), end in zip(sizes.items(), ends, strict=True)
        }
        self._errors: dict[str, str] = {}
        for name, (height, width, _) in sizes.items():
            self._fill(name, (height, width), skip_broken)
        logger.info("Cached %d decoded images, %.1f MB", len(sizes), ends[-1] / 1e6)

    def _fill(self, name: str, size: tuple[int, int], skip_broken: bool) -> None:
        try:
            self[name][:] = self.files.read(name, self.image_format, size)
        except ImageError as error:
            if not skip_broken:
                raise
            self._errors[name] = str(error)

    def __getitem__(self, file_name: str) -> np.ndarray:
        """Return the (H, W, channels) uint8 image; a view, not to be changed."""
        begin, end, size = self._places[file_name]
        return self._block[begin:end].numpy().reshape(size)

    def read(
        self, path: str | Path, image_format: str | None, size: tuple[int, int] | None = None
    ) -> np.ndarray:
        """Return a copy of an image; one that is not cached, or not in this format, is read from its file.

        As :meth:`ImageFiles.read`.
        """
        file_name = str(path)
        if image_format != self.image_format or file_name not in self._places:
            return self.files.read(path, image_format, size)
        if file_name in self._errors:
            raise ImageError(self._errors[file_name])
        # Copied: augmentations may write into the image.
        return self[file_name].copy()


def _check_memory(needed: int, count: int) -> None:
    if not hasattr(os, "sysconf"):  # as on Windows: how much memory there is stays unknown
        return
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > MEMORY_SHARE * total:
        raise ConfigError(
            f"DATALOADER.CACHE_IMAGES True would keep {count} images of {needed / 1e9:.1f} GB in "
            f"{total / 1e9:.1f} GB of memory; set it to False."
        )


def _check_shared_memory(needed: int, workers: int) -> None:
    free = free_shared_memory()
    if free is not None and needed > free:
        raise ConfigError(
            f"DATALOADER.CACHE_IMAGES True needs {needed / 1e6:.0f} MB in /dev/shm for the {workers} workers, "
            f"but {free / 1e6:.0f} MB are free; give the container more (docker run --shm-size), or set "
            "DATALOADER.NUM_WORKERS 0 or DATALOADER.CACHE_IMAGES False."
        )
