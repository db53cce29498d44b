"""Exported files of tiny models, held against the model."""

from pathlib import Path
from typing import Any

from maskrcnn_repro.checkpoint.model_file import Labels
from maskrcnn_repro.checkpoint.model_source import find_model
from maskrcnn_repro.export.exporting import WRITERS, Exporter
from maskrcnn_repro.export.metadata import Target

from tests.helpers.tiny_predictor import LABELS, write_tiny_model


def export_tiny_model(
    folder: Path, kind: str, form: str, keys: dict[str, Any], labels: Labels = LABELS, **target: Any
) -> Any:
    """Write a tiny model and its export, every detection of which matches; return the comparison and both files."""
    source = find_model(write_tiny_model(folder, kind, labels, **keys))
    file = folder / f"model{WRITERS[form][0]}"
    comparison = Exporter(source, Target(form, threshold=0.0, **target)).write(file)
    assert comparison.holds
    assert comparison.matched == comparison.detections > 0
    return comparison, source.weights, file
