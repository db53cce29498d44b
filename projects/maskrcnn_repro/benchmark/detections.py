"""Generated ground truth and detections in COCO's formats and proportions, for benchmarks of the evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

HEIGHT, WIDTH = 480, 640
OBJECTS_PER_IMAGE = 7.36
"""Of val2017: 36,781 in 5,000 images."""
CATEGORIES = 80
CROWDS = 0.012
HITS = 0.6
"""Share of detections that lie near an object."""
_CORNERS = 24


@dataclass(frozen=True)
class Shapes:
    """N ellipses, of which ``boxes`` (N, 4) are xyxy, pixels."""

    images: np.ndarray
    categories: np.ndarray
    boxes: np.ndarray


def ground_truth(images: int, seed: int = 0) -> tuple[dict[str, Any], Shapes]:
    """Return a COCO data set of that many images, and its objects.

    Args:
        images: their number.
        seed: of the random numbers.
    """
    random = np.random.default_rng(seed)
    count = round(OBJECTS_PER_IMAGE * images)
    shares = 1 / np.arange(1, CATEGORIES + 1)
    shapes = Shapes(
        np.sort(random.integers(1, images + 1, count)),
        random.choice(np.arange(1, CATEGORIES + 1), count, p=shares / shares.sum()),
        _boxes(random, count),
    )
    crowds = random.random(count) < CROWDS
    annotations = [
        entry | {"id": number, "iscrowd": int(crowd), "area": float(coco_mask.area(_bytes(entry)))}
        for number, (entry, crowd) in enumerate(zip(_entries(shapes), crowds, strict=True), 1)
    ]
    data = {
        "info": {},
        "images": [{"id": n, "height": HEIGHT, "width": WIDTH} for n in range(1, images + 1)],
        "categories": [{"id": n, "name": f"class {n}"} for n in range(1, CATEGORIES + 1)],
        "annotations": annotations,
    }
    return data, shapes


def detections(objects: Shapes, images: int, count: int, seed: int = 1) -> list[dict[str, Any]]:
    """Return that many detections in COCO's result format: objects that are moved a little, and others.

    Args:
        objects: of the ground truth.
        images: their number.
        count: of the detections.
        seed: of the random numbers.
    """
    random = np.random.default_rng(seed)
    near = round(HITS * count)
    chosen = random.integers(0, len(objects.boxes), near)
    moved = objects.boxes[chosen]
    sides = np.tile(moved[:, 2:] - moved[:, :2], 2)
    moved = _select_inside(moved + 0.12 * sides * random.standard_normal(moved.shape))
    shapes = Shapes(
        np.concatenate([objects.images[chosen], random.integers(1, images + 1, count - near)]),
        np.concatenate(
            [objects.categories[chosen], random.integers(1, CATEGORIES + 1, count - near)]
        ),
        np.concatenate([moved, _boxes(random, count - near)]),
    )
    scores = random.random(count)
    return [
        entry | {"score": float(score)}
        for entry, score in zip(_entries(shapes), scores, strict=True)
    ]


def _boxes(random: np.random.Generator, count: int) -> np.ndarray:
    """Return boxes (N, 4) whose sides are spread as COCO's: two fifths of the objects are small."""
    sides = np.exp(random.normal(np.log(0.1), 0.9, (count, 2))).clip(0.01, 1)
    sides *= [WIDTH, HEIGHT]
    corner = random.random((count, 2)) * ([WIDTH, HEIGHT] - sides)
    return np.concatenate([corner, corner + sides], axis=1)


def _select_inside(boxes: np.ndarray) -> np.ndarray:
    first = boxes[:, :2].clip(0, [WIDTH - 4, HEIGHT - 4])
    last = np.maximum(boxes[:, 2:], first + 3).clip(None, [WIDTH, HEIGHT])
    return np.concatenate([first, last], axis=1)


def _entries(shapes: Shapes) -> list[dict[str, Any]]:
    """Return each ellipse as an annotation with its image, category, box (xywh) and RLE."""
    turn = np.linspace(0, 2 * np.pi, _CORNERS, endpoint=False)
    circle = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    halves = (shapes.boxes[:, 2:] - shapes.boxes[:, :2]) / 2
    outlines = (shapes.boxes[:, :2] + halves)[:, None] + halves[:, None] * circle
    rles = coco_mask.frPyObjects(outlines.reshape(len(halves), -1).tolist(), HEIGHT, WIDTH)
    boxes = np.concatenate([shapes.boxes[:, :2], 2 * halves], axis=1).tolist()
    columns = zip(shapes.images.tolist(), shapes.categories.tolist(), boxes, rles, strict=True)
    return [
        {
            "image_id": image,
            "category_id": category,
            "bbox": box,
            "segmentation": {"size": list(rle["size"]), "counts": rle["counts"].decode("ascii")},
        }
        for image, category, box, rle in columns
    ]


def _bytes(entry: dict[str, Any]) -> dict[str, Any]:
    rle = entry["segmentation"]
    return {"size": rle["size"], "counts": rle["counts"].encode("ascii")}
