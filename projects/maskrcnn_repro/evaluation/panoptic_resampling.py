"""PQ of images that are drawn again: what an image adds to the sums of PQ is counted once, and weighed by each draw.

Shape legend: I images, K categories, B draws.
"""

from __future__ import annotations

from dataclasses import dataclass

from maskrcnn_repro.data.panoptic.files import read_ids
from maskrcnn_repro.data.panoptic.truth import PanopticTruth
from maskrcnn_repro.evaluation.panoptic_quality import GROUPS, PanopticQuality

import numpy as np
from numpy.typing import NDArray

METRICS = tuple(f"PQ{ending}" for ending in GROUPS)
"""Metrics that a draw has: of all categories, of things, of stuff."""


@dataclass(frozen=True)
class PanopticSums:
    """What each image of an evaluation adds to the sums of PQ.

    Attributes:
        image_ids: of the I images, ascending.
        sums: (I, K, 4), of each category IoU of matches, matches, false segments and misses.
        things: (K,), bool.
    """

    image_ids: tuple[int | str, ...]
    sums: NDArray[np.floating]
    things: NDArray[np.bool_]

    def resampled(self, draws: NDArray[np.integer]) -> dict[str, NDArray[np.floating]]:
        """Return :data:`METRICS` of each draw, (B,), in points; NaN where no category of a group is there.

        Args:
            draws: (B, I), how often each image counts.
        """
        iou, true, false, missed = np.moveaxis(np.tensordot(draws, self.sums, axes=1), -1, 0)
        total = true + 0.5 * false + 0.5 * missed
        is_there = total > 0
        quality = np.divide(iou, total, out=np.zeros_like(iou), where=is_there)
        values = {}
        for ending, wanted in GROUPS.items():
            chosen = is_there & (True if wanted is None else self.things == wanted)
            count = chosen.sum(axis=1)
            mean = np.full(len(draws), np.nan)
            np.divide((quality * chosen).sum(axis=1), count, out=mean, where=count > 0)
            values[f"PQ{ending}"] = 100 * mean
        return values


def count_images(truth: PanopticTruth, results: PanopticTruth) -> PanopticSums:
    """Return what each image adds.

    Args:
        truth: annotations.
        results: predictions of their images, or of some of them, by COCO's format.

    Raises:
        DataError: an image is not annotated, or its files cannot be read or contradict each other.
    """
    kinds = {category: category in truth.categories.things for category in truth.names}
    entries = {truth.of(image)["image_id"]: entry for image, entry in results.annotations.items()}
    # By ascending id, as COCO's matches are: a draw means the same images to both.
    annotated = sorted(
        (entry for entry in truth.annotations.values() if entry["image_id"] in entries),
        key=lambda entry: entry["image_id"],
    )
    sums = np.zeros((len(annotated), len(kinds), 4))
    for row, annotation in zip(sums, annotated, strict=True):
        entry, quality = entries[annotation["image_id"]], PanopticQuality(kinds)
        quality.add(
            read_ids(truth.folder / annotation["file_name"]),
            annotation["segments_info"],
            read_ids(results.folder / entry["file_name"]),
            entry["segments_info"],
        )
        row[:] = [quality.sums[category] for category in kinds]
    ids = tuple(annotation["image_id"] for annotation in annotated)
    return PanopticSums(ids, sums, np.array([*kinds.values()]))
