"""Predictions as annotations: COCO, and what labelling tools read for correction by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from maskrcnn_repro.checkpoint.model_file import Labels
from maskrcnn_repro.inference.formats.coco import CocoWriter
from maskrcnn_repro.inference.formats.cvat import CvatWriter
from maskrcnn_repro.inference.formats.item import Item, Shapes, Writer
from maskrcnn_repro.inference.formats.label_studio import LabelStudioWriter
from maskrcnn_repro.inference.formats.labelme import LabelMeWriter, names_of_json
from maskrcnn_repro.inference.formats.panoptic import PanopticWriter
from maskrcnn_repro.inference.formats.record import check_unchanged

__all__ = ["WRITERS", "CocoWriter", "Item", "Shapes", "Writer", "check_corrections"]

WRITERS: dict[str, Callable[[Path, Labels, Shapes, str], Writer]] = {
    "coco": lambda folder, *model: CocoWriter(folder / "predictions.json", *model),
    "labelme": lambda folder, _, shapes, __: LabelMeWriter(folder / "labelme", shapes),
    "cvat": lambda folder, labels, shapes, _: CvatWriter(
        folder / "annotations.xml", labels, shapes
    ),
    "labelstudio": lambda folder, labels, shapes, _: LabelStudioWriter(
        folder / "label_studio.json", labels, shapes
    ),
    "panoptic": lambda folder, labels, *_: PanopticWriter(folder / "panoptic.json", labels),
}
"""Name of a format -> a writer of it into a folder, from the model's labels, how masks are written and how the
model computes."""


def check_corrections(form: str, folder: Path, names: Iterable[str]) -> None:
    """Raise OutputError if a writer would replace annotations that someone has corrected.

    Args:
        form: a name of :data:`WRITERS`; COCO files are results, which each prediction writes anew.
        folder: which the writer writes into.
        names: of the images.
    """
    if form == "labelme":
        folder = folder / "labelme"
        check_unchanged(folder, (folder / file for name in names for file in names_of_json(name)))
    elif form == "cvat":
        check_unchanged(folder, [folder / "annotations.xml"])
    elif form == "labelstudio":
        check_unchanged(folder, [folder / "label_studio.json", folder / "label_studio.xml"])
