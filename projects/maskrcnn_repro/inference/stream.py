"""Images and frames through a model, one batch after the other, while others are read and drawn.

H, W = height and width of an image in pixels, B = images of a batch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from maskrcnn_repro.data.image_file import ImageError, ImageFiles
from maskrcnn_repro.inference.formats import Item
from maskrcnn_repro.inference.input_files import Input
from maskrcnn_repro.inference.pipeline import compute_ahead
from maskrcnn_repro.inference.prediction import Prediction
from maskrcnn_repro.inference.tracks import Tracks

import numpy as np

T = TypeVar("T")
R = TypeVar("R")


class Model(Protocol):
    """A trained model: images to predictions."""

    def stream(
        self,
        inputs: Any,
        *,
        batch_size: int = 1,
        on_error: Callable[[Any, ImageError], None] | None = None,
    ) -> Iterator[Prediction]:
        """Yield the prediction for each (H, W, 3) RGB uint8 image, in order.

        ``on_error`` is told of those that the model cannot take.
        """


def in_threads(function: Callable[[T], R], items: Iterable[T], threads: int = 2) -> Iterator[R]:
    """Yield ``function`` of each item in their order, computed in threads that are a few items ahead."""
    with ThreadPoolExecutor(threads) as pool:
        for _, result in compute_ahead(pool, function, iter(items), 2 * threads):
            yield result.result()


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

    waiting: deque[tuple[Input, np.ndarray]] = deque()

    def leave_out(image: np.ndarray, error: ImageError) -> None:
        place = next(i for i, (_, other) in enumerate(waiting) if other is image)
        skip(ImageError(f"{waiting[place][0].path}: {error}"))
        del waiting[place]

    images = _note_items(readable(), waiting, lambda pair: pair[1])
    for prediction in model.stream(images, batch_size=batch_size, on_error=leave_out):
        item, image = waiting.popleft()
        yield image, Item(item.name, item.path, replace(prediction, path=str(item.path)))


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
    waiting: deque[np.ndarray] = deque()
    images = _note_items(frames, waiting, lambda frame: frame)
    for number, prediction in enumerate(model.stream(images, batch_size=batch_size)):
        item = Item(name, path, prediction, number, tracks.update(prediction))
        yield waiting.popleft(), item


def _note_items(
    items: Iterable[T], waiting: deque[T], image_of: Callable[[T], np.ndarray]
) -> Iterator[np.ndarray]:
    """Yield the image of each item, which waits for its prediction: the model takes a few ahead."""
    for item in items:
        waiting.append(item)
        yield image_of(item)
