"""Where on the surface of the body each pixel of a figure lies, and how a person is annotated with it.

The body consists of cylinders, one for each chart. u goes along a cylinder, from 0 to 1; v around it: 0.5 is in front, and
it grows towards the left of the body. It belongs to the body, not to the view: what is seen of a body that turns are other v.

h, w = height and width of the figure's bounding window in pixels; P = pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from maskrcnn_repro.data.densepose.annotation import SIDE, SurfacePoints
from maskrcnn_repro.data.synthetic.draws import ONE, sine
from maskrcnn_repro.data.synthetic.mini_people.figures import CHARTS, EIGHTHS, Figure
from maskrcnn_repro.data.synthetic.mini_people.poses import UNIT
from maskrcnn_repro.data.synthetic.mini_people.rasters import cover, window_of

import numpy as np
from numpy.typing import NDArray

MOST_POINTS = 14
"""Annotated points of a chart, at most; COCO's annotators had as many."""
_PIXELS_PER_POINT = 3
_HEAD_RADIUS = 92
# round() of a double is the same everywhere; an arcsine is not.
_DEGREES = np.arange(-90, 91)
_SINES = np.array([sine(int(degrees)) for degrees in _DEGREES]) / ONE

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Cylinder:
    """A chart as it is seen; positions in EIGHTHS of a pixel."""

    start: tuple[float, float]
    """Middle of the end at which u is 0."""
    end: tuple[float, float]
    radius: float
    upright: float
    """Cosine of the angle between the direction to ``end`` and downwards, in space."""

    def coordinates(self, x: Floats, y: Floats, yaw: int) -> tuple[Floats, Floats]:
        """Return u and v of positions (P,) each, for a body that is turned by ``yaw`` degrees."""
        dx, dy = self.end[0] - self.start[0], self.end[1] - self.start[1]
        length = math.sqrt(dx * dx + dy * dy)
        u = ((x - self.start[0]) * dx + (y - self.start[1]) * dy) / max(length * length, 1.0)
        across = ((x - self.start[0]) * dy - (y - self.start[1]) * dx) / max(length, 1.0)
        seen_from = np.interp(across / self.radius, _SINES, _DEGREES)
        # Only turning about its own axis shows another side of a cylinder.
        v = 0.5 + (seen_from - yaw * self.upright) / 360
        return u.clip(0, 1), v


def cylinders(figure: Figure) -> list[Cylinder]:
    """Return the cylinder of each of CHARTS."""
    return [_cylinder(figure, name) for name in CHARTS]


def _cylinder(figure: Figure, name: str) -> Cylinder:
    scale = figure.size * EIGHTHS / UNIT
    if name == "torso":
        start, end = (_middle(figure, joint) for joint in ("shoulder", "hip"))
        edge, _, middle = (
            stroke for _, part in figure.parts for stroke in part if stroke.chart == 1
        )
        radius = math.hypot(*(a - b for a, b in zip(edge.start, middle.start, strict=True)))
        return _between(figure, start, end, radius + middle.radius)
    if name == "head":
        neck, head = (np.array(figure.joints[joint], float) for joint in ("neck", "head"))
        way = (neck - head) * (1, 1, scale)
        top = (
            head
            - way
            / max(float(np.sqrt((way**2).sum())), 1.0)
            * (1, 1, 1 / scale)
            * _HEAD_RADIUS
            * scale
        )
        return _between(figure, top, neck, _HEAD_RADIUS * scale)
    side, _, limb = name.partition("_")
    ends = {
        "upper_arm": ("shoulder", "elbow"),
        "forearm": ("elbow", "wrist"),
        "thigh": ("hip", "knee"),
        "shin": ("knee", "ankle"),
        "foot": ("ankle", "toe"),
    }[limb]
    chart = CHARTS.index(name) + 1
    strokes = [stroke for _, part in figure.parts for stroke in part if stroke.chart == chart]
    start, end = (np.array(figure.joints[f"{side}_{joint}"], float) for joint in ends)
    return _between(figure, start, end, strokes[-1].radius)


def _middle(figure: Figure, joint: str) -> NDArray[np.float64]:
    left, right = (np.array(figure.joints[f"{side}_{joint}"]) for side in ("left", "right"))
    return (left + right) / 2


def _between(
    figure: Figure, start: NDArray[np.float64], end: NDArray[np.float64], radius: float
) -> Cylinder:
    way = (end - start) * (1, 1, figure.size * EIGHTHS / UNIT)
    upright = float(way[1]) / max(float(np.sqrt((way**2).sum())), 1.0)
    (x1, y1), (x2, y2) = start[:2].tolist(), end[:2].tolist()
    return Cylinder((x1, y1), (x2, y2), radius, upright)


def charts_of(figure: Figure) -> tuple[int, int, NDArray[np.uint8]]:
    """Return left and top of the figure's window in the image, and the chart that each pixel shows, (h, w); 0 is none."""
    left, top, right, bottom = window_of(figure)
    shown = np.zeros((bottom - top, right - left), np.uint8)
    for _, strokes in figure.parts:
        covers = [cover(stroke, figure.seam, left, top) for stroke in strokes]
        for seam in (True, False):
            for stroke, (window, outer, inner) in zip(strokes, covers, strict=True):
                shown[window][outer if seam else inner] = stroke.chart
    return left, top, shown


def annotate(figure: Figure, mask: NDArray[np.bool_], box: list[int]) -> dict[str, Any]:
    """Return the DensePose fields of a person.

    Args:
        figure: the person.
        mask: (H, W), its visible pixels.
        box: left, top, width and height of the mask.
    """
    left, top, shown = charts_of(figure)
    rows, columns = np.nonzero(mask)
    chart = np.zeros(mask.shape, np.uint8)
    chart[rows, columns] = shown[rows - top, columns - left]
    seen = [np.argwhere(chart == number) for number in range(1, len(CHARTS) + 1)]
    bodies = cylinders(figure)
    points = [
        _points(body, number, _spread(pixels), figure.yaw, box)
        for number, (body, pixels) in enumerate(zip(bodies, seen, strict=True), start=1)
    ]
    x, y, width, height = box
    cells = np.arange(SIDE)
    crop = chart[(y + cells * height // SIDE)[:, None], x + cells * width // SIDE]
    return SurfacePoints(np.concatenate(points), crop).fields()


def _spread(pixels: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return evenly spread ones of the pixels (P, 2) of a chart in their order."""
    count = min(MOST_POINTS, len(pixels) // _PIXELS_PER_POINT)
    return pixels[(2 * np.arange(count) + 1) * len(pixels) // max(2 * count, 1)]


def _points(
    body: Cylinder, number: int, pixels: NDArray[np.intp], yaw: int, box: list[int]
) -> NDArray[np.float64]:
    """Return x, y, chart, u and v of pixels, (P, 5)."""
    row, column = pixels.T + 0.5
    u, v = body.coordinates(column * EIGHTHS, row * EIGHTHS, yaw)
    x = (column - box[0]) * SIDE / box[2]
    y = (row - box[1]) * SIDE / box[3]
    # Rounded, because the last bits of a quotient may differ between processors.
    return np.stack([x, y, np.full(len(x), number), u.round(4), v.round(4)], axis=1)
