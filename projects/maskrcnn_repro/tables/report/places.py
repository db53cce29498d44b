"""Where the files of a record's run lie."""

from __future__ import annotations

from pathlib import Path

from maskrcnn_repro.evaluation.coco import predictions_file


def run_folder(results: Path) -> Path:
    """Return the folder of the run that left these results: its own or its last evaluation's."""
    return results.parent.parent if results.parent.name == "inference" else results.parent


def detections_file(results: Path, dataset: str) -> Path:
    """Return where the detections behind these results lie."""
    return predictions_file(run_folder(results) / "inference", dataset)
