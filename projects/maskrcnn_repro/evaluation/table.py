"""Metrics as a person reads them."""

from __future__ import annotations

import math
from collections.abc import Mapping

from tabulate import tabulate

TASKS = {"bbox": "box", "segm": "mask", "keypoints": "keypoints"}
COLUMNS = ("AP", "AP50", "AP75", "APs", "APm", "APl")


def metrics_table(tasks: Mapping[str, Mapping[str, float]]) -> str:
    """Return COCO's metrics in points, one line per task.

    A dash stands where there is nothing to measure (no object of that size; keypoints have no APs).
    """
    rows = [
        [TASKS[task], *(_points(values.get(column)) for column in COLUMNS)]
        for task, values in tasks.items()
        if task in TASKS
    ]
    return tabulate(
        rows,
        headers=["", *COLUMNS],
        tablefmt="simple",
        disable_numparse=True,
        colalign=("left", *["right"] * len(COLUMNS)),
    )


def summary(tasks: Mapping[str, Mapping[str, float | None]]) -> str:
    """Return one line: ``box AP 31.5 · mask AP 25.8``."""
    return " · ".join(
        f"{TASKS[task]} AP {_points(values.get('AP'))}"
        for task, values in tasks.items()
        if task in TASKS
    )


def _points(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.1f}"
