"""CVAT for images 1.1: one XML for a task.

Format: https://docs.cvat.ai/docs/manual/advanced/xml_format/.
"""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from xml.etree import ElementTree

from maskrcnn_repro.checkpoint.model_file import Labels
from maskrcnn_repro.errors import DataError
from maskrcnn_repro.inference.formats.item import Item, Shapes
from maskrcnn_repro.inference.formats.record import write_recorded
from maskrcnn_repro.inference.outlines import crop_mask
from maskrcnn_repro.inference.prediction import Prediction

import numpy as np

_NO_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
"""Characters that XML 1.0 cannot hold."""


class CvatWriter:
    """Writes one XML; objects have an attribute ``score``, and the parts of an object one ``group_id``.

    Args:
        path: of the XML.
        labels: of the model; its classes are the labels of the task.
        shapes: how masks are written.
    """

    def __init__(self, path: Path, labels: Labels, shapes: Shapes) -> None:
        self.path, self.shapes = path, shapes
        self.root = ElementTree.Element("annotations")
        ElementTree.SubElement(self.root, "version").text = "1.1"
        task = ElementTree.SubElement(ElementTree.SubElement(self.root, "meta"), "task")
        listed = ElementTree.SubElement(task, "labels")
        for name in labels.class_names:
            label = ElementTree.SubElement(listed, "label")
            ElementTree.SubElement(label, "name").text = _NO_XML.sub("?", name)
            attributes = ElementTree.SubElement(label, "attributes")
            attribute = ElementTree.SubElement(attributes, "attribute")
            fields = {"name": "score", "mutable": "False", "input_type": "text"}
            for key, text in (fields | {"default_value": "", "values": ""}).items():
                ElementTree.SubElement(attribute, key).text = text
        self.images = itertools.count()

    def add(self, item: Item) -> None:
        """Take the prediction for an image.

        Raises:
            DataError: XML cannot hold the name of the image.
        """
        if _NO_XML.search(item.name):
            raise DataError(
                f"Image {item.name} has a character in its name that XML cannot hold; rename the file."
            )
        prediction = item.prediction
        size = {"width": str(prediction.width), "height": str(prediction.height)}
        image = ElementTree.SubElement(
            self.root, "image", {"id": str(next(self.images)), "name": item.name, **size}
        )
        for index in self.shapes.visible(prediction):
            self._add_object(image, prediction, index)

    def close(self) -> list[str]:
        """Write the XML; return sentences on it."""
        ElementTree.indent(self.root)
        content = ElementTree.tostring(self.root, encoding="utf-8", xml_declaration=True)
        write_recorded(self.path.parent, self.path, content)
        return [f"CVAT for images 1.1: {self.path}", *self.shapes.sentences()]

    def _add_object(self, image: ElementTree.Element, prediction: Prediction, index: int) -> None:
        if prediction.rles is None:
            corners = zip(("xtl", "ytl", "xbr", "ybr"), prediction.boxes[index], strict=True)
            fields = [{name: f"{value:.2f}" for name, value in corners}]
            kind = "box"
        elif self.shapes.polygons:
            parts = self.shapes.parts(prediction, index)
            fields = [{"points": ";".join(f"{x:.2f},{y:.2f}" for x, y in part)} for part in parts]
            kind = "polygon"
        else:
            kind, fields = "mask", [_mask_fields(*crop_mask(prediction.rles[index]))]
        common = {"label": _NO_XML.sub("?", prediction.names[index]), "source": "auto"}
        common |= {"occluded": "0", "z_order": "0"}
        if len(fields) > 1:
            common["group_id"] = str(index + 1)
        for own in fields:
            element = ElementTree.SubElement(image, kind, common | own)
            score = ElementTree.SubElement(element, "attribute", {"name": "score"})
            score.text = f"{prediction.scores[index]:.4f}"


def _mask_fields(corner: tuple[int, int], crop: np.ndarray) -> dict[str, str]:
    """Return the attributes of a mask: its box, and runs by rows within it, of which the first is background."""
    pixels = crop.ravel()
    edges = np.flatnonzero(np.diff(pixels)) + 1
    runs = np.diff([0, *edges, pixels.size]).tolist()
    if pixels[0]:
        runs.insert(0, 0)
    height, width = crop.shape
    box = {"left": corner[0], "top": corner[1], "width": width, "height": height}
    return {"rle": ", ".join(map(str, runs)), **{name: str(value) for name, value in box.items()}}
