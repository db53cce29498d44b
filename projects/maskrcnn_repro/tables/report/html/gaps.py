"""Gap plots: our gap with its interval beside the paper's, one narrow strip each, all on one scale."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from maskrcnn_repro.tables.report.words import real_minus
from maskrcnn_repro.visualization.plotting import COLORS, inline_svg, new_figure, style, whole_axes

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

WIDTH, HEIGHT, AXIS_HEIGHT = 320, 36, 22
"""Pixels of a strip, and of the scale above and below the strips."""
LEAST = 2.0
"""AP points: a scale reaches at least this far to both sides."""
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
    """Return the ends of a scale on which all gaps lie, with zero between them."""
    numbers = [number for gap in gaps for number in gap.numbers()]
    low, high = min([-LEAST, *numbers]), max([LEAST, *numbers])
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
        if gap.theirs is not None:
            axes.plot(
                gap.theirs, THEIRS, "D", markersize=6.5, markeredgecolor=COLORS["theirs"],
                markerfacecolor="none", markeredgewidth=1.7,
            )  # fmt: skip
        if gap.interval:
            low, high = gap.interval
            axes.hlines(OURS, low, high, COLORS["ours"], linewidth=2.2)
            axes.vlines([low, high], OURS - 0.13, OURS + 0.13, COLORS["ours"], linewidth=2.2)
        if gap.ours is not None:
            axes.plot(gap.ours, OURS, "o", markersize=8, color=COLORS["ours"])
        return inline_svg(figure, name, label)


def axis(ends: Ends, name: str) -> Markup:
    """Return the numbers of the scale, to stand above or below strips of the same width."""
    with style():
        figure, axes = _strip_axes(ends, AXIS_HEIGHT)
        for tick in _ticks(ends):
            # A number at the very end would be cut off.
            inside = min(max((tick - ends[0]) / (ends[1] - ends[0]), 0.05), 0.95)
            place = ends[0] + inside * (ends[1] - ends[0])
            text = real_minus(tick, 0 if tick == round(tick) else 1) if tick else "0"
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
