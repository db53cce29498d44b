"""Average precision of surface coordinates: how near predicted points are to true ones (GPS), and their masks, too (GPSm).

The rules are those of the evaluator in Detectron2's DensePose project.

Letters: D detections of an image by falling score, G annotated people, T thresholds, P points. Boxes are (left, top, width,
height) in pixels of the image.
"""

from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from maskrcnn_repro.data.densepose.annotation import SIDE, SurfacePoints
from maskrcnn_repro.data.densepose.surface import Floats, Surface

import numpy as np
import pycocotools.mask as coco_mask
from numpy.typing import NDArray
from pycocotools.cocoeval import COCOeval

MOST = 20
"""Detections of an image that count."""
METRICS = ("AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl")
_LARGEST_PLACE = 255
"""Where the evaluator takes the other edge of a box to be; training takes it to be at 256."""
_SAME_PLACE = 0.8
Box = Sequence[float]


def point_similarity(
    surface: Surface, truth: SurfacePoints, box: Box, predicted: NDArray[np.uint8], place: Box
) -> float:
    """Return the GPS of a detection with a person: the mean over the person's points of how near the prediction is.

    Args:
        surface: that of the annotations.
        truth: the person.
        box: the person's.
        predicted: (3, h, w): chart, u and v of the detection's pixels, coordinates in 255ths.
        place: box of the detection.
    """
    x, y, chart, u, v = truth.points.T
    column = (x * box[2] / _LARGEST_PLACE + box[0] - place[0]).astype(int)
    row = (y * box[3] / _LARGEST_PLACE + box[1] - place[1]).astype(int)
    inside = (column >= 0) & (column < int(place[2])) & (row >= 0) & (row < int(place[3]))
    if not inside.any():
        return 0.0
    charts = chart.astype(np.int64)
    shown, ours = np.zeros(len(charts), np.int64), np.zeros((2, len(charts)))
    shown[inside] = predicted[0, row[inside], column[inside]]
    ours[:, inside] = predicted[1:, row[inside], column[inside]] / 255
    on_body = charts > 0
    similar = surface.similarities(
        surface.closest(charts[on_body], u[on_body], v[on_body]),
        surface.closest(shown[on_body], *ours[:, on_body]),
        charts[on_body],
    )
    return float(similar.mean()) if len(similar) else 0.0


def mask_in_image(mask: NDArray[np.bool_], box: Box, size: tuple[int, int]) -> Any:
    """Return the RLE of a mask (h, w) whose left upper corner lies at that of a box, in an image of ``size`` (H, W)."""
    whole = np.zeros(size, np.uint8, order="F")
    left, top = int(box[0]), int(box[1])
    x = slice(max(left, 0), min(int(box[0] + box[2]), size[1], left + mask.shape[1]))
    y = slice(max(top, 0), min(int(box[1] + box[3]), size[0], top + mask.shape[0]))
    if x.start < x.stop and y.start < y.stop:
        whole[y, x] = mask[y.start - top : y.stop - top, x.start - left : x.stop - left]
    return coco_mask.encode(whole)


def body_mask(parts: NDArray[np.uint8], box: Box) -> NDArray[np.bool_]:
    """Return the body in a person's box, (h, w): any part (SIDE, SIDE), enlarged linearly and cut at a half.

    The middles of the first and of the last cell come to the first and to the last pixel.
    """
    body = (parts > 0).astype(np.float64)
    for axis, length in ((0, box[3]), (1, box[2])):
        count = int(np.round(SIDE * (max(length, 1) / SIDE)))
        places = np.arange(count) * ((SIDE - 1) / (count - 1) if count > 1 else 0.0)
        low = np.minimum(places.astype(int), SIDE - 2)
        part = (places - low)[:, None] if axis == 0 else places - low
        body = body.take(low, axis) * (1 - part) + body.take(low + 1, axis) * part
        # SciPy, which the reference calls, has nothing where rounding puts a pixel beyond the last cell.
        body *= (places <= SIDE - 1)[:, None] if axis == 0 else places <= SIDE - 1
    return body > 0.5


@dataclass(frozen=True)
class Case:
    """An image: how its detections compare with its people."""

    scores: Floats
    """(D,)."""
    areas: Floats
    """(D,): of the boxes of the detections."""
    similarity: Mapping[str, Floats]
    """``gps`` and ``gpsm``, (D, G) each."""
    overlap: Floats
    """(D, G): IoU of boxes."""
    true_areas: Floats
    """(G,)."""
    ignored: NDArray[np.bool_]
    """(G,): not annotated with points."""
    crowd: NDArray[np.bool_]
    """(G,)."""

    def entry(self, task: str, area: Sequence[float], thresholds: Floats) -> dict[str, Any]:
        """Return what COCO's code sums up of an image.

        Args:
            task: ``gps`` or ``gpsm``.
            area: least and largest area of people that count.
            thresholds: of the similarity.
        """
        ignored = self.ignored | (self.true_areas < area[0]) | (self.true_areas > area[1])
        matched, left_out = self._match(self.similarity[task], ignored, thresholds)
        outside = (self.areas < area[0]) | (self.areas > area[1])
        return {
            "dtScores": self.scores,
            "dtMatches": matched,
            "dtIgnore": left_out | (~matched & outside),
            "gtIgnore": ignored,
        }

    def _match(
        self, similarity: Floats, ignored: NDArray[np.bool_], thresholds: Floats
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return which detections have a person, and which do not count, (T, D) each."""
        shape = len(thresholds), len(self.scores)
        matched, left_out = np.zeros(shape, bool), np.full(shape, bool(ignored.all()))
        taken = np.zeros((len(thresholds), len(ignored)), bool)
        for t, d in np.ndindex(shape):
            free = ~taken[t] | self.crowd
            least = min(float(thresholds[t]), 1 - 1e-10)
            person = _find_best(similarity[d], free & ~ignored, least)
            if person is None:
                person = _find_best(similarity[d], free & ignored, least)
            if person is not None:
                matched[t, d] = taken[t, person] = True
                left_out[t, d] = ignored[person]
        self._match_places(matched, left_out, taken[-1], ignored)
        return matched, left_out

    def _match_places(
        self,
        matched: NDArray[np.bool_],
        left_out: NDArray[np.bool_],
        taken: NDArray[np.bool_],
        ignored: NDArray[np.bool_],
    ) -> None:
        """Leave out detections in the place of a person that is ignored; the highest threshold decides for all."""
        # People that count stand before the others, which tells which one of two equal ones it is.
        order = np.argsort(ignored, kind="stable")
        for d in np.flatnonzero(~matched[-1]):
            free = ~taken | self.crowd
            place = _find_best(self.overlap[d][order], free[order], _SAME_PLACE)
            if place is not None:
                person = order[place]
                left_out[:, d] = ignored[person]
                if ignored[person]:
                    matched[-1, d] = taken[person] = True


def _find_best(values: Floats, allowed: NDArray[np.bool_], least: float) -> int | None:
    """Return the place of the largest value that is allowed and at least ``least``, the last of equal ones."""
    places = np.flatnonzero(allowed & (values >= least))
    if not len(places):
        return None
    return int(places[len(places) - 1 - values[places][::-1].argmax()])


def average_precision(cases: Mapping[Any, Case], task: str) -> dict[str, float]:
    """Return :data:`METRICS` of images in percent; NaN where there is nobody of that size.

    Args:
        cases: by id of the image.
        task: ``gps`` or ``gpsm``.
    """
    # The kind with 20 detections and without small objects.
    summed = COCOeval(iouType="keypoints")
    params = summed.params
    params.imgIds, params.catIds, params.maxDets = sorted(cases), [1], [MOST]
    summed.evalImgs = [
        cases[image].entry(task, area, params.iouThrs)
        for area in params.areaRng
        for image in params.imgIds
    ]
    summed._paramsEval = copy.deepcopy(params)
    with contextlib.redirect_stdout(io.StringIO()):
        summed.accumulate()
        summed.summarize()
    return {
        name: float(100 * value) if value >= 0 else float("nan")
        for name, value in zip(METRICS, summed.stats, strict=True)
    }


def compare(
    surface: Surface,
    people: Sequence[Mapping[str, Any]],
    detections: Sequence[tuple[float, Box, Any]],
    size: tuple[int, int],
) -> Case:
    """Compare the detections of an image with its people.

    Args:
        surface: that of the annotations.
        people: COCO annotations of one class.
        detections: score, box and (3, h, w) charts and coordinates of each.
        size: (H, W) of the image.
    """
    order = np.argsort([-score for score, *_ in detections], kind="stable")[:MOST]
    kept = [detections[k] for k in order]
    truths = [SurfacePoints.read(person) for person in people]
    boxes = [[float(value) for value in person["bbox"]] for person in people]
    crowd = np.array([bool(person.get("iscrowd", 0)) for person in people], bool)
    shape = len(kept), len(people)
    gps, masks, overlap = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for d, (_, place, predicted) in enumerate(kept):
        for g, (truth, box) in enumerate(zip(truths, boxes, strict=True)):
            if truth is not None:
                gps[d, g] = point_similarity(surface, truth, box, predicted, place)
    if all(shape):
        flags = crowd.astype(int).tolist()
        theirs = [_person_mask(*pair, size) for pair in zip(people, truths, strict=True)]
        ours = [mask_in_image(predicted[0] > 0, place, size) for _, place, predicted in kept]
        masks = coco_mask.iou(ours, theirs, flags)
        overlap = coco_mask.iou([list(place) for _, place, _ in kept], boxes, flags)
    return Case(
        scores=np.array([score for score, *_ in kept], float),
        areas=np.array([place[2] * place[3] for _, place, _ in kept], float),
        similarity={"gps": gps, "gpsm": np.sqrt(gps * masks)},
        overlap=overlap,
        true_areas=np.array([person["area"] for person in people], float),
        ignored=np.array([truth is None for truth in truths], bool),
        crowd=crowd,
    )


def _person_mask(
    person: Mapping[str, Any], truth: SurfacePoints | None, size: tuple[int, int]
) -> Any:
    """Return the RLE of a person: of its parts, or where they are not annotated of its outline."""
    if truth is not None and truth.parts is not None:
        return mask_in_image(body_mask(truth.parts, person["bbox"]), person["bbox"], size)
    outline = person.get("segmentation")
    if isinstance(outline, Mapping) and not isinstance(outline["counts"], list):
        return outline
    if not outline:
        return mask_in_image(np.zeros((0, 0), bool), person["bbox"], size)
    encoded = coco_mask.frPyObjects(outline, *size)
    return coco_mask.merge(encoded) if isinstance(encoded, list) else encoded
