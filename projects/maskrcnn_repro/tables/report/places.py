"""Where the files of a record lie: beside its run, or kept with the code.

A kept record is ``LEVEL/BACKEND/EXPERIMENT/seedK.json``; what is kept of its run lies beside it.
"""

from __future__ import annotations

from pathlib import Path

from maskrcnn_repro.evaluation.coco import predictions_file
from maskrcnn_repro.tables.report.model import Origin
from maskrcnn_repro.tables.runs.records import RESULTS, identity

METRICS_FILE = "metrics.json"
PICTURES = "pictures"
"""Folder in ``LEVEL/BACKEND`` of the pictured images."""


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


def run_folder(results: Path) -> Path:
    """Return the folder of the run that left these results: its own or its last evaluation's."""
    return results.parent.parent if results.parent.name == "inference" else results.parent


def detections_file(results: Path, dataset: str) -> Path:
    """Return where the detections behind these results lie."""
    return predictions_file(run_folder(results) / "inference", dataset)
