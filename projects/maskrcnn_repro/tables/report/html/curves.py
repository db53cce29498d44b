"""Losses and APs over training."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from maskrcnn_repro.tables.report.curve_files import Points
from maskrcnn_repro.tables.report.model import Report
from maskrcnn_repro.tables.report.places import curve_file
from maskrcnn_repro.visualization.plotting import DASHES, SERIES, inline_svg, new_figure, style

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes

MOST_POINTS = 60
"""So many a line: the noise of batches would hide one row behind the other."""
SHOWN = 0.98
"""The quantile of the values that a plot reaches to."""
MOST_APART = 4.0
"""A plot of losses is at most so many times as high as the usual line needs."""
SIZE = (340, 230)
"""Width and height of a plot in pixels."""
LOSSES = {
    "segm": ("Mask loss", "loss_mask"),
    "bbox": ("Box loss", "loss_box_reg"),
    "keypoints": ("Keypoint loss", "loss_keypoint"),
}
"""By task of a table's first column: what the table is about."""


@dataclass(frozen=True)
class Line:
    """One row of a table in all plots: its name, its seeds, how it is drawn."""

    name: str
    number: int
    runs: tuple[Mapping[str, Points], ...]
    """One for each seed, by the name in ``metrics.json``."""

    @property
    def color(self) -> str:
        """Of the line."""
        return SERIES[self.number % len(SERIES)]

    @property
    def role(self) -> str:
        """The colour's name in the style sheet."""
        return f"s{self.number % len(SERIES) + 1}"

    @property
    def dash(self) -> int:
        """Which of :data:`DASHES`: a colour that comes again has another one, too."""
        return (self.number + self.number // len(SERIES)) % len(DASHES)


@dataclass(frozen=True)
class Curves:
    """The plots of one table.

    Attributes:
        plots: heading and picture.
        lines: what is drawn, for the legend.
        skipped: files that could not be read, or not wholly, each with the reason.
    """

    plots: tuple[tuple[str, Markup], ...] = ()
    lines: tuple[Line, ...] = ()
    skipped: tuple[str, ...] = ()


def curves(report: Report, read: Callable[[Path], tuple[Mapping[str, Points], str]]) -> Curves:
    """Draw a table's total loss, the loss of what it is about, and its AP where that was followed.

    Args:
        report: the table; rows without a training of their own have no line.
        read: :func:`read_curve`, or what reads each file once for several tables.
    """
    metric = report.columns[0]
    lines: list[Line] = []
    skipped: dict[str, None] = {}
    for row in report.rows:
        files = [read(curve_file(Path(run.results))) for run in report.runs(row)]
        skipped |= dict.fromkeys(problem for _, problem in files if problem)
        runs = tuple(values for values, _ in files if values)
        if runs:
            lines.append(Line(row.name, len(lines), runs))
    prefix = f"curve-{report.table}"
    losses = [("Total loss", "total_loss"), LOSSES.get(metric.task)]
    plots = [
        (title, plot(lines, title, key, f"{prefix}-{number}"))
        for number, (title, key) in enumerate(loss for loss in losses if loss)
        if any(run.get(key) for line in lines for run in line.runs)
    ]
    title, key = f"{metric.title} while training", f"{metric.task}/{metric.key}"
    # The last value alone stands in the table.
    if any(len(run.get(key, ())) > 1 for line in lines for run in line.runs):
        plots.append((title, plot(lines, title, key, f"{prefix}-ap")))
    return Curves(tuple(plots), tuple(lines), tuple(skipped))


def plot(lines: Sequence[Line], title: str, key: str, name: str) -> Markup:
    """Draw one value of some lines over iterations.

    Args:
        lines: a line without this value is left out.
        title: for the label.
        key: the name of the value.
        name: prefix of ids, unique within the page.
    """
    drawn = [(line, [run[key] for run in line.runs if run.get(key)]) for line in lines]
    with style():
        figure = new_figure(*SIZE)
        axes = figure.add_axes((0.12, 0.15, 0.85, 0.81))
        for line, runs in drawn:
            _draw(axes, line, runs)
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        axes.spines["left"].set_visible(False)
        axes.set_xlim(0, None)
        values = [(line, _values(runs)) for line, runs in drawn if runs]
        axes.set_ylim(*_range([each for _, each in values], "loss" in key))
        cut = _name_cut(axes, values)
        axes.set_xlabel("iteration", labelpad=2)
        axes.locator_params(axis="x", nbins=5)
        axes.locator_params(axis="y", nbins=5)
        names = ", ".join(line.name for line, runs in drawn if runs)
        label = "; ".join([f"{title} over iterations of {names}", *cut])
        return inline_svg(figure, name, f"{label}.")


def _values(runs: Iterable[Points]) -> np.ndarray:
    return np.array([value for run in runs for value in run.values()])


def _draw(axes: Axes, line: Line, runs: Sequence[Points]) -> None:
    if not runs:
        return
    steps = sorted(set.intersection(*(set(run) for run in runs)))
    if not steps:
        return
    values = np.array([[run[step] for step in steps] for run in runs])
    x, values = thin(np.array(steps, dtype=float), values)
    dash = DASHES[line.dash]
    # A run that was stopped at once has one value, which is no line.
    marker = "." if len(x) == 1 else ""
    axes.plot(
        x, values.mean(axis=0), color=line.color, linestyle=dash, linewidth=1.6, marker=marker
    )
    if len(runs) > 1:
        low, high = values.min(axis=0), values.max(axis=0)
        axes.fill_between(x, low, high, color=line.color, alpha=0.14, linewidth=0)


def thin(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Average neighbours until at most :data:`MOST_POINTS` are left.

    Args:
        steps: (T,), iterations.
        values: (S, T), one row for each seed.
    """
    if not len(steps):
        return steps, values
    parts = np.array_split(np.arange(len(steps)), min(len(steps), MOST_POINTS))
    means = [values[:, part].mean(axis=1) for part in parts]
    return np.array([steps[part].mean() for part in parts]), np.stack(means, axis=1)


def _range(lines: Sequence[np.ndarray], is_loss: bool) -> tuple[float, float]:
    """Return the least and greatest value shown: a first peak is cut off, so that the rest can be seen.

    Args:
        lines: all values of each line.
        is_loss: the values have no bound: what a diverged half of the lines has is cut off, too.
    """
    values = np.concatenate([*lines, np.zeros(0)])
    if not len(values):
        return 0.0, 1.0
    low, high = float(values.min()), float(np.quantile(values, SHOWN))
    if is_loss:
        usual = statistics.median_low(float(np.quantile(line, SHOWN)) for line in lines)
        high = min(high, low + MOST_APART * (usual - low)) if usual > low else high
    margin = 0.06 * (high - low) or 0.5
    return max(0.0, low - margin), high + margin


def _name_cut(axes: Axes, lines: Iterable[tuple[Line, np.ndarray]]) -> list[str]:
    """Write the names of lines that leave the plot for good at its top, and return them."""
    _, top = axes.get_ylim()
    cut = [(line, values) for line, values in lines if np.median(values) > top]
    for number, (line, values) in enumerate(cut):
        text = f"\N{BLACK UP-POINTING TRIANGLE} {line.name}: up to {values.max():.2g}"
        place = (0.98, 0.98 - 0.09 * number)
        axes.text(
            *place,
            text,
            transform=axes.transAxes,
            ha="right",
            va="top",
            color=line.color,
            fontsize=10,
        )
    return [f"{line.name} leaves the plot at its top" for line, _ in cut]
