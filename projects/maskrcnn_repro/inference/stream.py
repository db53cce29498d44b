"""Images and frames through a model, one batch after the other, while others are read and drawn.

H, W = height and width of an image in pixels, B = images of a batch.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Protocol, TypeVar

from maskrcnn_repro.data.image_file import ImageError, ImageFiles
from maskrcnn_repro.inference.formats import Item
from maskrcnn_repro.inference.input_files import Input
from maskrcnn_repro.inference.prediction import Prediction
from maskrcnn_repro.inference.tracks import Tracks

import numpy as np

T = TypeVar("T")
R = TypeVar("R")


class Model(Protocol):
    """A trained model: RGB images to predictions."""

    def __call__(self, x: Sequence[np.ndarray], batch_size: int = 1) -> list[Prediction]:
        """Return the prediction for each (H, W, 3) uint8 image."""


def in_threads(
    function: Callable[[T], R], items: Iterable[T], threads: int = 2
) -> Iterator[R]:
    """Yield ``function`` of each item in their order, computed in threads that are a few items ahead."""
    pending: deque[Future[R]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) > 2 * threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def predict_images(
    model: Model,
    files: ImageFiles,
    inputs: Iterable[Input],
    batch_size: int,
    skip: Callable[[ImageError], None],
) -> Iterator[tuple[np.ndarray, Item]]:
    """Yield each image, (H, W, 3) RGB uint8 and upright, with its prediction, in the order of the inputs.

    Args:
        model: the model.
        files: reads the images.
        inputs: the images.
        batch_size: B.
        skip: is told of each image that cannot be read.
    """

    def read(item: Input) -> tuple[Input, np.ndarray | ImageError]:
        try:
            return item, files.read(item.path, "RGB")
        except ImageError as error:
            return item, error

    def readable() -> Iterator[tuple[Input, np.ndarray]]:
        for item, image in in_threads(read, inputs):
            if isinstance(image, ImageError):
                skip(image)
            else:
                yield item, image

    for batch in batches(readable(), batch_size):
        images = [image for _, image in batch]
        predictions = model(images, batch_size=batch_size)
        for (item, image), prediction in zip(batch, predictions, strict=True):
            path = str(item.path)
            yield image, Item(item.name, item.path, replace(prediction, path=path))


def predict_frames(
    model: Model, name: str, path: Path, frames: Iterable[np.ndarray], batch_size: int
) -> Iterator[tuple[np.ndarray, Item]]:
    """Yield each frame of a video with its prediction and the numbers of its tracks.

    Args:
        model: the model.
        name: of the video among the inputs.
        path: of the video.
        frames: (H, W, 3) RGB uint8.
        batch_size: B.
    """
    tracks = Tracks()
    number = 0
    for batch in batches(frames, batch_size):
        for frame, prediction in zip(batch, model(batch, batch_size=batch_size), strict=True):
            yield frame, Item(name, path, prediction, number, tracks.update(prediction))
            number += 1


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield lists of ``size`` successive items; the last may be shorter."""
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch
