"""Precision over recall, and hits over scores, as SVG inside a page."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from maskrcnn_repro.analysis.analysis import Analysis
from maskrcnn_repro.analysis.precision import RECALLS
from maskrcnn_repro.evaluation.resampling import THRESHOLDS
from maskrcnn_repro.visualization.plotting import (
    COLORS,
    DASHES,
    SERIES,
    inline_svg,
    new_figure,
    style,
)

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

SIZE = (420, 330)
SHOWN_THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True)
class Plot:
    """A picture, its caption, and for each line its name, colour role (``s1`` …) and dash."""

    title: str
    svg: Markup
    lines: Sequence[tuple[str, str, int]] = ()


def plots(analysis: Analysis, names: Sequence[str]) -> list[Plot]:
    """Return the plots of a page; of more classes than colours, those with the lowest AP."""
    worst = [int(c) for c in np.argsort(analysis.at_iou) if not np.isnan(analysis.at_iou[c])]
    chosen = worst[: len(SERIES)]
    more = f", the {len(chosen)} lowest of {len(worst)}" if len(worst) > len(chosen) else ""
    levels = [int(np.abs(THRESHOLDS - value).argmin()) for value in SHOWN_THRESHOLDS]
    return [
        _curves(
            "pr-iou",
            "Mean over classes, by IoU",
            [
                (f"IoU {THRESHOLDS[level]:.2f}", _average_curves(analysis.curves[level]))
                for level in levels
            ],
        ),
        _curves(
            "pr-class",
            f"By class at IoU {analysis.iou:g}{more}",
            [(names[index], analysis.curves_at_iou[index]) for index in chosen],
        ),
        _calibration(analysis),
    ]


def _average_curves(curves: np.ndarray) -> np.ndarray:
    """Return the mean of (C, R) curves over classes with objects; NaN without any."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # no class has objects
        return (
            np.asarray(np.nanmean(curves, axis=0)) if len(curves) else np.full(len(RECALLS), np.nan)
        )


def _curves(name: str, title: str, lines: Sequence[tuple[str, np.ndarray]]) -> Plot:
    with style():
        figure, axes = _unit_square("recall", "precision")
        for index, (_, values) in enumerate(lines):
            axes.plot(
                RECALLS, values, color=SERIES[index], linestyle=_choose_dash(index), linewidth=1.6
            )
        label = f"Precision over recall. {title}: {', '.join(name for name, _ in lines) or 'none'}."
        svg = inline_svg(figure, name, label)
    legend = [(line, f"s{i + 1}", i % len(DASHES)) for i, (line, _) in enumerate(lines)]
    return Plot(title, svg, legend)


def _calibration(analysis: Analysis) -> Plot:
    measured = analysis.calibration
    with style():
        figure, axes = _unit_square("score", "share of hits")
        axes.plot([0, 1], [0, 1], color=COLORS["soft"], linestyle="dotted", linewidth=1)
        axes.plot(measured.scores, measured.hits, color=COLORS["ours"], marker="o", markersize=4)
        svg = inline_svg(figure, "calibration", "Share of hits over the score of detections.")
    return Plot("Scores and hits", svg)


def _unit_square(x: str, y: str) -> tuple[Figure, Axes]:
    figure = new_figure(*SIZE)
    axes = figure.add_axes((0.12, 0.14, 0.85, 0.82))
    axes.grid()
    axes.set_axisbelow(True)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    return figure, axes


def _choose_dash(index: int) -> Any:
    return DASHES[index % len(DASHES)]
