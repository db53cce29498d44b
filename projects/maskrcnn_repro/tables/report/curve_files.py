"""The course of a training in numbers: ``metrics.json`` of a run, and the part of it that is kept with the code."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maskrcnn_repro.errors import TableError
from maskrcnn_repro.evaluation.coco import CHECKPOINTS, flat
from maskrcnn_repro.tables.report.places import METRICS_FILE
from maskrcnn_repro.tables.runs.reading import WrongValueError, describe_error, read_json
from maskrcnn_repro.tables.runs.records import RESULTS, read_record

from detectron2.evaluation.testing import flatten_results_dict

MOST_POINTS = 200
"""So many values of a line at most are drawn, and kept."""
PERIOD = 20
"""Iterations between two values of a loss: Detectron2's."""
DIGITS = 6
"""Significant ones of a value."""
MOST_ITERATIONS, MOST_VALUE = 10**9, 1e9
RECORD = "record"
"""Key of a kept curve: what identifies its run."""
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
        return {name: _thin(p) for name, p in values.items() if _SHOWN.fullmatch(name)}, problem
    if not os.path.lexists(path):
        return {}, ""
    try:
        tree = read_json(path)
        _check_run(tree.pop(RECORD, None), path)
        return {name: _points(name, *pair) for name, pair in tree.items()}, ""
    except TableError as error:
        return {}, str(error).rstrip(".")
    except (ArithmeticError, TypeError, ValueError) as error:
        return {}, f"{path} holds no curves: {describe_error(error, path)}"


def _check_run(record: Any, path: Path) -> None:
    """Raise TableError if a kept curve is of another run than the record beside it; earlier versions did not say whose."""
    beside = path.with_name(path.name.removeprefix("curves_"))
    if record is not None and beside.is_file() and read_json(beside).get(RECORD) != record:
        raise TableError(f"{path} is of another run than {beside.name}.")


def curve_text(curve: Mapping[str, Points], record: str) -> str:
    """Return a curve of :func:`read_curve` as a JSON that it reads again: name to iterations and values.

    Args:
        curve: the values by name.
        record: what identifies the run.
    """
    lines = [f"{json.dumps(RECORD)}: {json.dumps(record)}"]
    lines += [
        f"{json.dumps(name)}: {json.dumps([list(points), list(points.values())])}"
        for name, points in sorted(curve.items())
    ]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def read_metrics(path: Path) -> tuple[Mapping[str, Points], str]:
    """Return the values of a run's ``metrics.json`` by name, and what is wrong with it; empty ones without a file.

    Metrics of checkpoints that were evaluated later (``maskrcnn eval --checkpoints``) stand among them.
    """
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
    problems = [f"{path}: {broken} lines are no metrics and were skipped"] * (broken > 0)
    problems += _add_checkpoints(by_name, path.parent)
    return by_name, "; ".join(problems)


def _add_checkpoints(by_name: dict[str, dict[int, float]], run: Path) -> list[str]:
    """Add what evaluations of a run's checkpoints gave, where nothing stands yet; return what is wrong with them."""
    problems = []
    for file in sorted((run / "inference" / CHECKPOINTS).glob(f"*/{RESULTS}")):
        try:
            record = read_record(file)
        except TableError as error:
            problems.append(str(error).rstrip("."))
            continue
        for name, value in flatten_results_dict(flat(record.metrics)).items():
            if value is not None:
                by_name.setdefault(name, {}).setdefault(record.iterations - 1, value)
    return problems


def _points(name: str, iterations: list[Any], values: list[Any]) -> Points:
    points = {int(k): float(value) for k, value in zip(iterations, values, strict=True)}
    most = MOST_VALUE if name.rpartition("/")[2] not in ("AP", "PQ") else 100.0
    if not points or not all(0 <= k <= MOST_ITERATIONS for k in points):
        raise WrongValueError(f"{name} has no iterations, or such as no training has")
    if not all(abs(value) <= most for value in points.values()):  # NaN, too
        raise WrongValueError(f"{name} has values that are none of a training")
    return points


def _thin(points: Points) -> Points:
    """Return means over equal spans of iterations, each at the last iteration of its span that has a value.

    The spans depend on the length of the training alone, so that seeds have the same ones, resumed or not.
    """
    span = PERIOD * max(1, math.ceil(max(points) / (PERIOD * MOST_POINTS)))
    spans: dict[int, list[int]] = {}
    for iteration in sorted(points):
        spans.setdefault(iteration // span, []).append(iteration)
    return {part[-1]: _average([points[k] for k in part]) for part in spans.values()}


def _average(values: list[float]) -> float:
    return float(f"{math.fsum(values) / len(values):.{DIGITS}g}")
