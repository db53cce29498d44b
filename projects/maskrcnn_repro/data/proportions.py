"""How a data set compares with another: numbers, sizes in cells, overlap, truncation and mask fill of its objects."""

from __future__ import annotations

import math
from collections.abc import Iterator

from maskrcnn_repro.data.check.scan import Scan
from maskrcnn_repro.data.check.sizes import resize_factors
from maskrcnn_repro.data.statistics import Statistics
from maskrcnn_repro.data.thin_parts import outline_mask, thin_share

import numpy as np
from pycocotools import mask as coco_mask

QUANTILES = (10, 25, 50, 75, 90)
"""In percent."""

OVERLAPS = (0.1, 0.3)
"""IoU with the box of another object, above which objects are counted."""

PAPERS_RATIO = 1333 / 800
"""Most pixels of an image's longer side over those of its shorter one after the paper's resize."""

NOTHING = "\N{EN DASH}"
"""Where there is nothing to count."""

_BORDER = 1.0
"""Pixels of the file between a box and the border that it touches: COCO's boxes are rounded."""


def measure_proportions(scan: Scan, short: int = 0, cell: int = 16) -> dict[str, tuple[float, ...]]:
    """Return statistics by name: one number, or one for each of :data:`QUANTILES`, NaN where there is nothing to count.

    Crowds and boxes without an area are no objects.

    Args:
        scan: a complete one without an error.
        short: pixels of an image's shorter side after the resize at test, the longer one at most
            :data:`PAPERS_RATIO` as long; 0 leaves its size.
        cell: stride of the feature map in pixels.
    """
    statistics, objects = Statistics.of(scan), scan.objects
    assert objects is not None
    boxes, counts, images = objects.boxes[objects.single], statistics.counts, statistics.images
    longest = round(short * PAPERS_RATIO)
    sides = statistics.resized(short, longest) / cell
    classes = np.unique(np.stack([images, objects.categories[objects.single]]), axis=1)[0]
    factors = resize_factors(statistics.sizes, short, longest)
    areas, thin = _masks(scan, cell / factors)
    fill = areas / statistics.sides.prod(axis=1)[statistics.outlined]
    overlaps = _largest_overlaps(boxes, images, len(counts))
    return {
        "images": (len(counts),),
        "objects": (len(boxes),),
        "crowds": (int(objects.crowd.sum()),),
        "classes": (len(scan.class_names),),
        "images without object, %": (_percent(counts == 0),),
        "images with one object, %": (_percent(counts == 1),),
        "images with ten objects or more, %": (_percent(counts >= 10),),
        "objects per image": _quantiles(counts),
        "classes per image": _quantiles(np.bincount(classes, minlength=len(counts))),
        "longer side, cells": _quantiles(sides.max(axis=1)),
        "root of box area, cells": _quantiles(np.sqrt(sides.prod(axis=1))),
        **{
            f"box IoU with another > {least}, %": (_percent(overlaps > least),)
            for least in OVERLAPS
        },
        "boxes at the border, %": (_percent(_touches(boxes, statistics.sizes[images])),),
        "mask over box area, %": _quantiles(100 * fill),
        "mask in parts thinner than a cell, %": _quantiles(100 * thin[areas > 0]),
    }


def lines(columns: list[dict[str, tuple[float, ...]]]) -> Iterator[list[str]]:
    """Yield the lines of a table: a name, and a cell of each column with its numbers."""
    for name in columns[0]:
        yield [name, *(_format_numbers(column[name]) for column in columns)]


def _format_numbers(numbers: tuple[float, ...]) -> str:
    if math.isnan(numbers[0]):
        return NOTHING
    return " ".join(f"{x:.0f}" if x >= 100 else f"{x:.3g}" for x in numbers)


def _largest_overlaps(boxes: np.ndarray, images: np.ndarray, count: int) -> np.ndarray:
    """Return of each box the largest IoU with another of its image, 0 without any."""
    order = np.argsort(images, kind="stable")
    result = np.zeros(len(boxes))
    for rows in np.split(order, np.searchsorted(images[order], np.arange(1, count))):
        if len(rows) > 1:
            ious = coco_mask.iou(boxes[rows], boxes[rows], [0] * len(rows))
            np.fill_diagonal(ious, 0)
            result[rows] = ious.max(axis=1)
    return result


def _masks(scan: Scan, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return of each outlined object's mask its pixels, and the share of them in thin parts, 0 without a pixel.

    Args:
        scan: as in :func:`measure_proportions`.
        cells: (M,) a cell in pixels of each image.
    """
    assert scan.objects is not None
    assert scan.sizes is not None
    assert scan.tree is not None
    outlined = scan.objects.single & ~np.isnan(scan.objects.bounds[:, 0])
    areas, shares = [], []
    for row in np.flatnonzero(outlined).tolist():
        image = scan.objects.images[row]
        width, height = scan.sizes[image].tolist()
        mask = outline_mask(scan.tree["annotations"][row]["segmentation"], height, width)
        areas.append(int(mask.sum()))
        side = max(round(float(cells[image])), 1)
        shares.append(thin_share(mask, side) if areas[-1] else 0.0)
    return np.array(areas), np.array(shares)


def _touches(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    ends = boxes[:, :2] + boxes[:, 2:]
    near = (boxes[:, :2] <= _BORDER) | (ends >= sizes - _BORDER)
    return np.asarray(near.any(axis=1))


def _percent(chosen: np.ndarray) -> float:
    return 100 * float(chosen.mean()) if len(chosen) else float("nan")


def _quantiles(values: np.ndarray) -> tuple[float, ...]:
    if not len(values):
        return (float("nan"),) * len(QUANTILES)
    return tuple(np.percentile(values, QUANTILES).tolist())
