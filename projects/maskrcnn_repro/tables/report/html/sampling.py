"""Where the RoI operations read the feature map, for one RoI: a figure made of their own points.

Coordinates are feature cells with the centre of the first cell at (0, 0), as in
:meth:`maskrcnn_repro.roi_ops.RoIOperation.sampling_points`; nothing here knows how an operation rounds.

Shape legend: P bins along a side of the output, n points of a bin.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

from maskrcnn_repro.errors import OutputError
from maskrcnn_repro.roi_ops import RoIOperation, build_roi_op
from maskrcnn_repro.utils.files import replaced
from maskrcnn_repro.visualization.plotting import COLORS, inline_svg, new_figure, style, whole_axes

import numpy as np
import torch
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

STRIDE = 16
ROI = (23.0, 26.0, 117.0, 91.0)
"""x1, y1, x2, y2 in pixels of the network's input; no corner lies on a cell's border or centre."""
CELLS = (9, 8)
"""Columns and rows of the feature map that are shown."""
BINS = 3
"""P: few enough to be seen; the models have 7 or 14."""
SIDE = 270
"""Width of a panel in pixels."""
BIN, MARKED = COLORS["ours"], COLORS["theirs"]


@dataclass(frozen=True)
class Panel:
    """One operation.

    Attributes:
        title: heading.
        names: registered operations that read these points.
        half_pixel: whether half a cell is subtracted.
        caption: one sentence.
    """

    title: str
    names: tuple[str, ...]
    half_pixel: bool
    caption: str

    def points(self) -> np.ndarray:
        """Return where the operations read, (P, P, n, 2) x and y, NaN where a bin has fewer points."""
        rois = torch.tensor([[0.0, *ROI]])
        first, *others = (
            operation(n, BINS, self.half_pixel).sampling_points(rois) for n in self.names
        )
        assert all(torch.equal(first, other) for other in others)
        return np.asarray(first[0], dtype=float)


def operation(name: str, bins: int, half_pixel: bool) -> RoIOperation:
    """Return an operation on maps of :data:`STRIDE`, by its registered name.

    Args:
        name: as registered.
        bins: along each side of its output.
        half_pixel: whether half a cell is subtracted.
    """
    layer = build_roi_op(name, (bins, bins), 1 / STRIDE, half_pixel=half_pixel)
    assert isinstance(layer, RoIOperation)
    return layer


PANELS = (
    Panel(
        "RoIPool",
        ("RoIPool",),
        False,
        "The corners move to centres of cells, and so do the borders of the bins, which overlap: each takes the "
        "maximum of its cells.",
    ),
    Panel(
        "RoIWarp",
        ("RoIWarpMax", "RoIWarpAve"),
        False,
        "The corners still move to centres of cells; the bins do not, and each takes the maximum or the average "
        "of four interpolated points.",
    ),
    Panel(
        "RoIAlign",
        ("RoIAlignMax", "RoIAlignAve"),
        False,
        "Nothing is rounded: the bins divide the RoI as it was given, each with four interpolated points.",
    ),
    Panel(
        "RoIAlign, half-pixel shift",
        ("RoIAlignMax", "RoIAlignAve"),
        True,
        "The same points half a cell up and to the left, because a cell's value is taken to lie at its centre "
        "(Detectron2's default, not in the paper).",
    ),
)


def bins_of(points: np.ndarray) -> np.ndarray:
    """Return the rectangles that the points of each bin stand for, (P, P, 4) x1, y1, x2, y2.

    Points are evenly spaced, and each stands for as much as lies between it and its neighbours.

    Args:
        points: (P, P, n, 2), NaN where a bin has fewer.
    """
    low, high = np.nanmin(points, axis=2), np.nanmax(points, axis=2)
    half = np.array([_spacing(points[..., axis]) for axis in (0, 1)]) / 2
    return np.concatenate([low - half, high + half], axis=-1)


def _spacing(values: np.ndarray) -> float:
    """Return the smallest distance of two different values of a bin, from (P, P, n)."""
    gaps = np.diff(np.sort(values, axis=2), axis=2)
    # Coordinates of points in one row or column are equal but for rounding.
    return float(gaps[gaps > 1e-6].min())


@functools.cache
def svg_panels() -> list[tuple[Panel, Markup]]:
    """Return each panel with its picture for a page: always the same."""
    panels = []
    for number, panel in enumerate(PANELS):
        with style():
            figure = new_figure(SIDE, SIDE * CELLS[1] / CELLS[0])
            draw_panel(whole_axes(figure), panel.points())
            label = (
                f"{panel.title}: the RoI, the bins and the points that are read. {panel.caption}"
            )
            panels.append((panel, inline_svg(figure, f"roi{number}", label)))
    return panels


def draw_panel(axes: Axes, points: np.ndarray) -> None:
    """Draw cells, the RoI as given, bins and points.

    Args:
        axes: bare ones, as wide as :data:`CELLS` says.
        points: (P, P, n, 2).
    """
    columns, rows = CELLS
    # A little beyond the outermost lines, which would be cut in half; y grows downwards, as in an image.
    axes.set_xlim(-0.52, columns - 0.48)
    axes.set_ylim(rows - 0.48, -0.52)
    axes.set_aspect("equal")
    axes.vlines(np.arange(columns + 1) - 0.5, -0.5, rows - 0.5, COLORS["line"], linewidth=1)
    axes.hlines(np.arange(rows + 1) - 0.5, -0.5, columns - 0.5, COLORS["line"], linewidth=1)
    centres = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1).reshape(-1, 2)
    axes.plot(*centres.T, ".", color=COLORS["soft"], markersize=2.5)
    bins = bins_of(points)
    for row, column in np.ndindex(bins.shape[:2]):
        marked = row == column == 1
        _rectangle(axes, bins[row, column], MARKED if marked else BIN, marked)
    x1, y1, x2, y2 = np.array(ROI) / STRIDE
    axes.add_patch(
        Rectangle(
            (x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=COLORS["ink"], linewidth=1.8,
            linestyle=(0, (4, 2.5)), zorder=3,
        )
    )  # fmt: skip
    for row, column in np.ndindex(bins.shape[:2]):
        color = MARKED if row == column == 1 else BIN
        axes.plot(*points[row, column].T, "o", color=color, markersize=4, zorder=4)


def _rectangle(axes: Axes, bounds: np.ndarray, color: str, marked: bool) -> None:
    x1, y1, x2, y2 = bounds
    order = 2.5 if marked else 2
    for fill in (True, False):
        axes.add_patch(
            Rectangle(
                (x1, y1), x2 - x1, y2 - y1, fill=fill, color=color, linewidth=0 if fill else 1.2,
                alpha=(0.28 if marked else 0.13) if fill else 1, zorder=order,
            )
        )  # fmt: skip


def write_figure(path: Path) -> None:
    """Write all panels as one picture, on white.

    Args:
        path: ``.svg`` or ``.png``, which has two pixels for one here.

    Raises:
        OutputError: it ends in neither.
    """
    if path.suffix not in (".svg", ".png"):
        raise OutputError(f"{str(path)!r} ends in none of .svg, .png and .html.")
    with style():
        height = SIDE * CELLS[1] / CELLS[0]
        figure = new_figure(len(PANELS) * SIDE + (len(PANELS) + 1) * 14, height + 78)
        figure.patch.set(alpha=1, facecolor="white")
        width, total = figure.get_size_inches() * 72
        for number, panel in enumerate(PANELS):
            left = 14 + number * (SIDE + 14)
            axes = figure.add_axes(
                (left / width, 40 / total, SIDE / width, height / total), frame_on=False
            )
            axes.set_axis_off()
            axes.set_title(panel.title, fontsize=13, pad=8, weight="bold")
            draw_panel(axes, panel.points())
        figure.legend(handles=_legend(), loc="lower center", ncols=4, frameon=False, fontsize=11.5)
        with replaced(path) as beside:
            # No date in it: the same bytes each time.
            undated = {"Date": None} if path.suffix == ".svg" else {}
            figure.savefig(beside, dpi=144, metadata=undated)


def _legend() -> list[Line2D]:
    return [
        Line2D([], [], color=COLORS["ink"], linestyle=(0, (4, 2.5)), label="RoI as given"),
        Line2D([], [], color=COLORS["soft"], linestyle="", marker=".", label="centre of a cell"),
        Line2D([], [], color=BIN, marker="o", label="bin, and the points that it reads"),
        Line2D([], [], color=MARKED, marker="o", label="one bin, marked"),
    ]
