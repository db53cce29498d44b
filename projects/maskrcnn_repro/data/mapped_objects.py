"""Objects of an image moved all at once, where every step of the augmentation moves points one by one.

The numbers are those of Detectron2, which calls each step anew for each box and polygon.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import chain
from typing import Any

from maskrcnn_repro.data.densepose.annotation import SurfacePoints
from maskrcnn_repro.data.densepose.surface import Mirror
from maskrcnn_repro.data.densepose.targets import SurfaceTargets

import numpy as np
import torch
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T
from detectron2.structures import BoxMode, Instances

_POINTWISE = (T.ResizeTransform, T.HFlipTransform, T.VFlipTransform, T.NoOpTransform)
"""Steps that move a polygon by moving its corners."""


def instances_at_once(
    objects: Sequence[dict[str, Any]], transforms: T.TransformList, image_size: tuple[int, int]
) -> Instances | None:
    """Return what Detectron2 makes of annotated objects with polygons, those with an empty box left out.

    Args:
        objects: annotations, at least one, no crowds; they are not changed.
        transforms: what was done to the image.
        image_size: (H, W) of the result, in pixels.

    Returns:
        None where Detectron2 has to look at the objects one by one: a step that is not known, masks that are not
        polygons, coordinates that are integers (which Detectron2 moves as such).
    """
    steps = transforms.transforms
    if not all(isinstance(step, _POINTWISE) for step in steps):
        return None
    outlines: list[Any] = [each.get("segmentation") for each in objects]
    boxes = _boxes(objects)
    if boxes is None or not all(isinstance(outline, list) for outline in outlines):
        return None
    polygons = [np.array(polygon) for polygon in chain.from_iterable(outlines)]
    if not polygons or any(p.dtype != np.float64 or p.ndim != 1 or p.size % 2 for p in polygons):
        return None
    points = np.concatenate(polygons).reshape(-1, 2)
    corners = boxes[:, [0, 1, 2, 1, 0, 3, 2, 3]].reshape(-1, 2)
    for step in steps:
        points, corners = step.apply_coords(points), step.apply_coords(corners)
    parts = iter(np.split(points.ravel(), np.cumsum([len(p) for p in polygons])[:-1]))
    by_object = corners.reshape(-1, 4, 2)
    ends = [by_object.min(axis=1), by_object.max(axis=1)]
    moved = np.concatenate(ends, axis=1).clip(min=0)
    moved = np.minimum(moved, 2 * image_size[::-1])
    annotations = [
        {
            "bbox": box,
            "bbox_mode": BoxMode.XYXY_ABS,
            "category_id": each["category_id"],
            "segmentation": [next(parts) for _ in outline],
        }
        for each, box, outline in zip(objects, moved, outlines, strict=True)
    ]
    return utils.filter_empty_instances(utils.annotations_to_instances(annotations, image_size))


def instances_with_surfaces(
    objects: Sequence[dict[str, Any]],
    transforms: T.TransformList,
    image_size: tuple[int, int],
    *,
    mirror: Mirror | None,
    mask_format: str,
    keypoint_flip: Sequence[int] | None,
) -> Instances:
    """Return what Detectron2 makes of annotated objects, with surface coordinates as ``gt_densepose``.

    Args:
        objects: annotations, no crowds; they are not changed.
        transforms: what was done to the image: resized, or mirrored left to right.
        image_size: (H, W) of the result, in pixels.
        mirror: of the surface; None where no step mirrors the image.
        mask_format: ``"polygon"`` or ``"bitmask"``.
        keypoint_flip: places of the keypoints in a mirrored image.
    """
    moved = [
        utils.transform_instance_annotations(
            copy.deepcopy(each), transforms, image_size, keypoint_hflip_indices=keypoint_flip
        )
        for each in objects
    ]
    instances = utils.annotations_to_instances(moved, image_size, mask_format)
    surfaces = [SurfacePoints.read(each) for each in objects]
    if sum(isinstance(step, T.HFlipTransform) for step in transforms.transforms) % 2:
        assert mirror is not None
        surfaces = [surface and surface.mirrored(mirror) for surface in surfaces]
    # Relative to the box, they stay where they are when the image is resized.
    instances.gt_densepose = SurfaceTargets.of(surfaces)
    return utils.filter_empty_instances(instances)


def _boxes(objects: Sequence[dict[str, Any]]) -> np.ndarray | None:
    """Return the boxes as (N, 4) xyxy, None if they are not lists of floats of one mode."""
    boxes, modes = [each["bbox"] for each in objects], {each["bbox_mode"] for each in objects}
    if len(modes) > 1 or not all(
        isinstance(box, list | tuple) and len(box) == 4 and any(isinstance(v, float) for v in box)
        for box in boxes
    ):
        return None
    mode = modes.pop()
    if mode == BoxMode.XYXY_ABS:
        return np.array(boxes)
    if mode != BoxMode.XYWH_ABS:
        return None
    # In float32, as Detectron2 converts a list.
    converted = BoxMode.convert(torch.tensor(boxes), mode, BoxMode.XYXY_ABS)
    return np.array(converted.tolist())
