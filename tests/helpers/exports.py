"""Exported files of tiny models, held against the model."""

from pathlib import Path
from typing import Any

from maskrcnn_repro.checkpoint.model_file import Labels
from maskrcnn_repro.checkpoint.model_source import ModelSource, find_model
from maskrcnn_repro.export.exporting import WRITERS, Exporter
from maskrcnn_repro.export.graph import ExportGraph
from maskrcnn_repro.export.metadata import Target
from maskrcnn_repro.inference.exported import ExportedModel

import torch

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


def graph_as_file(model: Any, cfg: Any, threshold: float = 0.0) -> ExportedModel:
    """Return what an exported file of a model would be, its graph run by PyTorch as it is."""
    graph = ExportGraph(model, threshold=threshold, pasted=bool(cfg.MODEL.MASK_ON))

    def run(image: Any, size: Any) -> Any:
        outputs = graph(torch.from_numpy(image), torch.from_numpy(size))
        return {
            name: output.detach().numpy()
            for name, output in zip(graph.outputs, outputs, strict=True)
        }

    facts = {"threshold": threshold, "outputs": graph.outputs, "channels": cfg.INPUT.FORMAT}
    facts |= {"nms_threshold": 0.5, "detections_per_image": cfg.TEST.DETECTIONS_PER_IMAGE}
    for branch in graph.further:
        facts |= branch.facts(cfg)
    return ExportedModel(ModelSource(cfg, Path("a.onnx"), LABELS, {}), facts, run)
