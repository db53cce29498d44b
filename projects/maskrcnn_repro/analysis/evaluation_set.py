"""A data set's objects and a model's detections as arrays, read from a COCO file and a COCO results file.

Shape legend: I images, C classes, G ground-truth objects, D detections. Boxes are COCO's: left, top, width, height
in pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskrcnn_repro.data.check.judge import judge
from maskrcnn_repro.data.check.scan import scan_coco
from maskrcnn_repro.errors import DataError
from maskrcnn_repro.evaluation.mask_scores import scored_for
from maskrcnn_repro.evaluation.resampling import FIELDS, read_results
from maskrcnn_repro.evaluation.traps import LIMITS
from maskrcnn_repro.visualization.coco_objects import encode_segmentation

import numpy as np
from pycocotools import mask as rle_codec

Region = Any
"""A (4,) box, or a mask as COCO's compressed run-length encoding."""
Regions = np.ndarray | list[Region]


@dataclass(frozen=True)
class Truth:
    """The objects, in the file's order.

    Attributes:
        images: (G,) int, place in ``image_ids``.
        categories: (G,) int, place in ``class_names``.
        areas: (G,) float, as the file says, in square pixels.
        crowd: (G,) bool, whether any number of detections may lie in it.
        ignored: (G,) bool: crowds, and objects marked ``ignore``.
        regions: G of them.
    """

    images: np.ndarray
    categories: np.ndarray
    areas: np.ndarray
    crowd: np.ndarray
    ignored: np.ndarray
    regions: Regions


@dataclass(frozen=True)
class Detections:
    """The detections that count, by image, class and falling score.

    Attributes:
        images: (D,) int, as in :class:`Truth`.
        categories: (D,) int.
        scores: (D,) float.
        areas: (D,) float, of the region, in square pixels.
        regions: D of them.
    """

    images: np.ndarray
    categories: np.ndarray
    scores: np.ndarray
    areas: np.ndarray
    regions: Regions


@dataclass(frozen=True)
class EvaluationSet:
    """What is compared.

    Attributes:
        task: ``bbox`` or ``segm``.
        image_ids: I ids, ascending.
        files: I paths.
        sizes: (I, 2) int, width and height of the images in pixels.
        class_names: C names, by ascending id of the category.
        truth: the objects.
        detections: of the model.
        limit: detections of a class in an image that count, those with the highest scores.
        dropped: how many detections do not count: beyond that limit, or of categories that the data set lacks.
        keypoint_names: of the objects, where every detection has keypoints, too; else empty.
    """

    task: str
    image_ids: Sequence[int]
    files: Sequence[str]
    sizes: np.ndarray
    class_names: Sequence[str]
    truth: Truth
    detections: Detections
    limit: int
    dropped: int
    keypoint_names: Sequence[str] = ()

    @property
    def objects(self) -> np.ndarray:
        """(C,) int, how many objects of each class count."""
        counted = self.truth.categories[~self.truth.ignored]
        return np.bincount(counted, minlength=len(self.class_names))


def read_set(
    truth: Path, results: Path, images: Path | None = None, task: str | None = None
) -> EvaluationSet:
    """Read a COCO file and the detections in its images.

    Args:
        truth: the data set's JSON.
        results: COCO results JSON.
        images: folder of the images; by default that of ``truth``.
        task: ``bbox`` or ``segm``; by default masks where both files have them.

    Raises:
        DataError: a file cannot be read, or they do not belong together.
    """
    scan = scan_coco(truth, images or truth.parent, headers=False)
    judge(scan.findings, ("test",), frozenset(), lambda row: row.same_everywhere)
    entries = read_results(results, None, set(scan.image_ids))
    annotations = (scan.tree or {})["annotations"]
    task = _task(task, annotations, entries, truth, results)
    entries = scored_for(task, entries)
    order = np.argsort(scan.image_ids, kind="stable")
    place = {scan.image_ids[index]: number for number, index in enumerate(order)}
    category = {identity: number for number, identity in enumerate(scan.class_names)}
    sizes = np.asarray(scan.sizes)[order] if len(order) else np.zeros((0, 2), np.int64)
    objects = _read_truth(annotations, place, category, sizes, task)
    limit = _limit(objects, entries, place, category, task)
    if task == "segm":
        _check_sizes(entries, dict(zip(place, sizes.tolist(), strict=True)), results)
    detections = _detections(entries, place, category, task, limit, results)
    posed = bool(entries) and all(entry.get("keypoints") for entry in entries)
    return EvaluationSet(
        task=task,
        image_ids=[scan.image_ids[index] for index in order],
        files=[scan.files[index] for index in order],
        sizes=sizes,
        class_names=list(scan.class_names.values()),
        truth=objects,
        detections=detections,
        limit=limit,
        dropped=len(entries) - len(detections.scores),
        keypoint_names=scan.keypoint_names if posed else (),
    )


def _task(
    asked: str | None,
    annotations: Sequence[Any],
    entries: Sequence[Any],
    truth: Path,
    results: Path,
) -> str:
    outlined = all(a.get("segmentation") or a.get("iscrowd") for a in annotations)
    masked = bool(entries) and all(e.get("segmentation") for e in entries)
    if asked is None:
        return "segm" if outlined and (masked or not entries) else "bbox"
    if asked == "segm" and not (outlined and (masked or not entries)):
        without = results if outlined else truth
        raise DataError(
            f"{without} does not have a mask for each object; compare boxes with --task bbox."
        )
    return asked


def _read_truth(
    annotations: Sequence[Mapping[str, Any]],
    place: Mapping[int, int],
    category: Mapping[int, int],
    sizes: np.ndarray,
    task: str,
) -> Truth:
    images = np.array([place[a["image_id"]] for a in annotations], np.int64)
    crowd = np.array([a.get("iscrowd", 0) for a in annotations], bool)
    regions: Regions
    if task == "bbox":
        regions = _boxes(annotations)
    else:
        regions = [
            encode_segmentation(
                a.get("segmentation") or [_corners(a["bbox"])], (int(height), int(width))
            )
            for a, (width, height) in zip(annotations, sizes[images], strict=True)
        ]
    return Truth(
        images=images,
        categories=np.array([category[a["category_id"]] for a in annotations], np.int64),
        areas=np.array([a["area"] for a in annotations], np.float64),
        crowd=crowd,
        ignored=crowd | np.array([bool(a.get("ignore")) for a in annotations], bool),
        regions=regions,
    )


def _detections(
    entries: Sequence[Mapping[str, Any]],
    place: Mapping[int, int],
    category: Mapping[int, int],
    task: str,
    limit: int,
    results: Path,
) -> Detections:
    # COCO's code leaves out detections of categories that the data set lacks.
    entries = [entry for entry in entries if entry["category_id"] in category]
    images = np.array([place[e["image_id"]] for e in entries], np.int64)
    categories = np.array([category[e["category_id"]] for e in entries], np.int64)
    scores = np.array([entry["score"] for entry in entries], np.float64)
    order = np.lexsort((-scores, categories, images))
    rows = order[ranks(images[order], categories[order]) < limit]
    chosen = [entries[row] for row in rows]
    try:
        regions: Regions
        regions = _boxes(chosen) if task == "bbox" else [_mask(e["segmentation"]) for e in chosen]
        areas = _areas(regions, task)
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
        raise DataError(
            f"{results}: a {FIELDS[task]} of a prediction is not COCO's: {error}."
        ) from error
    return Detections(images[rows], categories[rows], scores[rows], areas, regions)


def _check_sizes(
    entries: Sequence[Mapping[str, Any]], sizes: Mapping[int, Sequence[int]], results: Path
) -> None:
    """Raise DataError unless masks are as large as their images (``sizes``: width, height), before they are decoded."""
    for entry in entries:
        mask, (width, height) = entry["segmentation"], sizes[entry["image_id"]]
        if isinstance(mask, dict) and mask.get("size") != [height, width]:
            raise DataError(
                f"{results}: the RLE of a prediction for image {entry['image_id']} has the size {mask.get('size')!r:.80}, "
                f"but the image has {[height, width]} (height, width)."
            )


def ranks(*groups: np.ndarray) -> np.ndarray:
    """Return the place of each row among the rows of its group, (N,) int, from 0.

    Args:
        *groups: (N,) each; rows that are equal in all of them stand together and are a group.
    """
    count = len(groups[0])
    starts = np.ones(count, bool)
    starts[1:] = np.logical_or.reduce([group[1:] != group[:-1] for group in groups])
    places = np.arange(count)
    return places - np.maximum.accumulate(np.where(starts, places, 0))


def _limit(
    truth: Truth,
    entries: Sequence[Mapping[str, Any]],
    place: Mapping[int, int],
    category: Mapping[int, int],
    task: str,
) -> int:
    """Return COCO's limit, or that of the corrected AP where more objects of a class lie in an image."""
    counted = np.stack([truth.images, truth.categories], axis=1)[~truth.crowd]
    fullest = np.unique(counted, axis=0, return_counts=True)[1].max(initial=0)
    kept = np.bincount([place[e["image_id"]] for e in entries], minlength=1).max()
    return max(LIMITS[task], int(kept)) if fullest > LIMITS[task] else LIMITS[task]


def _boxes(entries: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Return boxes of COCO's entries, (N, 4), x, y, width, height in pixels; raise ValueError for what is none."""
    boxes = np.array([entry["bbox"] for entry in entries], np.float64)
    if entries and (boxes.shape != (len(entries), 4) or not np.isfinite(boxes).all()):
        raise ValueError("a box has four finite numbers")
    return boxes.reshape(-1, 4)


def _corners(box: Sequence[float]) -> list[float]:
    left, top, width, height = box
    return [left, top, left + width, top, left + width, top + height, left, top + height]


def _mask(segmentation: Any) -> Region:
    if isinstance(segmentation, list):
        raise TypeError("a polygon, not a run-length encoding")
    return encode_segmentation(segmentation, None)


def _areas(regions: Regions, task: str) -> np.ndarray:
    if task == "bbox":
        return np.asarray(regions)[:, 2] * np.asarray(regions)[:, 3]
    # One by one: pycocotools cannot take more than 255 at a time with NumPy 2.
    return np.array([rle_codec.area(region) for region in regions], np.float64)
