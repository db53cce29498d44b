"""Mask AP after as many seconds as the baseline takes: of a training with fewer iterations, in the row of the whole one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from maskrcnn_repro.tables.paper.experiments import Experiment
from maskrcnn_repro.tables.paper.numbers import Row
from maskrcnn_repro.tables.report.gather import Gathered
from maskrcnn_repro.tables.report.matching import dataset_of

TASK = "equal_seconds"
"""Task of the columns, whose keys are those of ``segm``."""


def add_equal_seconds(gathered: Gathered, rows: Iterable[Row]) -> None:
    """Add to the records of rows what the trainings of ``equal_seconds`` reach with the same seed."""
    pairs = {row.experiment: row.equal_seconds for row in rows if row.equal_seconds}
    for experiment, other in pairs.items():
        records = gathered.records.get(experiment or "", {})
        for seed, short in gathered.records.get(other or "", {}).items():
            name = dataset_of(short)
            if seed in records and dataset_of(records[seed]) == name:
                measured = {
                    **records[seed].metrics[name],
                    TASK: short.metrics[name].get("segm", {}),
                }
                records[seed] = replace(
                    records[seed], metrics={**records[seed].metrics, name: measured}
                )


def with_iterations(row: Row, experiments: Mapping[str, Experiment], gathered: Gathered) -> Row:
    """Return a row whose note says of how many iterations its mask AP after equal seconds is, if it has one."""
    experiment = experiments.get(row.equal_seconds or "")
    if experiment is None or not experiment.shortens or not gathered.records.get(experiment.id):
        return row
    told = f"Equal time: a training of {experiment.overrides[1]} iterations, its schedule as long."
    return replace(row, note=f"{row.note} {told}" if row.note else told)
