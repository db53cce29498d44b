"""Predictions as annotations: COCO, and what labelling tools read for correction by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from maskrcnn_repro.checkpoint.model_file import Labels
from maskrcnn_repro.inference.formats.coco import CocoWriter
from maskrcnn_repro.inference.formats.cvat import CvatWriter
from maskrcnn_repro.inference.formats.item import Item, Shapes, Writer
from maskrcnn_repro.inference.formats.label_studio import LabelStudioWriter
from maskrcnn_repro.inference.formats.labelme import LabelMeWriter

__all__ = ["WRITERS", "CocoWriter", "Item", "Shapes", "Writer"]

WRITERS: dict[str, Callable[[Path, Labels, Shapes, str], Writer]] = {
    "coco": lambda folder, *model: CocoWriter(folder / "predictions.json", *model),
    "labelme": lambda folder, _, shapes, __: LabelMeWriter(folder / "labelme", shapes),
    "cvat": lambda folder, labels, shapes, _: CvatWriter(
        folder / "annotations.xml", labels, shapes
    ),
    "labelstudio": lambda folder, labels, shapes, _: LabelStudioWriter(
        folder / "label_studio.json", labels, shapes
    ),
}
"""Name of a format -> a writer of it into a folder, from the model's labels, how masks are written and how the
model computes."""
