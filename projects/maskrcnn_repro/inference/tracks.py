"""Which detections of successive frames are one object, so that its colour stays."""

from __future__ import annotations

from dataclasses import dataclass

from maskrcnn_repro.inference.prediction import Prediction

import numpy as np
from pycocotools import mask as rle_codec

SAME = 0.3
"""IoU of boxes in two frames from which on they may be one object."""
PATIENCE = 15
"""Frames after which an object that is not seen is forgotten."""


@dataclass
class _Track:
    number: int
    box: np.ndarray
    class_id: int
    seen: int


class Tracks:
    """Numbers the objects of a video: pairs of equal class, the highest IoU first.

    No motion is modelled: what jumps further than its size is a new object.
    """

    def __init__(self) -> None:
        self._tracks: list[_Track] = []
        self._frame = 0
        self._next = 0

    def update(self, prediction: Prediction) -> list[int]:
        """Return the number of the object of each detection of the next frame, from 0."""
        self._frame += 1
        self._tracks = [t for t in self._tracks if self._frame - t.seen <= PATIENCE]
        pairs = self._pairs(prediction)
        numbers = []
        for index, box in enumerate(prediction.boxes):
            track = pairs.get(index) or self._new(int(prediction.class_ids[index]))
            track.box, track.seen = box, self._frame
            numbers.append(track.number)
        return numbers

    def _pairs(self, prediction: Prediction) -> dict[int, _Track]:
        """Return the track of each detection that has one, by the number of the detection."""
        if not self._tracks or not len(prediction):
            return {}
        tracks = np.array([track.box for track in self._tracks])
        iou = rle_codec.iou(_xywh(prediction.boxes), _xywh(tracks), [0] * len(tracks))
        iou[prediction.class_ids[:, None] != [track.class_id for track in self._tracks]] = 0
        pairs: dict[int, _Track] = {}
        while iou.max() >= SAME:
            detection, number = np.unravel_index(iou.argmax(), iou.shape)
            pairs[int(detection)] = self._tracks[number]
            iou[detection] = iou[:, number] = 0
        return pairs

    def _new(self, class_id: int) -> _Track:
        track = _Track(self._next, np.zeros(4), class_id, self._frame)
        self._tracks.append(track)
        self._next += 1
        return track


def _xywh(boxes: np.ndarray) -> np.ndarray:
    return np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]]).astype(np.float64)
