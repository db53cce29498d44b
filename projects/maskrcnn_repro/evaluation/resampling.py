"""Bootstrap of COCO's AP over the images, from one matching of detections with ground truth.

The AP of a set of images has a sampling error: other images of the same kind would give another AP. Drawing
the images again with replacement (the bootstrap) shows how large it is. Detections are matched with objects
within each image, so all draws share the matching; a draw only changes how often each image counts.

Shape legend: I images, D detections of one category, T IoU (or OKS) thresholds, B draws.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from maskrcnn_repro.errors import DataError
from maskrcnn_repro.evaluation.boundary import BoundaryEvaluation
from maskrcnn_repro.evaluation.mask_scores import FIELD as MASK_SCORE
from maskrcnn_repro.evaluation.mask_scores import scored_for
from maskrcnn_repro.evaluation.prediction_fields import check_field, is_number
from maskrcnn_repro.utils.files import other_than_file

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

# By pycocotools' own formula, as are the recalls: another one may differ in the last bit, and with it a match.
THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""T: COCO's IoU or OKS thresholds (fractions)."""
METRICS = {"AP": slice(0, 10), "AP50": slice(0, 1), "AP75": slice(5, 6)}
"""Name of a metric -> its thresholds."""
FIELDS = {
    "bbox": "bbox",
    "segm": "segmentation",
    "boundary": "segmentation",
    "keypoints": "keypoints",
}
"""Task -> the key of a detection that it needs."""
_RECALLS = np.linspace(0.0, 1.0, 101)
_AT_ONCE = 50
"""Draws that are computed at once; all of them would not fit into a processor's cache."""


@dataclass(frozen=True)
class CategoryMatches:
    """All detections of one category, highest score first, matched with the objects."""

    images: np.ndarray
    """(D,), int: index of each detection's image."""
    hits: np.ndarray
    """(T, D), bool: true positives."""
    misses: np.ndarray
    """(T, D), bool: false positives; a detection that COCO ignores (matched with a crowd) is neither."""
    objects: np.ndarray
    """(I,), int: number of objects in each image, crowds left out."""

    def precision(self, counts: np.ndarray) -> np.ndarray:
        """Return the average precision of each draw at each threshold, (B, T); NaN without any object.

        Args:
            counts: (B, I), how often each image counts in each draw.
        """
        total = (counts @ self.objects).astype(float)
        # Draws last: sums over detections then run along whole rows of memory.
        weights = counts.T[self.images].astype(float)
        seen = np.cumsum(weights, axis=0)
        precisions = [
            _mean_precision(weights[hits], seen[hits] - _sum_before(weights, ignored, hits), total)
            for hits, ignored in self._indices
        ]
        return np.where(total[:, None] > 0, np.stack(precisions, axis=1), np.nan)

    @cached_property
    def _indices(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Ascending indices of the hits and of the ignored detections, for each threshold."""
        ignored = ~(self.hits | self.misses)
        return [
            (np.flatnonzero(a), np.flatnonzero(b)) for a, b in zip(self.hits, ignored, strict=True)
        ]


def _sum_before(weights: np.ndarray, rows: np.ndarray, hits: np.ndarray) -> np.ndarray:
    """Return, for each hit, the sum of (D, B) ``weights`` over those of ``rows`` before it, (H, B)."""
    sums = np.cumsum(np.pad(weights[rows], ((1, 0), (0, 0))), axis=0)
    return sums[np.searchsorted(rows, hits)]


def _mean_precision(hits: np.ndarray, seen: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Return the interpolated precision averaged over COCO's 101 recalls, (B,).

    The precision at a recall is the highest at this recall or a higher one. Only hits are needed: between
    two of them recall stays the same and precision falls.

    Args:
        hits: (H, B), how often each hit counts, highest score first.
        seen: (H, B), how many detections count up to and including each hit.
        total: (B,), how many objects count.
    """
    true_positives = np.cumsum(hits, axis=0)
    # `spacing` as in COCO's code: with a weight of 0 nothing may have been seen.
    precision = true_positives / (seen + np.spacing(1))
    # From the last hit to the first: the highest precision at this recall or beyond.
    best = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    # "right": a recall that is met exactly is reached.
    reached = np.searchsorted(_RECALLS, true_positives / np.maximum(total, 1), side="right")
    return (best * np.diff(reached, axis=0, prepend=0)).sum(axis=0) / len(_RECALLS)


@dataclass(frozen=True)
class Matches:
    """A model's detections on a data set, matched with its objects.

    Attributes:
        image_ids: of the I images, in COCO's order.
        categories: matches of each category of the data set.
    """

    image_ids: tuple[int, ...]
    categories: tuple[CategoryMatches, ...]

    def average_precision(self, counts: np.ndarray | None = None) -> dict[str, float]:
        """Return the :data:`METRICS` in points, 0 to 100, over objects of all sizes.

        Args:
            counts: (I,), how often each image counts; by default once, which gives the numbers of COCO's code.
        """
        if counts is None:
            counts = np.ones(len(self.image_ids), dtype=int)
        return {name: float(values[0]) for name, values in self.resampled(counts[None]).items()}

    def resampled(self, draws: np.ndarray) -> dict[str, np.ndarray]:
        """Return each metric of each draw, (B,), in points; NaN for a draw without objects.

        Args:
            draws: (B, I), see :func:`draw_images`; use the same draws for a paired comparison of two models.
        """
        parts = [
            np.stack([c.precision(draws[start : start + _AT_ONCE]) for c in self.categories])
            for start in range(0, len(draws), _AT_ONCE)
        ]
        by_category = np.concatenate(parts, axis=1)
        # COCO's mean leaves out categories without objects; a draw may contain none of a category.
        counted = ~np.isnan(by_category).any(axis=2)
        sums = np.where(counted[:, :, None], by_category, 0).sum(axis=0)
        means = np.full_like(sums, np.nan)
        np.divide(sums, counted.sum(axis=0)[:, None], out=means, where=counted.any(axis=0)[:, None])
        return {name: 100 * means[:, at].mean(axis=1) for name, at in METRICS.items()}


def draw_images(images: int, draws: int, seed: int = 0) -> np.ndarray:
    """Draw as many images with replacement, B times; return how often each image occurs, (B, I), int."""
    chances = np.full(images, 1 / images)
    # How often each of I images occurs among I draws; which draw it was does not matter.
    return np.random.default_rng(seed).multinomial(images, chances, size=draws)


def match(
    truth: str | os.PathLike[str],
    predictions: str | os.PathLike[str],
    task: str,
    oks_sigmas: Iterable[float] = (),
    *,
    kind: type[COCOeval] = COCOeval,
    limit: int | None = None,
) -> Matches:
    """Match the detections of a COCO results file with the objects of a COCO data set.

    Args:
        truth: path of the data set's JSON.
        predictions: path of the results JSON.
        task: ``bbox``, ``segm``, ``boundary`` or ``keypoints``.
        oks_sigmas: one per keypoint; empty for COCO's own 17.
        kind: the evaluation that matches; of ``boundary`` the one of boundary IoU.
        limit: detections of a class in an image that count; by default COCO's own 100, 20 with keypoints.

    Raises:
        DataError: the results cannot be read, name images that the data set lacks, or hold something else than the task
            needs.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        # Within the redirection, because pycocotools prints its progress.
        coco = COCO(os.fspath(truth))
        results = _load_results(coco, Path(predictions), task)
        if task == "boundary":
            kind, task = BoundaryEvaluation, "segm"
        evaluation = kind(coco, results, task)
        sigmas = np.array(list(oks_sigmas))
        if len(sigmas):
            evaluation.params.kpt_oks_sigmas = sigmas
        if limit:
            evaluation.params.maxDets = [limit]
        # Only the first of COCO's four ranges of area, "all", is needed.
        evaluation.params.areaRng = evaluation.params.areaRng[:1]
        evaluation.params.areaRngLbl = evaluation.params.areaRngLbl[:1]
        evaluation.evaluate()
    image_ids = evaluation.params.imgIds
    per_image = iter(evaluation.evalImgs)
    categories = [[next(per_image) for _ in image_ids] for _ in evaluation.params.catIds]
    limit = evaluation.params.maxDets[-1]
    return Matches(
        tuple(int(image_id) for image_id in image_ids),
        tuple(join_images(category, limit) for category in categories),
    )


def _load_results(coco: COCO, path: Path, task: str) -> COCO:
    field = FIELDS[task]
    entries = scored_for(task, read_results(path, field, set(coco.getImgIds())))
    # COCO's code takes the area of the box, of all predictions if the first has one.
    boxed = all(entry.get("bbox") for entry in entries)
    fields = dict.fromkeys((field, "bbox") if boxed else (field,))
    for name in fields:
        check_field(path, entries, name, coco)
    # By the first one's fields it chooses, too, what the predictions are.
    kept = ("image_id", "category_id", "score", *fields)
    entries = [{name: entry[name] for name in kept} for entry in entries]
    if not entries:  # pycocotools cannot load an empty list
        # With the images of the data set, so that each counts as looked at.
        empty = COCO()
        empty.dataset = {**coco.dataset, "annotations": []}
        empty.createIndex()
        return empty
    try:
        return coco.loadRes(entries)
    except (TypeError, AttributeError) as error:
        raise _unreadable(path, error) from error


def read_results(path: Path, field: str | None, image_ids: Collection[int]) -> list[dict[str, Any]]:
    """Return the entries of a COCO results file.

    Args:
        path: of the file.
        field: of :data:`FIELDS`, which each entry needs beside its image, category and score; None for no other.
        image_ids: of the data set.

    Raises:
        DataError: the file cannot be read, an entry lacks a field, has a score that is no finite number, or is for
            another image.
    """
    if kind := other_than_file(path):
        raise _unreadable(path, f"it is {kind}")
    try:
        entries: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _unreadable(path, error) from error
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise _unreadable(path, "it is no list of objects (is it the file of the truth?)")
    needed = {"image_id", "category_id", "score"} | ({field} if field else set())
    missing = next((needed - entry.keys() for entry in entries if needed - entry.keys()), None)
    if missing:
        raise DataError(f"{path}: a prediction lacks {', '.join(sorted(missing))}.")
    for name in ("image_id", "category_id"):
        wrong = next(
            (entry[name] for entry in entries if type(entry[name]) not in (int, float, str)), None
        )
        if wrong is not None:
            raise DataError(f"{path}: the {name} {wrong!r:.100} of a prediction is no id.")
    for name in ("score", MASK_SCORE):
        scores = (entry[name] for entry in entries if name in entry)
        if wrongs := [value for value in scores if not is_number(value)]:
            raise DataError(f"{path}: the {name} {wrongs[0]!r:.100} of a prediction is no number.")
    is_known = {entry["image_id"] for entry in entries} <= set(image_ids)
    if not is_known:
        raise DataError(f"{path} holds predictions for images that are not in the data set.")
    return entries


def _unreadable(path: Path, error: Exception | str) -> DataError:
    reason = getattr(error, "strerror", None) or error
    return DataError(f"{path} cannot be read as COCO results: {reason}.")


def join_images(per_image: Sequence[dict | None], limit: int) -> CategoryMatches:
    """Return the matches of one category over all images, sorted by score as in COCO's code.

    Args:
        per_image: COCO's matches of each image, at the T thresholds; None if it has neither object nor detection.
        limit: detections per image that count.
    """
    numbered = [(index, matches) for index, matches in enumerate(per_image) if matches is not None]
    objects = np.zeros(len(per_image), dtype=int)
    for index, matches in numbered:
        objects[index] = int(np.sum(np.asarray(matches["gtIgnore"]) == 0))
    empty = np.zeros((len(THRESHOLDS), 0), dtype=bool)
    counts = [min(len(matches["dtScores"]), limit) for _, matches in numbered]
    scores = np.concatenate([[], *(matches["dtScores"][:limit] for _, matches in numbered)])
    matched, ignored = (
        np.concatenate([empty, *(m[key][:, :limit] for _, m in numbered)], axis=1).astype(bool)
        for key in ("dtMatches", "dtIgnore")
    )
    images = np.repeat([index for index, _ in numbered], counts).astype(int)
    # A stable sort, as in COCO's code: of equal scores the earlier image comes first.
    order = np.argsort(-scores, kind="mergesort")
    matched, ignored = matched[:, order], ignored[:, order]
    return CategoryMatches(images[order], matched & ~ignored, ~matched & ~ignored, objects)
