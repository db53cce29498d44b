"""Where the files of a record lie: beside its run, or kept with the code.

A kept record is ``LEVEL/BACKEND/EXPERIMENT/seedK.json``; what is kept of its run lies beside it.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from maskrcnn_repro.evaluation.coco import predictions_file
from maskrcnn_repro.tables.report.model import Origin, Report
from maskrcnn_repro.tables.runs.records import RESULTS, identity, run_folder

METRICS_FILE = "metrics.json"
PICTURES = "pictures"
"""Folder in ``LEVEL/BACKEND`` of the pictured images."""


def table_command(reports: Sequence[Report], *options: str) -> str:
    """Return the command line that makes reports of one level, with further options.

    Of overlays a report has the names alone: ``FOLDER`` stands for where the user's files lie.
    """
    report = reports[0]
    words = ["maskrcnn", "table", *(r.table for r in reports)]
    words += ["--level", report.level.partition("-")[0]]
    words += [word for name in report.overlays for word in ("--overlay", f"FOLDER/{name}")]
    words += [*options, *(["--", *report.overrides] if report.overrides else [])]
    return shlex.join(words)


def is_kept(results: Path) -> bool:
    """Tell whether these results are a kept record, not a run's."""
    return results.name != RESULTS


def record_of(run: Origin) -> str:
    """Return the hash of a run's results, as a kept report says it or as the file has it; empty without either."""
    return run.record or identity(Path(run.results)) or ""


def kept_beside(record: Path, kind: str, suffix: str = ".json") -> Path:
    """Return where something is kept beside a record: ``curves_seed1.json``."""
    return record.with_name(f"{kind}_{record.stem}{suffix}")


def curve_file(results: Path) -> Path:
    """Return the metrics of a record's training; an evaluation alone has none."""
    if is_kept(results):
        return kept_beside(results, "curves")
    path = results.with_name(METRICS_FILE)
    # A later evaluation of a training lies in a folder of the training's.
    return path if path.is_file() else path.parent.parent / path.name


def detections_file(results: Path, dataset: str) -> Path:
    """Return where the detections behind these results lie."""
    return predictions_file(run_folder(results) / "inference", dataset)
