"""Objects to draw, from Detectron2's dataset dicts and from files of COCO results.

H, W = height and width of an image in pixels; boxes, masks and keypoints as in ``draw``.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from maskrcnn_repro.visualization.draw import Objects, Style

import numpy as np
from detectron2.data import Metadata
from detectron2.structures import BoxMode
from pycocotools import mask as coco_mask


def by_image(path: Path, threshold: float) -> dict[Any, list[dict[str, Any]]]:
    """Read the entries of a COCO results file with at least the score ``threshold``, by image id."""
    result = defaultdict(list)
    for entry in json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []:
        if entry["score"] >= threshold:
            result[entry["image_id"]].append(entry)
    return result


def ground_truth(record: Mapping[str, Any]) -> Objects:
    """Return the objects of a Detectron2 dataset dict, without crowds."""
    annotations = [a for a in record.get("annotations", ()) if not a.get("iscrowd", 0)]
    size = record["height"], record["width"]
    return Objects(
        boxes=_boxes([(a["bbox"], a["bbox_mode"]) for a in annotations]),
        classes=np.array([a["category_id"] for a in annotations], dtype=np.int64),
        masks=[decode(a["segmentation"], size) for a in annotations]
        if all(a.get("segmentation") for a in annotations)
        else (),
        keypoints=_keypoints(annotations, shift=0.0),
    )


def read_objects(
    entries: Sequence[Mapping[str, Any]], to_class: Mapping[int, int] | None
) -> Objects:
    """Return the objects of an image's entries in a COCO results file.

    Args:
        entries: of the image.
        to_class: category id in the file -> class; None if they are the same.
    """
    classes = [
        e["category_id"] if to_class is None else to_class[e["category_id"]] for e in entries
    ]
    return Objects(
        boxes=_boxes([(e["bbox"], BoxMode.XYWH_ABS) for e in entries]),
        classes=np.array(classes, dtype=np.int64),
        masks=[decode(e["segmentation"], None) for e in entries]
        if all("segmentation" in e for e in entries)
        else (),
        scores=np.array([e["score"] for e in entries]),
        # Detectron2's evaluator subtracts half a pixel, as COCO's keypoints are indices of pixels.
        keypoints=_keypoints(entries, shift=0.5),
    )


def decode(segmentation: Any, size: tuple[int, int] | None) -> np.ndarray:
    """Return the (H, W) bool mask of COCO polygons, which need the image's ``size``, or of an RLE."""
    return coco_mask.decode(encode_segmentation(segmentation, size)).astype(bool)


def encode_segmentation(segmentation: Any, size: tuple[int, int] | None) -> dict[str, Any]:
    """Return COCO polygons, which need the image's ``size``, or either kind of RLE as a compressed RLE."""
    if isinstance(segmentation, list):
        assert size is not None
        segmentation = coco_mask.merge(coco_mask.frPyObjects(segmentation, *size))
    elif isinstance(segmentation["counts"], list):
        segmentation = coco_mask.frPyObjects(segmentation, *segmentation["size"])
    rle: dict[str, Any] = segmentation
    return rle


def style_of(metadata: Metadata) -> Style:
    """Return the class names and the skeleton of a data set."""
    points = list(metadata.get("keypoint_names") or ())
    rules = metadata.get("keypoint_connection_rules") or ()
    return Style(
        names=list(metadata.get("thing_classes") or ()),
        edges=[(points.index(a), points.index(b), tuple(color)) for a, b, color in rules],
    )


def _boxes(boxes: Sequence[tuple[Any, BoxMode]]) -> np.ndarray:
    rows = [BoxMode.convert(list(box), mode, BoxMode.XYXY_ABS) for box, mode in boxes]
    return np.array(rows, dtype=np.float64).reshape(-1, 4)


def _keypoints(entries: Sequence[Mapping[str, Any]], shift: float) -> np.ndarray | None:
    rows = [entry["keypoints"] for entry in entries if entry.get("keypoints")]
    if not rows or len(rows) < len(entries):
        return None
    points = np.array(rows, dtype=np.float64).reshape(len(rows), -1, 3)
    points[..., :2] += shift
    return points
