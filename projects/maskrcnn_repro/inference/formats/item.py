"""What the writers of annotation formats take, and what they count as lost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from maskrcnn_repro.inference.outlines import outline
from maskrcnn_repro.inference.prediction import Prediction

import numpy as np
from pycocotools import mask as rle_codec


@dataclass(frozen=True)
class Item:
    """A prediction and the name under which it is written.

    Attributes:
        name: of the image, relative to the folder that holds all inputs, with forward slashes.
        path: of the image, or of the video.
        prediction: for it.
        frame: number in the video, from 0; None for an image.
        tracks: number of the track of each detection, in a video.
    """

    name: str
    path: Path
    prediction: Prediction
    frame: int | None = None
    tracks: Sequence[int] = ()


class Writer(Protocol):
    """Writes predictions in the format of a tool."""

    def add(self, item: Item) -> None:
        """Take the prediction for an image.

        Raises:
            DataError: the format cannot hold it; the next can be added.
            OutputError: it cannot be written.
        """

    def close(self) -> list[str]:
        """Write what is not yet written; return sentences on what was written and what the format lost."""


@dataclass
class Shapes:
    """How masks are written, and what is lost by it.

    Attributes:
        polygons: as polygons, instead of exact masks.
        tolerance: of :func:`~maskrcnn_repro.inference.outlines.outline`, in pixels.
        lost: what was lost -> number of objects.
    """

    polygons: bool
    tolerance: float = 1.0
    lost: dict[str, int] = field(default_factory=dict)

    def lose(self, what: str) -> None:
        """Count an object that lost something."""
        self.lost[what] = self.lost.get(what, 0) + 1

    def visible(self, prediction: Prediction) -> Iterator[int]:
        """Yield the numbers of the detections to write: those whose mask has a pixel."""
        for index in range(len(prediction)):
            if prediction.rles is None or rle_codec.area(prediction.rles[index]):
                yield index
            else:
                self.lose("Left out, as the mask is empty")

    def parts(self, prediction: Prediction, index: int) -> list[np.ndarray]:
        """Return the polygons of a detection with a mask, (P, 2) each, the largest first; counts holes as lost."""
        assert prediction.rles is not None
        outlined = outline(prediction.rles[index], self.tolerance)
        if outlined.holes:
            self.lose("Holes are covered by polygons")
        return outlined.parts

    def sentences(self) -> list[str]:
        """Return a sentence on each kind of loss."""
        return [
            f"{what}: {count} {'object' if count == 1 else 'objects'}."
            for what, count in self.lost.items()
        ]
