"""A finished run as ``maskrcnn compare`` reads it from its folder."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskrcnn_repro.errors import TableError
from maskrcnn_repro.tables.report.curve_files import Points, read_metrics
from maskrcnn_repro.tables.report.places import METRICS_FILE
from maskrcnn_repro.tables.runs.reading import read_json
from maskrcnn_repro.tables.runs.records import CONFIG, RESULTS, Record, read_config, read_record

ELSEWHERE = ("OUTPUT_DIR",)
"""Keys whose difference says nothing."""


@dataclass(frozen=True)
class Run:
    """A folder with a finished run.

    Attributes:
        name: the end of its path that tells it from the others.
        folder: as it was given.
        record: metrics and origin.
        config: dotted keys and values.
        truth: data set to the path of its JSON, as the run saw it.
        points: name of a loss or metric to iterations and values.
        notes: what could not be read.
    """

    name: str
    folder: Path
    record: Record
    config: Mapping[str, Any]
    truth: Mapping[str, str]
    points: Mapping[str, Points]
    notes: tuple[str, ...] = ()


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Return the runs in some folders.

    Raises:
        TableError: a folder holds no finished run, or is given twice.
    """
    for number, folder in enumerate(folders):
        if os.path.realpath(folder) in map(os.path.realpath, folders[:number]):
            raise TableError(f"{folder} is given twice: a run is compared with others.")
    return [_read(folder, name) for folder, name in zip(folders, short_names(folders), strict=True)]


def short_names(folders: Sequence[Path]) -> list[str]:
    """Return the shortest ends of some paths that differ: ``a/seed1`` and ``b/seed1`` keep both parts."""
    parts = [Path(os.path.realpath(folder)).parts for folder in folders]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-length:]).lstrip("/") for part in parts]
        if len(set(names)) == len(names):
            break
    return names


def differences(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """Return the config keys whose values are not the same in all runs, with each run's value or None."""
    keys = sorted({key for run in runs for key in run.config} - set(ELSEWHERE))
    values = {key: [run.config.get(key) for run in runs] for key in keys}
    return {key: row for key, row in values.items() if any(value != row[0] for value in row)}


def _read(folder: Path, name: str) -> Run:
    if not (folder / RESULTS).is_file():
        reason = "is no folder" if not folder.is_dir() else f"holds no {RESULTS}"
        raise TableError(
            f"{folder} {reason}: name the OUTPUT_DIR of a finished training or evaluation."
        )
    points, problem = read_metrics(folder / METRICS_FILE)
    record = read_record(folder / RESULTS)
    splits = read_json(folder / RESULTS)["datasets"]
    truth = {
        entry["name"]: entry["json"]
        for split in splits.values()
        for entry in split
        if isinstance(entry.get("json"), str)
    }
    return Run(
        name=name,
        folder=folder,
        record=record,
        config=read_config(folder / CONFIG),
        truth=truth,
        points=points,
        notes=(problem,) if problem else (),
    )
