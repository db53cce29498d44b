"""PQ, SQ and RQ of panoptic maps, by the rules of COCO's reference evaluator (Panoptic Segmentation, Sec. 4).

H, W = height and width of an image in pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from maskrcnn_repro.data.panoptic.files import VOID, Segment
from maskrcnn_repro.errors import DataError

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
"""(H, W) segment ids, 0 where there is none."""

GROUPS = {"": None, "_th": True, "_st": False}
"""Ending of a metric's name -> whether it is the mean over things, over stuff, or over both."""
_IOU, _TRUE, _FALSE, _MISSED = range(4)


class PanopticQuality:
    """Sums over images: of each category the IoU of matches, and the numbers of matches, false segments and misses.

    Args:
        categories: category id -> whether it is a thing.
    """

    def __init__(self, categories: Mapping[int, bool]) -> None:
        self.categories = dict(categories)
        self.sums = {category: np.zeros(4) for category in self.categories}

    def add(
        self, truth: Ids, truth_segments: Iterable[Segment], ids: Ids, segments: Iterable[Segment]
    ) -> None:
        """Count an image.

        Args:
            truth: annotated segments.
            truth_segments: what they are: ``id``, ``category_id``, ``iscrowd``, ``area``.
            ids: predicted segments, of the same size.
            segments: what they are: ``id``, ``category_id``.

        Raises:
            DataError: maps of different sizes, a segment that is in the map or in the list alone, or a category that
                there is not.
        """
        if truth.shape != ids.shape:
            raise DataError(
                f"A panoptic map of {ids.shape} pixels cannot be held against one of {truth.shape}."
            )
        annotated = {segment["id"]: segment for segment in truth_segments}
        predicted = {segment["id"]: segment["category_id"] for segment in segments}
        areas = dict(
            zip(*(part.tolist() for part in np.unique(ids, return_counts=True)), strict=True)
        )
        self._check(annotated.values(), predicted, areas)
        common = _intersections(truth, ids)
        matched = self._match(annotated, predicted, areas, common)
        self._count_missed(annotated, matched)
        crowds = {s["category_id"]: s["id"] for s in annotated.values() if s.get("iscrowd")}
        taken = set(matched.values())
        for number, category in predicted.items():
            # What nobody labelled, or is a crowd of its class, cannot be called false.
            ignored = common.get((VOID, number), 0)
            if category in crowds:
                ignored += common.get((crowds[category], number), 0)
            if number not in taken and ignored / areas[number] <= 0.5:
                self.sums[category][_FALSE] += 1

    def _check(
        self, annotated: Iterable[Segment], predicted: Mapping[int, int], areas: Mapping[int, int]
    ) -> None:
        if odd := sorted((areas.keys() ^ predicted.keys()) - {VOID}):
            place = "list" if odd[0] in predicted else "map"
            raise DataError(f"Panoptic segment {odd[0]} is in the {place} of an image alone.")
        for category in (*(segment["category_id"] for segment in annotated), *predicted.values()):
            if category not in self.categories:
                raise DataError(
                    f"A panoptic segment has category {category}; there are "
                    f"{', '.join(map(str, sorted(self.categories)))}."
                )

    def _match(
        self,
        annotated: Mapping[int, Segment],
        predicted: Mapping[int, int],
        areas: Mapping[int, int],
        common: Mapping[tuple[int, int], int],
    ) -> dict[int, int]:
        """Count the pairs of one category with an IoU above 0.5, and return annotated -> predicted segment."""
        matched = {}
        for (truth, number), intersection in common.items():
            segment = annotated.get(truth)
            if segment is None or number not in predicted or segment.get("iscrowd"):
                continue
            category = segment["category_id"]
            # The area that the file says, as the reference has it.
            union = segment["area"] + areas[number] - intersection - common.get((VOID, number), 0)
            if predicted[number] == category and intersection > 0.5 * union:
                self.sums[category] += (intersection / union, 1, 0, 0)
                matched[truth] = number
        return matched

    def _count_missed(self, annotated: Mapping[int, Segment], matched: Mapping[int, int]) -> None:
        for number, segment in annotated.items():
            if number not in matched and not segment.get("iscrowd"):
                self.sums[segment["category_id"]][_MISSED] += 1

    def merge(self, others: Sequence[PanopticQuality]) -> None:
        """Add what others counted."""
        for other in others:
            for category, sums in other.sums.items():
                self.sums[category] += sums

    def of_category(self, category: int) -> tuple[float, float, float] | None:
        """Return PQ, SQ and RQ of a category, in [0, 1]; None if no image has it."""
        iou, true, false, missed = self.sums[category]
        total = true + 0.5 * false + 0.5 * missed
        if not total:
            return None
        return float(iou / total), float(iou / true) if true else 0.0, float(true / total)

    def metrics(self, names: Mapping[int, str] | None = None) -> dict[str, float]:
        """Return the means over categories that are there, in points; NaN where there is none.

        Args:
            names: of categories; each has its own ``PQ-name``, ``SQ-name`` and ``RQ-name``.

        Returns:
            ``PQ``, ``SQ``, ``RQ``, the same with ``_th`` over things and with ``_st`` over stuff, and of each name.
        """
        values = {category: self.of_category(category) for category in self.categories}
        metrics: dict[str, float] = {}
        for ending, wanted in GROUPS.items():
            rows = [
                row
                for category, row in values.items()
                if row is not None and wanted in (None, self.categories[category])
            ]
            means = np.mean(rows, axis=0) if rows else np.full(3, np.nan)
            metrics |= _named(ending, means)
        for category, name in (names or {}).items():
            metrics |= _named(f"-{name}", values[category] or np.full(3, np.nan))
        return metrics


def _named(ending: str, values: Iterable[float]) -> dict[str, float]:
    pairs = zip(("PQ", "SQ", "RQ"), values, strict=True)
    return {f"{name}{ending}": 100 * float(value) for name, value in pairs}


def _intersections(truth: Ids, ids: Ids) -> dict[tuple[int, int], int]:
    """Return (annotated, predicted) segment -> pixels that both have."""
    pairs, counts = np.unique(truth.astype(np.int64) << 24 | ids, return_counts=True)
    return {
        (pair >> 24, pair & 0xFFFFFF): count
        for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True)
    }
