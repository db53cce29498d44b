"""The interactive figure: an RoI to drag over a feature map, and what RoIPool, RoIWarp and RoIAlign make of it.

Its JavaScript computes the operations anew for each RoI. The RoI that it starts with, all that there is without
JavaScript and on paper, is read by :mod:`maskrcnn_repro.roi_ops`.

Coordinates are feature cells with the centre of the first cell at (0, 0), as in :mod:`.sampling`; boxes are x1, y1, x2, y2.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from maskrcnn_repro.roi_ops.grid import nearest_cells
from maskrcnn_repro.tables.report.html.sampling import PANELS, STRIDE, Panel, bins_of, operation
from maskrcnn_repro.tables.report.words import TEMPLATES, format_with_minus
from maskrcnn_repro.visualization.templates import templates_in

import numpy as np
import torch
from PIL import Image, ImageDraw

ROI = (70.0, 73.0, 183.0, 153.0)
"""In pixels of the network's input: about the object, with corners far from whole cells."""
MARKED = 15
"""The bin, counted row by row, whose weights are shown first."""
BINS = 7
SIDE = 16
"""Rows and columns of the feature map."""
REACH = 24
"""Pixels by which an RoI may leave the map."""
FINE = 4
"""The object is drawn with so many samples a pixel, along each side."""


@dataclass(frozen=True)
class Reading:
    """What an operation makes of an RoI.

    Attributes:
        corners: (4,), rounded as the operation does.
        bins: (49, 4), row by row.
        points: (n, 2), where the map is read.
        marked_points: those of the marked bin.
        output: (49,).
        weights: row, column, weight and value of each cell that the marked bin reads.
    """

    corners: np.ndarray
    bins: np.ndarray
    points: np.ndarray
    marked_points: np.ndarray
    output: np.ndarray
    weights: list[tuple[int, int, float, float]]


def read(panel: Panel, roi: Sequence[float], cells: np.ndarray, marked: int = MARKED) -> Reading:
    """Return what the last of a panel's operations makes of an RoI.

    Args:
        panel: of :data:`.sampling.PANELS`.
        roi: in pixels.
        cells: (H, W), the feature map.
        marked: the bin whose weights are returned.
    """
    layer = operation(panel.names[-1], BINS, panel.half_pixel)
    rois = torch.tensor([[0.0, *roi]])
    features = torch.tensor(cells, dtype=torch.float32)[None, None].requires_grad_()
    output = layer(features, rois).flatten()
    # An output's gradient is the weights with which it reads the map.
    (weights,) = torch.autograd.grad(output[marked], features)
    corners = layer.regions(rois)[0, 1:]
    points = layer.sampling_points(rois)[0].numpy().astype(float)
    return Reading(
        corners=(nearest_cells(corners) if panel.title == "RoIPool" else corners).numpy(),
        bins=bins_of(points).reshape(-1, 4),
        points=_format_points(points.reshape(-1, 2)),
        marked_points=_format_points(points.reshape(BINS * BINS, -1, 2)[marked]),
        output=output.detach().numpy(),
        weights=[
            (y, x, float(weights[0, 0, y, x]), float(cells[y, x]))
            for *_, y, x in weights.nonzero().tolist()
        ],
    )


def _format_points(points: np.ndarray) -> np.ndarray:
    return points[~np.isnan(points).any(axis=1)]


def outline() -> np.ndarray:
    """Return the outline of the object, a fish, (n, 2) in pixels."""
    angles = np.radians(np.linspace(28, 332, 39))
    body = np.stack([115 + 40 * np.cos(angles), 113 + 36 * np.sin(angles)], axis=-1)
    tail = [(155, 104), (180, 82), (174, 113), (180, 148), (155, 124)]
    return np.concatenate([body, tail])


def feature_map() -> np.ndarray:
    """Return the map, (16, 16) whole numbers from 0 to 99: the striped object on a paler ground, averaged by cell."""
    edge = SIDE * STRIDE
    image = Image.new("L", (edge * FINE, edge * FINE))
    # The first cell's centre is pixel 0, so that the map begins half a cell before it.
    polygon = (outline() + STRIDE / 2) * FINE
    ImageDraw.Draw(image).polygon([tuple(point) for point in polygon.tolist()], fill=1)
    y, x = np.mgrid[: edge * FINE, : edge * FINE] / FINE
    values = np.where(
        np.asarray(image), 74 + 24 * np.cos(x / 5.5), 10 + 8 * np.sin((x + 2 * y) / 40)
    )
    cell = STRIDE * FINE
    means = values.reshape(SIDE, cell, SIDE, cell).mean(axis=(1, 3))
    return np.asarray(means.round(), dtype=int)


@functools.cache
def figure() -> dict[str, Any]:
    """Return what the template shows."""
    cells = feature_map()
    readings = [(panel, read(panel, ROI, cells)) for panel in PANELS[:3]]
    given = np.array(ROI) / STRIDE
    return {
        "cells": cells.tolist(),
        "outline": (outline() / STRIDE).tolist(),
        "roi": ROI,
        "given": given.tolist(),
        "stride": STRIDE,
        "reach": REACH,
        "marked": MARKED,
        "view": _view(given),
        "panels": [(panel, each, _numbers(each, readings[-1][1])) for panel, each in readings],
    }


def page() -> str:
    """Return the figure as a page that needs no other file."""
    templates = templates_in(TEMPLATES)
    templates.filters.update(FILTERS)
    return templates.get_template("roi_page.html.j2").render(figure=figure())


def box_path(box: Sequence[float]) -> str:
    """Return an SVG path about a box."""
    x1, y1, x2, y2 = (f"{value:.3f}" for value in box)
    return f"M{x1} {y1}H{x2}V{y2}H{x1}Z"


def dots_path(points: Sequence[Sequence[float]]) -> str:
    """Return an SVG path that is a dot at each point where lines have round ends."""
    return "".join(f"M{x:.3f} {y:.3f}h0" for x, y in points)


def weight_text(weight: float) -> str:
    """Return a weight as it stands in its cell: ``.25``, or nothing where it is too small."""
    return f"{weight:.2f}".removeprefix("0").removesuffix(".00")


FILTERS = {"box": box_path, "dots": dots_path, "weight": weight_text}
"""What the figure's template needs."""


def _view(given: np.ndarray) -> tuple[float, float, float]:
    """Return the part of the map that the panels show, a square about the RoI: left, top and side."""
    # RoIPool reads up to a cell more on each side.
    side = max(*(given[2:] - given[:2]), 1.0) + 2.0
    left, top = (given[:2] + given[2:] - side) / 2
    return left, top, side


def _numbers(reading: Reading, aligned: Reading) -> dict[str, str]:
    """Return how the marked bin is computed, and how far the operation is from the RoI as given and from RoIAlign."""
    moved = reading.corners * STRIDE - np.array(ROI)
    apart = (reading.bins - aligned.bins).reshape(-1, 2, 2).mean(axis=1) * STRIDE
    distances = [math.hypot(*pair) for pair in apart]
    terms = [f"{weight:.2f}·{value:.0f}" for *_, weight, value in reading.weights]
    return {
        "sum": f"{' + '.join(terms)} = {reading.output[MARKED]:.1f}",
        "moved": ", ".join(format_with_minus(value) if value else "0" for value in moved),
        "shift": f"{np.abs(moved).mean():.1f}",
        "apart": f"{np.mean(distances):.1f}",
        "difference": f"{np.abs(reading.output - aligned.output).mean():.1f}",
    }
