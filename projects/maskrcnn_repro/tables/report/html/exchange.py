"""One object under RoIPool, RoIWarp and RoIAlign, with what is rounded, and the same in numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from maskrcnn_repro.tables.report.exchange.files import Stored, is_of
from maskrcnn_repro.tables.report.exchange.model import OPERATIONS, ROWS, TABLE, Outline, Pictured
from maskrcnn_repro.tables.report.model import Report
from maskrcnn_repro.tables.report.places import table_command
from maskrcnn_repro.visualization.encoding import data_uri

import cv2
import numpy as np
from pycocotools import mask as coco_mask

FINE = 4
"""Outlines are followed on so many points a pixel."""
TOLERANCE = 0.25
"""Pixels by which an outline may be off: fewer corners."""


def prepare_exchange(
    reports: Sequence[Report], stored: Sequence[Stored | None]
) -> dict[str, Any] | None:
    """Return what the template shows; None on a page without table 2c.

    Args:
        reports: the tables of the page.
        stored: what was measured of each, perhaps with other runs than a kept report's.
    """
    for report, what in zip(reports, stored, strict=True):
        if report.table == TABLE:
            lacking = {"command": table_command([report]), "experiments": _experiments(report)}
            if what is None:
                return {**lacking, "exchange": None}
            try:
                return _view(report, what)
            except (ArithmeticError, LookupError, TypeError, ValueError, cv2.error) as error:
                return {
                    **lacking,
                    "exchange": None,
                    "damage": f"the comparison of operations cannot be drawn: {error}",
                }
    return None


def _experiments(report: Report) -> list[str]:
    rows = {row.id: row.experiment for row in report.rows}
    names = [rows.get(ids[0]) for ids in ROWS.values()]
    return [name for name in names if name]


def _view(report: Report, what: Stored) -> dict[str, Any]:
    exchange, pictured = what.exchange, what.exchange.pictured
    return {
        "exchange": exchange,
        "of_other_runs": not is_of(exchange, report),
        "names": list(OPERATIONS),
        "picture": _picture(pictured, what.png) if pictured else None,
        "sizes": [(_range(size.low, size.high), size) for size in exchange.sizes],
    }


def _range(low: float, high: float | None) -> str:
    """Return ``4 to 6``, ``from 32`` or ``all``."""
    if high is None:
        return f"from {low:.0f}" if low else "all"
    return f"{low:.0f} to {high:.0f}"


def _picture(pictured: Pictured, png: bytes) -> dict[str, Any]:
    left, top, right, bottom = pictured.crop
    return {
        "shown": pictured,
        "source": data_uri(png, "PNG") if png else "",
        "view": (left, top, right - left, bottom - top),
        "grid": grid_path(pictured),
        "centres": centres_path(pictured),
        "truth": outline_path(pictured.truth, pictured.crop),
        "sides": [
            ("Same weights, operation exchanged", _paths(pictured.exchanged, pictured)),
            ("Three trained models", _paths(pictured.trained, pictured)),
        ],
    }


def _paths(masks: Mapping[str, Outline], pictured: Pictured) -> list[tuple[str, Outline, str]]:
    return [(name, masks[name], outline_path(masks[name], pictured.crop)) for name in OPERATIONS]


def outline_path(mask: Outline, crop: Sequence[int]) -> str:
    """Return an SVG path about a mask, in pixels of the image.

    Args:
        mask: within ``crop``.
        crop: x1, y1, x2, y2.
    """
    pixels = coco_mask.decode({"size": list(mask.size), "counts": mask.counts})
    size = pixels.shape[1] * FINE, pixels.shape[0] * FINE
    fine = cv2.resize(pixels.astype(np.float32), size, interpolation=cv2.INTER_LINEAR) >= 0.5
    # A contour runs through the centres of the outer points, an eighth of a pixel within the edge.
    lines, _ = cv2.findContours(fine.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    corners = [cv2.approxPolyDP(line, TOLERANCE * FINE, closed=True)[:, 0] for line in lines]
    places = [(line + 0.5) / FINE + crop[:2] for line in corners]
    return "".join(f"M{'L'.join(f'{x:.2f} {y:.2f}' for x, y in line)}Z" for line in places)


def grid_path(pictured: Pictured) -> str:
    """Return an SVG path of the borders of the feature cells within the picture."""
    left, top, right, bottom = pictured.crop
    columns, rows = (_borders(pictured, axis) for axis in (0, 1))
    return "".join(
        [
            *(f"M{x:.2f} {top}V{bottom}" for x in columns),
            *(f"M{left} {y:.2f}H{right}" for y in rows),
        ]
    )


def centres_path(pictured: Pictured) -> str:
    """Return an SVG path with a dot at the centre of each feature cell, where lines have round ends."""
    columns, rows = (_borders(pictured, axis, 0.5) for axis in (0, 1))
    return "".join(f"M{x:.2f} {y:.2f}h0" for y in rows for x in columns)


def _borders(pictured: Pictured, axis: int, offset: float = 0.0) -> np.ndarray:
    """Return the places within the picture that lie ``offset`` cells behind the borders of cells."""
    cell = pictured.cell[axis]
    low, high = ((end - pictured.origin[axis]) / cell - offset for end in pictured.crop[axis::2])
    return pictured.origin[axis] + (np.arange(np.ceil(low), np.floor(high) + 1) + offset) * cell
