"""The object that is pictured: a part of its image, and the outlines in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from maskrcnn_repro.data.image_file import ImageFiles
from maskrcnn_repro.roi_ops import RoIOperation
from maskrcnn_repro.tables.report.exchange.masks import Compared, Masks
from maskrcnn_repro.tables.report.exchange.model import ALIGN, ByOperation, Outline, Pictured
from maskrcnn_repro.tables.report.exchange.shifts import round_boxes
from maskrcnn_repro.utils.rle import RLE, encode_mask
from maskrcnn_repro.visualization.encoding import encode_picture

import numpy as np
import torch
from pycocotools import mask as coco_mask

MARGIN = 1.5
"""Cells around the object and the RoIs."""
LONGEST = 512
"""Pixels of the picture's longer side, at most."""


def picture(
    shown: Compared, operations: Mapping[str, RoIOperation], files: ImageFiles, names: Sequence[str]
) -> tuple[Pictured, bytes]:
    """Return what is shown of an object, and the part of its image as a PNG.

    Args:
        shown: the object.
        operations: those of the same weights.
        files: reads the image.
        names: of the classes.

    Raises:
        ImageError: the image cannot be read.
    """
    record = shown.record
    image = files.read(record["file_name"], "RGB", (record["height"], record["width"]))
    scale = np.array(shown.scale)
    cell = 1 / operations[ALIGN].spatial_scale / scale
    roi = shown.roi / np.tile(scale, 2)
    boxes = {
        name: round_boxes(operation, torch.as_tensor(shown.roi)[None])[0].cpu().numpy()
        / np.tile(scale, 2)
        for name, operation in operations.items()
    }
    x, y, width, height = coco_mask.toBbox(shown.truth)
    crop = _crop([roi, *boxes.values(), np.array([x, y, x + width, y + height])], cell, image.shape)
    # Without the shift by half a pixel the first cell's centre is pixel 0.
    origin = cell * (0.0 if operations[ALIGN].half_pixel else -0.5)
    pictured = Pictured(
        image=Path(record["file_name"]).name,
        name=names[shown.category],
        crop=crop,
        cell=_round(cell),
        origin=_round(origin),
        roi=_round(roi),
        rounded={name: _round(box) for name, box in boxes.items()},
        truth=_outline(shown.truth, crop, 1.0),
        exchanged=_outlines(shown.exchanged, crop, shown.exchanged_iou),
        trained=_outlines(shown.trained, crop, shown.trained_iou),
    )
    left, top, right, bottom = crop
    return pictured, encode_picture(
        image[top:bottom, left:right], "PNG", longest=LONGEST, optimize=True
    )


def _crop(
    boxes: Sequence[np.ndarray], cell: np.ndarray, shape: tuple[int, ...]
) -> tuple[int, int, int, int]:
    """Return the part of an image about some boxes, whole pixels."""
    corners = np.stack(boxes)
    low = np.floor(corners[:, :2].min(axis=0) - MARGIN * cell).clip(0)
    high = np.ceil(corners[:, 2:].max(axis=0) + MARGIN * cell).clip(None, [shape[1], shape[0]])
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def _round(values: np.ndarray) -> Any:
    """Return numbers as a tuple as long as they are, for a file."""
    return tuple(round(float(value), 3) for value in values)


def _outlines(masks: Masks, crop: Sequence[int], ious: ByOperation) -> dict[str, Outline]:
    return {name: _outline(mask, crop, ious[name]) for name, mask in masks.items()}


def _outline(mask: RLE, crop: Sequence[int], iou: float) -> Outline:
    left, top, right, bottom = crop
    part = encode_mask(coco_mask.decode(mask)[top:bottom, left:right])
    return Outline(tuple(part["size"]), part["counts"], round(iou, 4))
