"""Boundary AP of runs that did not measure it, from their detections; kept beside the record."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Container
from dataclasses import replace
from pathlib import Path

from maskrcnn_repro.errors import OutputError, TableError, UserError
from maskrcnn_repro.tables.report.gather import Gathered
from maskrcnn_repro.tables.report.matching import dataset_of, match_anew, matches_of
from maskrcnn_repro.tables.runs.reading import read_json
from maskrcnn_repro.tables.runs.records import Record
from maskrcnn_repro.utils.files import write_text

from tqdm import tqdm

TASK = "boundary"
FILE = "boundary.json"
METHOD = 1
"""Raised whenever the same files would give other numbers."""


def add_boundary_ap(gathered: Gathered, experiments: Container[str | None]) -> None:
    """Add boundary AP to the records of some experiments that have mask AP alone; note where it cannot be computed."""
    missing = [
        (experiment, seed, record)
        for experiment, records in gathered.records.items()
        for seed, record in records.items()
        if experiment in experiments and _is_missing(record)
    ]
    # A bar on a terminal alone.
    for experiment, seed, record in tqdm(missing, desc="boundary AP", disable=None):
        try:
            gathered.records[experiment][seed] = with_boundary_ap(record)
        except UserError as error:
            gathered.refuse(experiment, record.path.parent, f"no boundary AP: {error}")


def with_boundary_ap(record: Record) -> Record:
    """Return a record with boundary AP, of the detections that its mask AP is of.

    Raises:
        UserError: annotations or detections are missing, cannot be read, or are not those of the record.
    """
    if record.kept:
        raise TableError("it is not kept")
    values = measured_before(record)
    if values is None:
        matches_of(record, "segm")  # raises if they are another run's
        points = match_anew(record, TASK).average_precision()
        values = {name: None if math.isnan(value) else value for name, value in points.items()}
        with contextlib.suppress(OutputError):  # it is computed again then
            write_text(_file(record), json.dumps({"key": _key(record), **values}) + "\n")
    name = dataset_of(record)
    measured = {**record.metrics[name], TASK: values}
    return replace(record, metrics={**record.metrics, name: measured})


def _is_missing(record: Record) -> bool:
    tasks = record.metrics.get(dataset_of(record), {})
    return "segm" in tasks and TASK not in tasks


def _key(record: Record) -> str:
    parts = [METHOD, record.identity, record.data.get(dataset_of(record))]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def measured_before(record: Record) -> dict[str, float | None] | None:
    """Return the boundary AP that lies beside a record; None if it is of another one or cannot be read."""
    try:
        values = read_json(_file(record))
        return values if values.pop("key", None) == _key(record) else None
    except TableError:
        return None


def _file(record: Record) -> Path:
    return record.path.with_name(FILE)
