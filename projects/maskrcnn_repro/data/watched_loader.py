"""A loader that tells in the main process what happened to images in its workers."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from typing import Any

from maskrcnn_repro.data.image_file import ImageError
from maskrcnn_repro.data.image_source import BROKEN
from maskrcnn_repro.data.shared_memory import free_shared_memory
from maskrcnn_repro.data.worker_notes import WorkerNotes
from maskrcnn_repro.errors import ConfigError, DataError, UserError, listing

logger = logging.getLogger(__name__)
Batch = list[dict[str, Any]]
BROKEN_SHARE = 0.01
"""Largest share of broken images that ``DATALOADER.SKIP_BROKEN`` leaves out."""
_OF_WORKER = re.compile(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\)")
_NO_ROOM = ("Bus error", "shared memory", "</torch_")


class WatchedLoader:
    """Detectron2's loader; errors of its workers are one sentence, and broken images are counted.

    Args:
        loader: of batches, lists of samples.
        notes: the images that the workers are on.
        images: how many this process reads of; broken ones above :data:`BROKEN_SHARE` of them are an error.
    """

    def __init__(self, loader: Any, notes: WorkerNotes, images: int) -> None:
        self.loader = loader
        self.notes = notes
        self.images = images
        self.broken: set[str] = set()

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        """Yield batches without samples that have no image; a batch of which nothing is left is not given.

        Raises:
            ImageError: an image is broken and not left out, or too many are.
            DataError: a worker died, or has no shared memory left.
            ConfigError: the mapper gave something else than a dict.
        """
        batches = iter(self.loader)
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except Exception as error:
                if self.notes.workers:
                    # Let go of the iterator, which the error's frames hold too: left to the garbage collector,
                    # each worker would take five seconds to end.
                    error.__traceback__ = batches = None
                self._tell(error)
                raise
            if kept := self._without_broken(batch):
                yield kept

    def _without_broken(self, batch: Batch) -> Batch:
        for sample in batch:
            if not isinstance(sample, dict):
                raise ConfigError(
                    f"The mapper returns {sample!r:.80}; it must return a dict for each image, and may not skip one."
                )
            for name, text in sample.pop(BROKEN, {}).items():
                if name not in self.broken:
                    self._count(name, text)
        return [sample for sample in batch if sample]

    def _count(self, name: str, text: str) -> None:
        self.broken.add(name)
        count = len(self.broken)
        logger.warning("Left out, %d of %d images so far: %s", count, self.images, text)
        if count > BROKEN_SHARE * self.images:
            raise ImageError(
                f"{count} of {self.images} images are broken, more than the {BROKEN_SHARE:.0%} that "
                f"DATALOADER.SKIP_BROKEN leaves out: {listing(sorted(self.broken), limit=3)}."
            )

    def _tell(self, error: Exception) -> None:
        """Raise in one sentence what a worker met; return for errors that no user can mend."""
        if isinstance(error, UserError):
            raise type(error)(_sentence(error)) from error.__cause__
        if isinstance(error, RuntimeError) and (text := self._end_of_worker(str(error))):
            raise DataError(text) from error

    def _end_of_worker(self, text: str) -> str:
        """Return the sentence for PyTorch's RuntimeError about a worker; empty for another one."""
        died = _OF_WORKER.search(text)
        no_room = any(sign in text for sign in _NO_ROOM)
        if not (died or no_room):
            return ""
        at = ""
        if died:
            names = self.notes.read({int(pid) for pid in died[1].split(",")})
            at = f" at image {listing(names)}" if names else ""
        if no_room:
            free = free_shared_memory()
            room = "" if free is None else f" ({free / 1e6:.0f} MB are free)"
            return (
                f"A data-loader worker found no room in /dev/shm{room}{at}; give the container more (docker run "
                "--shm-size), or set fewer DATALOADER.NUM_WORKERS, 0 for none."
            )
        return (
            f"A data-loader worker died{at}: if no line above says why, look for a lack of memory (fewer "
            "DATALOADER.NUM_WORKERS help), or read that image with DATALOADER.NUM_WORKERS 0 to see the error."
        )


def _sentence(error: UserError) -> str:
    """Return the error's own text; PyTorch hands over that of a worker behind its whole traceback."""
    text = str(error)
    if not text.startswith("Caught "):
        return text
    return text.rstrip().rpartition(f"{type(error).__qualname__}: ")[2]
