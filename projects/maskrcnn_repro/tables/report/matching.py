"""The detections of a record matched anew with the annotations that it was measured on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from maskrcnn_repro.data.panoptic.truth import PanopticTruth, open_truth
from maskrcnn_repro.errors import TableError
from maskrcnn_repro.evaluation.panoptic import RESULTS
from maskrcnn_repro.evaluation.panoptic_resampling import METRICS as PANOPTIC_METRICS
from maskrcnn_repro.evaluation.panoptic_resampling import PanopticSums, count_images
from maskrcnn_repro.evaluation.resampling import METRICS, Matches, match
from maskrcnn_repro.evaluation.surface_resampling import FILE as SURFACE_MATCHES
from maskrcnn_repro.evaluation.surface_resampling import read_matches
from maskrcnn_repro.evaluation.table import PANOPTIC, PRECISIONS, SURFACES
from maskrcnn_repro.tables.report.gather import short_digest
from maskrcnn_repro.tables.report.places import detections_file
from maskrcnn_repro.tables.runs.records import CONFIG, Record, read_config
from maskrcnn_repro.utils.provenance import data_origin

import numpy as np

AP_TOLERANCE = 0.05
"""AP points. A record's AP and that of the detections beside it are sums of the same numbers."""


def matches_of(record: Record, task: str) -> Matches | PanopticSums:
    """Match a record's detections or segments with those of its data set, in a task that it was measured in.

    Those of surface coordinates were matched when they were evaluated.

    Raises:
        UserError: annotations, detections or matches are missing, cannot be read, or are not those of the record.
    """
    file = _results_of(record, task)
    if task == PANOPTIC:
        matches: Matches | PanopticSums = _panoptic_sums(record, file)
    else:
        matches = read_matches(file, task) if task in SURFACES else match_anew(record, task)
    check_evaluation(matches, task, select_metrics(record, task), (file, record.path))
    return matches


def check_evaluation(
    matches: Matches | PanopticSums,
    task: str,
    measured: Mapping[str, float | None],
    files: tuple[Path, Path],
) -> None:
    """Raise TableError if the matches of a task are not of the evaluation that a record tells of.

    Args:
        matches: of the results beside the record.
        task: the task.
        measured: the record's metrics of it.
        files: of the results and of the record, for the message.
    """
    key, once = main_metric(task), np.ones((1, len(matches.image_ids)), dtype=int)
    there, own = float(matches.resampled(once)[key][0]), measured.get(key)
    own = math.nan if own is None else own
    if not abs(there - own) <= AP_TOLERANCE:  # NaN, too
        title = f"{PRECISIONS[task]} AP" if task in PRECISIONS else key
        raise TableError(
            f"{files[0]} is of another evaluation than {files[1].name}: its {title} is {there:.2f}, the record's {own:.2f}"
        )


def _panoptic_sums(record: Record, file: Path) -> PanopticSums:
    _check_data(record)
    results = PanopticTruth.read(file, file.with_suffix(""), results=True)
    return count_images(open_truth(dataset_of(record)), results)


def match_anew(record: Record, task: str) -> Matches:
    """Match the detections beside a record, whatever the record says of them; otherwise :func:`matches_of`."""
    truth = _check_data(record)
    sigmas = ()
    if task == "keypoints":
        sigmas = read_config(record.path.with_name(CONFIG)).get("TEST.KEYPOINT_OKS_SIGMAS", ())
    return match(truth, _results_of(record, task), task, sigmas)


def _check_data(record: Record) -> str:
    """Return the path of the annotations that a record was measured on; raise TableError if they are not here."""
    name = dataset_of(record)
    truth = data_origin(name)
    if truth["json"] is None or truth["sha256"] is None:
        raise TableError(f"the annotations of data set {name} are not on this machine")
    if truth["sha256"] != record.data.get(name):
        raise TableError(
            f"the data set {name} of this machine is another version than the record's "
            f"(SHA-256 {short_digest(truth['sha256'])}, not {short_digest(record.data.get(name))})"
        )
    return str(truth["json"])


def _results_of(record: Record, task: str) -> Path:
    """Return where the detections, segments or matches that a record was measured on lie."""
    others = {PANOPTIC: RESULTS, **dict.fromkeys(SURFACES, SURFACE_MATCHES)}
    file = detections_file(record.path, dataset_of(record))
    return file.with_name(others.get(task, file.name))


def dataset_of(record: Record) -> str:
    """Return the data set that a table's numbers come from: the first one."""
    return next(iter(record.metrics), "")


def is_drawn(task: str, key: str) -> bool:
    """Tell whether images that are drawn again give a task's metric ``key``."""
    if task == PANOPTIC:
        return key in PANOPTIC_METRICS
    return task in PRECISIONS and key in METRICS


def main_metric(task: str) -> str:
    """Return the metric of a task that tells whether results are those of a record."""
    return "PQ" if task == PANOPTIC else "AP"


def select_metrics(record: Record, task: str) -> Mapping[str, float | None]:
    """Return the metrics of a task on the data set that a table's numbers come from; empty if there are none."""
    return record.metrics.get(dataset_of(record), {}).get(task, {})
