"""The course of a training in numbers: ``metrics.json`` of a run, and the part of it that is kept with the code."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maskrcnn_repro.errors import TableError
from maskrcnn_repro.tables.report.places import METRICS_FILE
from maskrcnn_repro.tables.runs.reading import read_json, told

MOST_POINTS = 200
"""So many values of a line at most are drawn, and kept."""
PERIOD = 20
"""Iterations between two values of a loss: Detectron2's."""
DIGITS = 6
"""Significant ones of a value."""
_SHOWN = re.compile(r"total_loss|loss_mask|loss_box_reg|loss_keypoint|\w+/(AP|PQ)")
"""What a page may show of a training."""

Points = Mapping[int, float]
"""Iteration to value."""


def read_curve(path: Path) -> tuple[Mapping[str, Points], str]:
    """Return what a page shows of a training, by name, and what is wrong with the file; empty ones without a file.

    Args:
        path: a run's ``metrics.json``, or what :func:`curve_text` made of one.
    """
    if path.name == METRICS_FILE:
        values, problem = read_metrics(path)
        return {name: _thinned(p) for name, p in values.items() if _SHOWN.fullmatch(name)}, problem
    if not path.is_file():
        return {}, ""
    try:
        return {name: _points(*pair) for name, pair in read_json(path).items()}, ""
    except TableError as error:
        return {}, str(error).rstrip(".")
    except (ArithmeticError, TypeError, ValueError) as error:
        return {}, f"{path} holds no curves: {told(error, path)}"


def curve_text(curve: Mapping[str, Points]) -> str:
    """Return a curve of :func:`read_curve` as a JSON that it reads again: name to iterations and values."""
    lines = [
        f"{json.dumps(name)}: {json.dumps([list(points), list(points.values())])}"
        for name, points in sorted(curve.items())
    ]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def read_metrics(path: Path) -> tuple[Mapping[str, Points], str]:
    """Return the values of a ``metrics.json`` by name, and what is wrong with it; empty ones without a file."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}, ""
    except (OSError, UnicodeDecodeError) as error:
        return {}, f"{path} cannot be read: {getattr(error, 'strerror', None) or error}"
    by_name: dict[str, dict[int, float]] = {}
    broken = 0
    for line in text.splitlines():
        try:
            entry = json.loads(line)
            iteration = int(entry["iteration"])
            pairs = [(name, float(value)) for name, value in entry.items()]
        except (
            ArithmeticError,
            AttributeError,
            LookupError,
            RecursionError,
            TypeError,
            ValueError,
        ):
            broken += 1
            continue
        for name, value in pairs:
            # After a resumption an iteration may come again: the later one is the run's.
            if math.isfinite(value):
                by_name.setdefault(name, {})[iteration] = value
    return by_name, f"{path}: {broken} lines are no metrics and were skipped" * (broken > 0)


def _points(iterations: list[Any], values: list[Any]) -> Points:
    return {int(k): float(value) for k, value in zip(iterations, values, strict=True)}


def _thinned(points: Points) -> Points:
    """Return means over equal spans of iterations, each at the last iteration of its span that has a value.

    The spans depend on the length of the training alone, so that seeds have the same ones, resumed or not.
    """
    span = PERIOD * max(1, math.ceil(max(points) / (PERIOD * MOST_POINTS)))
    spans: dict[int, list[int]] = {}
    for iteration in sorted(points):
        spans.setdefault(iteration // span, []).append(iteration)
    return {part[-1]: _mean([points[k] for k in part]) for part in spans.values()}


def _mean(values: list[float]) -> float:
    return float(f"{math.fsum(values) / len(values):.{DIGITS}g}")
