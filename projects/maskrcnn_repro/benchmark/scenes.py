"""Reproducible images with annotations, in the form that Detectron2's models take.

Coordinates are absolute pixels of the image, boxes (x1, y1, x2, y2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pycocotools.mask
import torch
from detectron2.structures import BitMasks, Boxes, Instances, Keypoints, PolygonMasks

NUM_KEYPOINTS = 17


@dataclass(frozen=True)
class Scene:
    """An image and its objects."""

    image: np.ndarray
    """(3, height, width) uint8, BGR."""
    boxes: np.ndarray
    """(objects, 4) float64."""
    polygons: list[list[float]]
    """An octagon in each box: x, y, x, y, ..."""
    keypoints: np.ndarray
    """(objects, 17, 3) float64: x, y, visibility (0 not labelled, 1 hidden, 2 visible)."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.image.shape[1], self.image.shape[2]


def scene(index: int, height: int, width: int, objects: int = 5) -> Scene:
    """Return scene number ``index``, the same on every machine."""
    # Raw integers: the streams of numpy's distributions may change with its version.
    source = np.random.PCG64(index + 1)
    boxes = np.stack([_box(source, height, width) for _ in range(objects)])
    polygons = [_octagon(box) for box in boxes]
    image = _ground(index, height, width)
    for number, polygon in enumerate(polygons):
        mask = decode([polygon], height, width)
        image[:, mask] = (
            image[:, mask] // 2 + np.array([[37], [91], [53]]) * (number + 1) % 128
        ) % 256
    keypoints = np.stack([_points_in(source, box) for box in boxes])
    return Scene(image.astype(np.uint8), boxes, polygons, keypoints)


def decode(polygons: list[list[float]], height: int, width: int) -> np.ndarray:
    """Return the pixels of COCO polygons as a (height, width) bool array."""
    rles = pycocotools.mask.frPyObjects(polygons, height, width)
    return pycocotools.mask.decode(pycocotools.mask.merge(rles)).astype(bool)


def model_input(
    scene: Scene,
    *,
    num_classes: int,
    mask_format: str = "polygon",
    keypoints: bool = False,
    output_scale: float = 1.0,
) -> dict[str, Any]:
    """Return the model's input for a scene, with ground truth.

    Args:
        scene: the image.
        num_classes: object number k gets the class ``(7 * k + 1) % num_classes``.
        mask_format: ``polygon``, ``bitmask``, or an empty string for no masks.
        keypoints: whether to add keypoints.
        output_scale: side of the model's output over that of the image.
    """
    height, width = scene.size
    truth = Instances((height, width))
    truth.gt_boxes = Boxes(torch.from_numpy(scene.boxes).float())
    truth.gt_classes = (7 * torch.arange(len(scene.boxes)) + 1) % num_classes
    if mask_format == "polygon":
        truth.gt_masks = PolygonMasks([[np.array(polygon)] for polygon in scene.polygons])
    elif mask_format == "bitmask":
        masks = np.stack([decode([polygon], height, width) for polygon in scene.polygons])
        truth.gt_masks = BitMasks(torch.from_numpy(masks))
    if keypoints:
        truth.gt_keypoints = Keypoints(torch.from_numpy(scene.keypoints).float())
    return {
        "image": torch.from_numpy(scene.image),
        "instances": truth,
        "height": round(height * output_scale),
        "width": round(width * output_scale),
    }


def _ground(index: int, height: int, width: int) -> np.ndarray:
    """Return a background of slow and fast waves, (3, height, width) int64 in 0..255."""
    c, y, x = np.ogrid[:3, :height, :width]
    slow = (x * (3 + index) + y * (5 - index) + 40 * c) // 4 + (x * y) // (16 + 8 * c)
    fast = (x * x + 3 * y * y + 11 * x * y + 17 * c * x) // 32
    return 128 + (np.abs(slow % 160 - 80) - 40) + (np.abs(fast % 96 - 48) - 24)


def _box(source: np.random.PCG64, height: int, width: int) -> np.ndarray:
    """Return a box with sides of one sixth to two thirds of the image's."""
    # Corners on 64ths of pixels: anchors are on whole ones, and ties between anchors would be broken by the
    # last bit.
    corner = []
    for side in (width, height):
        low, high = 64 * side // 6, 64 * side * 2 // 3
        length = low + int(source.random_raw()) % (high - low)
        start = int(source.random_raw()) % (64 * side - length)
        corner.append((start / 64, (start + length) / 64))
    (x1, x2), (y1, y2) = corner
    return np.array([x1, y1, x2, y2])


def _octagon(box: np.ndarray) -> list[float]:
    x1, y1, x2, y2 = box.tolist()
    dx, dy = (x2 - x1) / 4, (y2 - y1) / 4
    xs = [x1 + dx, x2 - dx, x2, x2, x2 - dx, x1 + dx, x1, x1]
    ys = [y1, y1, y1 + dy, y2 - dy, y2, y2, y2 - dy, y1 + dy]
    return [float(value) for point in zip(xs, ys, strict=True) for value in point]


def _points_in(source: np.random.PCG64, box: np.ndarray) -> np.ndarray:
    fractions = np.asarray(source.random_raw(2 * NUM_KEYPOINTS) % 64).reshape(-1, 2) / 64
    points = box[:2] + fractions * (box[2:] - box[:2])
    visibility = np.arange(NUM_KEYPOINTS) % 3
    points[visibility == 0] = 0
    return np.column_stack([points, visibility])
