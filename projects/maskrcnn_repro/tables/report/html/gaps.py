"""Gap plots: our gap with its interval beside the paper's, one narrow strip each, all on one scale."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from maskrcnn_repro.tables.report.words import format_with_minus
from maskrcnn_repro.visualization.plotting import COLORS, inline_svg, new_figure, style, whole_axes

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

WIDTH, HEIGHT, AXIS_HEIGHT = 320, 36, 22
"""Pixels of a strip, and of the scale above and below the strips."""
LEAST = 2.0
"""AP points: a scale reaches at least this far to both sides."""
FENCE = 3.0
"""Tukey's, for values that are far out."""
EDGE = 0.02
"""Fraction of a scale that the arrow of an outlier stands from its end."""
OURS, THEIRS = 0.62, 0.3
"""Heights within a strip, fractions: side by side where the gaps are the same."""

Ends = tuple[float, float]
"""Lower and upper end, AP points."""


@dataclass(frozen=True)
class Gap:
    """What a strip shows; None for what there is not.

    Attributes:
        ours: our gap, AP points.
        interval: where it lies.
        theirs: the paper's gap.
        band: the gaps for which a claim holds; an end may be infinite.
    """

    ours: float | None = None
    interval: Ends | None = None
    theirs: float | None = None
    band: Ends | None = None

    def numbers(self) -> list[float]:
        """Return all that must lie on the scale."""
        return [x for x in (self.ours, self.theirs, *(self.interval or ())) if x is not None]


def scale(gaps: Iterable[Gap]) -> Ends:
    """Return the ends of a scale with zero between them, on which all gaps lie but for outliers.

    An outlier is farther than :data:`FENCE` times the distance of the quartiles from the nearer one.
    """
    numbers = [number for gap in gaps for number in gap.numbers()]
    first, third = np.quantile(numbers, (0.25, 0.75)) if numbers else (0.0, 0.0)
    reach = FENCE * max(third - first, LEAST)
    inside = [x for x in numbers if first - reach <= x <= third + reach]
    low, high = min([-LEAST, *inside]), max([LEAST, *inside])
    margin = 0.04 * (high - low)
    return low - margin, high + margin


def strip(gap: Gap, ends: Ends, name: str, label: str) -> Markup:
    """Return the picture of one gap.

    Args:
        gap: what is shown.
        ends: of the scale.
        name: unique within the page.
        label: the same in words.
    """
    with style():
        figure, axes = _strip_axes(ends, HEIGHT)
        if gap.band:
            low, high = (min(max(end, ends[0]), ends[1]) for end in gap.band)
            axes.axvspan(low, high, color=COLORS["band"], linewidth=0)
        axes.vlines(_ticks(ends), 0, 1, COLORS["line"], linewidth=0.8)
        axes.axvline(0, color=COLORS["soft"], linewidth=1.2)
        if gap.theirs is not None and not _points_out(axes, gap.theirs, THEIRS, COLORS["theirs"]):
            axes.plot(
                gap.theirs, THEIRS, "D", markersize=6.5, markeredgecolor=COLORS["theirs"],
                markerfacecolor="none", markeredgewidth=1.7,
            )  # fmt: skip
        if gap.interval:
            _draw_interval(axes, gap.interval)
        if gap.ours is not None and not _points_out(axes, gap.ours, OURS, COLORS["ours"]):
            axes.plot(gap.ours, OURS, "o", markersize=8, color=COLORS["ours"])
        return inline_svg(figure, name, label)


def _draw_interval(axes: Axes, interval: Ends) -> None:
    """Draw what lies on the scale; an end beyond it has no bar across."""
    low, high = axes.get_xlim()
    start, end = (min(max(place, low), high) for place in interval)
    axes.hlines(OURS, start, end, COLORS["ours"], linewidth=2.2)
    there = [place for place in interval if low <= place <= high]
    axes.vlines(there, OURS - 0.13, OURS + 0.13, COLORS["ours"], linewidth=2.2)


def _points_out(axes: Axes, value: float, height: float, color: str) -> bool:
    """Draw an arrow with its number at the end of the scale if a value lies beyond it; tell whether it does."""
    low, high = axes.get_xlim()
    if low <= value <= high:
        return False
    share, marker, side = (1 - EDGE, ">", "right") if value > high else (EDGE, "<", "left")
    place = low + share * (high - low)
    axes.plot(place, height, marker, markersize=7, color=color)
    # Above an interval's line.
    text_height = height + 0.25 if height == OURS else height
    axes.text(
        place,
        text_height,
        f"  {format_with_minus(value)}  ",
        ha=side,
        va="center",
        color=color,
        fontsize=10,
    )
    return True


def axis(ends: Ends, name: str) -> Markup:
    """Return the numbers of the scale, to stand above or below strips of the same width."""
    with style():
        figure, axes = _strip_axes(ends, AXIS_HEIGHT)
        for tick in _ticks(ends):
            # A number at the very end would be cut off.
            inside = min(max((tick - ends[0]) / (ends[1] - ends[0]), 0.05), 0.95)
            place = ends[0] + inside * (ends[1] - ends[0])
            text = format_with_minus(tick, 0 if tick == round(tick) else 1) if tick else "0"
            axes.text(place, 0.5, text, ha="center", va="center", color=COLORS["soft"])
        return inline_svg(figure, name, "Scale in AP points")


def _strip_axes(ends: Ends, height: float) -> tuple[Figure, Axes]:
    figure = new_figure(WIDTH, height)
    axes = whole_axes(figure)
    axes.set_xlim(*ends)
    axes.set_ylim(0, 1)
    return figure, axes


def _ticks(ends: Ends) -> list[float]:
    ticks = MaxNLocator(nbins=7, steps=[1, 2, 5, 10]).tick_values(*ends)
    return [float(tick) for tick in ticks if ends[0] <= tick <= ends[1]]
