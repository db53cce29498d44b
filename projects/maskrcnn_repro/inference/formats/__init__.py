"""Predictions as annotations: COCO, and what labelling tools read for correction by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from maskrcnn_repro.inference.formats.coco import CocoWriter
from maskrcnn_repro.inference.formats.cvat import CvatWriter
from maskrcnn_repro.inference.formats.item import Item, Shapes, Writer
from maskrcnn_repro.inference.formats.label_studio import LabelStudioWriter
from maskrcnn_repro.inference.formats.labelme import LabelMeWriter

__all__ = ["WRITERS", "CocoWriter", "Item", "Shapes", "Writer"]

WRITERS: dict[str, Callable[[Path, Sequence[str], Shapes], Writer]] = {
    "coco": lambda folder, names, shapes: CocoWriter(folder / "predictions.json", names, shapes),
    "labelme": lambda folder, _, shapes: LabelMeWriter(folder / "labelme", shapes),
    "cvat": lambda folder, names, shapes: CvatWriter(folder / "annotations.xml", names, shapes),
    "labelstudio": lambda folder, names, shapes: LabelStudioWriter(
        folder / "label_studio.json", names, shapes
    ),
}
"""Name of a format -> a writer of it into a folder, from the class names and how masks are written."""
