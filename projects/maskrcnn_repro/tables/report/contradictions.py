"""Kept records that contradict what is kept beside them: what was drawn of their images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from maskrcnn_repro.evaluation.table import PANOPTIC, PRECISIONS
from maskrcnn_repro.tables.report.draw_files import Resampled, stored_draws
from maskrcnn_repro.tables.report.gather import Gathered, refuse_others
from maskrcnn_repro.tables.report.matching import AP_TOLERANCE, dataset_of, select_metrics
from maskrcnn_repro.tables.runs.records import Record

import numpy as np

FARTHEST = 4.0
"""Standard deviations that a metric may lie from the mean of its own draws. Images that come twice shift that mean a little:
by 0.72 at most among 507 metrics of runs here, on 1,000 images; on fewer by more, as the root of their number."""


def refuse_contradicting(gathered: Gathered) -> None:
    """Drop kept records that cannot be those of the draws kept beside them, or whose draws are of other images than most."""
    images: dict[Path, Mapping[str, str]] = {}
    for experiment, records in gathered.records.items():
        for seed, record in [(seed, record) for seed, record in records.items() if record.kept]:
            draws = _draws(record)
            images[record.path] = _drawn_images(record, draws)
            if why := _describe_contradiction(record, draws):
                del records[seed]
                gathered.refuse(experiment, record.path, why)
    refuse_others(
        gathered,
        lambda record: images.get(record.path, {}),
        lambda name, there, right: (
            f"its draws are of {there} images of {name}, those of most of {right}"
        ),
    )


def contradiction(record: Record) -> str:
    """Return which metric of a kept record its draws contradict; empty if none does."""
    return _describe_contradiction(record, _draws(record))


def _draws(record: Record) -> dict[str, Resampled]:
    """Return what is kept of a record's draws, by task."""
    tasks = [task for task in (*PRECISIONS, PANOPTIC) if select_metrics(record, task)]
    return {task: draws for task in tasks if (draws := stored_draws(record, task))}


def _drawn_images(record: Record, draws: Mapping[str, Resampled]) -> dict[str, str]:
    """Return a record's data set to the number of its images that were drawn."""
    numbers = {str(drawn.images) for task, drawn in draws.items() if task in PRECISIONS}
    return {dataset_of(record): " and ".join(sorted(numbers))} if numbers else {}


def _describe_contradiction(record: Record, draws: Mapping[str, Resampled]) -> str:
    for task, resampled in draws.items():
        for name, values in resampled.values.items():
            there = select_metrics(record, task).get(name, math.nan)
            drawn = values[np.isfinite(values)]
            if not len(drawn):
                continue
            mean, deviation = float(drawn.mean()), float(drawn.std())
            if there is None:
                return f"its {task} {name} is not there, though its draws are, {mean:.2f} ± {deviation:.2f}"
            if abs(there - mean) > FARTHEST * deviation + AP_TOLERANCE:
                return f"its {task} {name} of {there:.2f} contradicts its draws, {mean:.2f} ± {deviation:.2f}"
    return ""
