"""Kept records that contradict what is kept beside them: what was drawn of their images."""

from __future__ import annotations

import math

from maskrcnn_repro.evaluation.table import PANOPTIC, PRECISIONS
from maskrcnn_repro.tables.report.gather import Gathered, refuse_others
from maskrcnn_repro.tables.report.resampled import AP_TOLERANCE, dataset_of, measured, stored_draws
from maskrcnn_repro.tables.runs.records import Record

import numpy as np

FARTHEST = 4.0
"""Standard deviations that a metric may lie from the mean of its own draws. Images that come twice shift that mean a little:
by 0.72 at most among 507 metrics of runs here, on 1,000 images; on fewer by more, as the root of their number."""


def refuse_contradicting(gathered: Gathered) -> None:
    """Drop kept records whose metrics cannot be those of the draws that are kept beside them."""
    for experiment, records in gathered.records.items():
        for seed, record in list(records.items()):
            if record.kept and (why := contradiction(record)):
                del records[seed]
                gathered.refuse(experiment, record.path, why)
    refuse_others(
        gathered,
        _drawn_images,
        lambda name, there, right: (
            f"its draws are of {there} images of {name}, those of most of {right}"
        ),
    )


def _drawn_images(record: Record) -> dict[str, str | None]:
    """Return a kept record's data set to the number of its images that were drawn."""
    drawn = [stored_draws(record, task) for task in PRECISIONS if measured(record, task)]
    numbers = {str(draws.images) for draws in drawn if draws} if record.kept else set()
    return {dataset_of(record): " and ".join(sorted(numbers))} if numbers else {}


def contradiction(record: Record) -> str:
    """Return which metric of a kept record its draws contradict; empty if none does."""
    for task in (*PRECISIONS, PANOPTIC):
        draws = stored_draws(record, task) if measured(record, task) else None
        for name, values in draws.values.items() if draws else ():
            there = measured(record, task).get(name, math.nan)
            drawn = values[np.isfinite(values)]
            if not len(drawn):
                continue
            mean, deviation = float(drawn.mean()), float(drawn.std())
            if there is None:
                return f"its {task} {name} is not there, though its draws are, {mean:.2f} ± {deviation:.2f}"
            if abs(there - mean) > FARTHEST * deviation + AP_TOLERANCE:
                return f"its {task} {name} of {there:.2f} contradicts its draws, {mean:.2f} ± {deviation:.2f}"
    return ""
