"""COCO's AP of many random draws of the images, from one matching of detections with ground truth.

An AP of some images has a sampling error: other images of the same kind would give another AP. Drawing the
images again with replacement (the bootstrap) shows how large it is. Detections are matched with objects
within each image, so the matching never changes; a draw only says how often each image counts.

Shape legend: I images, D detections of one category, T IoU (or OKS) thresholds, B draws.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from maskrcnn_repro.errors import DataError

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""T: COCO's IoU or OKS thresholds (fractions)."""
METRICS = {"AP": slice(0, 10), "AP50": slice(0, 1), "AP75": slice(5, 6)}
"""Name of a metric -> its thresholds."""
FIELDS = {"bbox": "bbox", "segm": "segmentation", "keypoints": "keypoints"}
"""Task to what a detection must have."""
_RECALLS = np.linspace(0.0, 1.0, 101)
_AT_ONCE = 50
"""Draws; all at once would not fit into a processor's cache."""


@dataclass(frozen=True)
class CategoryMatches:
    """All detections of one category, most certain first."""

    images: np.ndarray
    """(D,), int: index of the image of each."""
    hits: np.ndarray
    """(T, D), bool: matched with an object."""
    misses: np.ndarray
    """(T, D), bool: matched with nothing; neither hit nor miss is what COCO ignores (crowds)."""
    objects: np.ndarray
    """(I,), int: how many objects there are to find in each image."""

    def precision(self, counts: np.ndarray) -> np.ndarray:
        """Return the average precision of each draw at each threshold, (B, T); NaN without any object.

        Args:
            counts: (B, I), how often each image counts in each draw.
        """
        total = (counts @ self.objects).astype(float)
        # Draws last: sums over detections then run along whole rows of memory.
        weights = counts.T[self.images].astype(float)
        seen = np.cumsum(weights, axis=0)
        made = [
            _mean_precision(weights[hits], seen[hits] - _before(weights, skipped, hits), total)
            for hits, skipped in self._places
        ]
        return np.where(total[:, None] > 0, np.stack(made, axis=1), np.nan)

    @cached_property
    def _places(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each threshold the places of its hits and of what COCO ignores, increasing."""
        skipped = ~(self.hits | self.misses)
        return [
            (np.flatnonzero(a), np.flatnonzero(b)) for a, b in zip(self.hits, skipped, strict=True)
        ]


def _before(weights: np.ndarray, some: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return the sums of (D, B) ``weights`` over ``some`` rows, up to each of ``places``, (H, B)."""
    sums = np.cumsum(np.pad(weights[some], ((1, 0), (0, 0))), axis=0)
    return sums[np.searchsorted(some, places)]


def _mean_precision(hits: np.ndarray, seen: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Return the mean over COCO's 101 recalls of the best precision at this recall or a higher one, (B,).

    Only hits are looked at: between two of them precision falls and recall stays.

    Args:
        hits: (H, B), how often each hit counts, most certain first.
        seen: (H, B), how many detections count up to each hit, itself included.
        total: (B,), how many objects count.
    """
    found = np.cumsum(hits, axis=0)
    precision = found / (seen + np.spacing(1))
    best = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    reached = np.searchsorted(_RECALLS, found / np.maximum(total, 1), side="right")
    return (best * np.diff(reached, axis=0, prepend=0)).sum(axis=0) / len(_RECALLS)


@dataclass(frozen=True)
class Matches:
    """One model's detections on one data set, matched with its objects.

    Attributes:
        image_ids: of the I images, in COCO's order.
        categories: one entry for each category of the data set.
    """

    image_ids: tuple[int, ...]
    categories: tuple[CategoryMatches, ...]

    def average_precision(self, counts: np.ndarray | None = None) -> dict[str, float]:
        """Return the :data:`METRICS` in points, 0 to 100, over objects of all sizes.

        Args:
            counts: (I,), how often each image counts; by default once, which gives COCO's own numbers.
        """
        if counts is None:
            counts = np.ones(len(self.image_ids), dtype=int)
        return {name: float(values[0]) for name, values in self.resampled(counts[None]).items()}

    def resampled(self, draws: np.ndarray) -> dict[str, np.ndarray]:
        """Return each metric of each draw, (B,), in points; NaN for a draw without objects.

        Args:
            draws: (B, I), see :func:`draw_images`; the same draws for two models make a paired comparison.
        """
        parts = [
            np.stack([one.precision(draws[start : start + _AT_ONCE]) for one in self.categories])
            for start in range(0, len(draws), _AT_ONCE)
        ]
        by_category = np.concatenate(parts, axis=1)
        # A category without objects in a draw does not count in it.
        there = ~np.isnan(by_category).any(axis=2)
        sums = np.where(there[:, :, None], by_category, 0).sum(axis=0)
        means = np.full_like(sums, np.nan)
        np.divide(sums, there.sum(axis=0)[:, None], out=means, where=there.any(axis=0)[:, None])
        return {name: 100 * means[:, at].mean(axis=1) for name, at in METRICS.items()}


def draw_images(images: int, draws: int, seed: int = 0) -> np.ndarray:
    """Return how often each image counts in each draw of as many images, (B, I), int."""
    chances = np.full(images, 1 / images)
    return np.random.default_rng(seed).multinomial(images, chances, size=draws)


def match(
    truth: str | os.PathLike[str],
    predictions: str | os.PathLike[str],
    task: str,
    oks_sigmas: Iterable[float] = (),
) -> Matches:
    """Match the detections of a COCO results file with the objects of a COCO data set.

    Args:
        truth: path of the data set's JSON.
        predictions: path of the results JSON.
        task: ``bbox``, ``segm`` or ``keypoints``.
        oks_sigmas: one per keypoint; empty for COCO's own 17.

    Raises:
        DataError: the results cannot be read, or name images that the data set lacks.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(os.fspath(truth))
        evaluation = COCOeval(coco, _results(coco, Path(predictions), task), task)
        sigmas = np.array(list(oks_sigmas))
        if len(sigmas):
            evaluation.params.kpt_oks_sigmas = sigmas
        # COCO has no areas but "all" for what is reported here.
        evaluation.params.areaRng = evaluation.params.areaRng[:1]
        evaluation.params.areaRngLbl = evaluation.params.areaRngLbl[:1]
        evaluation.evaluate()
    image_ids = evaluation.params.imgIds
    found = iter(evaluation.evalImgs)
    categories = [[next(found) for _ in image_ids] for _ in evaluation.params.catIds]
    most = evaluation.params.maxDets[-1]
    return Matches(
        tuple(int(one) for one in image_ids), tuple(_gather(one, most) for one in categories)
    )


def _results(coco: COCO, path: Path, task: str) -> COCO:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not found:  # pycocotools cannot load an empty list
            nothing = COCO()
            nothing.dataset = {**coco.dataset, "annotations": []}
            nothing.createIndex()
            return nothing
        needed = {"image_id", "category_id", "score", FIELDS[task]}
        lacking = next((needed - one.keys() for one in found if needed - one.keys()), None)
        if lacking:
            raise DataError(f"{path}: a prediction lacks {', '.join(sorted(lacking))}.")
        if not {one["image_id"] for one in found} <= set(coco.getImgIds()):
            raise DataError(f"{path} holds predictions for images that are not in the data set.")
        return coco.loadRes(found)
    except (OSError, TypeError, AttributeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        raise DataError(f"{path} cannot be read as COCO results: {reason}.") from error


def _gather(per_image: list[dict | None], most: int) -> CategoryMatches:
    """Put the detections of one category in all images into one order, as COCO does."""
    seen = [(index, one) for index, one in enumerate(per_image) if one is not None]
    objects = np.zeros(len(per_image), dtype=int)
    for index, one in seen:
        objects[index] = int(np.sum(np.asarray(one["gtIgnore"]) == 0))
    empty = np.zeros((len(THRESHOLDS), 0), dtype=bool)
    counts = [min(len(one["dtScores"]), most) for _, one in seen]
    scores = np.concatenate([[], *(one["dtScores"][:most] for _, one in seen)])
    matched, ignored = (
        np.concatenate([empty, *(one[key][:, :most] for _, one in seen)], axis=1).astype(bool)
        for key in ("dtMatches", "dtIgnore")
    )
    images = np.repeat([index for index, _ in seen], counts).astype(int)
    order = np.argsort(-scores, kind="mergesort")
    matched, ignored = matched[:, order], ignored[:, order]
    return CategoryMatches(images[order], matched & ~ignored, ~matched & ~ignored, objects)
