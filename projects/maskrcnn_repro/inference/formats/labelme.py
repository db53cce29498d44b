"""LabelMe: a JSON beside each image, or, as here, in a folder of its own that mirrors the images'.

Format: https://github.com/wkentaro/labelme, ``labelme/label_file.py``.
"""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path, PurePosixPath
from typing import Any

from maskrcnn_repro.errors import counted
from maskrcnn_repro.inference.formats.item import Item, Shapes
from maskrcnn_repro.inference.formats.record import write_recorded
from maskrcnn_repro.inference.outlines import crop_mask
from maskrcnn_repro.inference.prediction import Prediction

import cv2

VERSION = "5.3.0"
"""Of the format: the first with masks."""


class LabelMeWriter:
    """Writes a JSON for each image, which names the image by its relative path.

    The parts of an object are shapes of one ``group_id``; scores stand in ``description``.

    Args:
        folder: of the JSON files.
        shapes: how masks are written.
    """

    def __init__(self, folder: Path, shapes: Shapes) -> None:
        self.folder, self.shapes = folder, shapes
        self.written: set[Path] = set()

    def add(self, item: Item) -> None:
        """Write the JSON of an image."""
        short, long = names_of_json(item.name)
        # The long one for an image whose name differs from another's in its ending alone.
        target = self.folder / (long if self.folder / short in self.written else short)
        prediction = item.prediction
        shapes = [s for i in self.shapes.visible(prediction) for s in self._shapes(prediction, i)]
        tree: dict[str, Any] = {
            "version": VERSION,
            "flags": {},
            "shapes": shapes,
            "imagePath": Path(os.path.relpath(item.path, target.parent)).as_posix(),
            "imageData": None,
            "imageHeight": prediction.height,
            "imageWidth": prediction.width,
        }
        write_recorded(self.folder, target, f"{json.dumps(tree, indent=1)}\n".encode())
        self.written.add(target)

    def close(self) -> list[str]:
        """Return sentences on what was written."""
        return [
            f"LabelMe: {counted(len(self.written), 'file')} in {self.folder}",
            *self.shapes.sentences(),
        ]

    def _shapes(self, prediction: Prediction, index: int) -> list[dict[str, Any]]:
        mask = None
        if prediction.rles is None:
            kind, outlines = "rectangle", [prediction.boxes[index].reshape(2, 2)]
        elif self.shapes.polygons:
            kind, outlines = "polygon", self.shapes.parts(prediction, index)
        else:
            (left, top), crop = crop_mask(prediction.rles[index])
            height, width = crop.shape
            # Both corners are pixels of the mask.
            kind, outlines = "mask", [[[left, top], [left + width - 1, top + height - 1]]]
            mask = base64.b64encode(cv2.imencode(".png", crop * 255)[1].tobytes()).decode()
        return [
            {
                "label": prediction.names[index],
                "points": [[float(x), float(y)] for x, y in points],
                "group_id": index + 1 if len(outlines) > 1 else None,
                "description": f"{prediction.scores[index]:.4f}",
                "shape_type": kind,
                "flags": {},
                "mask": mask,
            }
            for points in outlines
        ]


def names_of_json(name: str) -> tuple[str, str]:
    """Return the two names, one of which the JSON of an image has."""
    return PurePosixPath(name).with_suffix(".json").as_posix(), f"{name}.json"
