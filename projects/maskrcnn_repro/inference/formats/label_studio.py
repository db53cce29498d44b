"""Label Studio: tasks with predictions, and the labelling configuration that they need.

Format: https://labelstud.io/guide/predictions.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from maskrcnn_repro.checkpoint.model_file import Labels
from maskrcnn_repro.inference.formats.item import Item, Shapes
from maskrcnn_repro.inference.formats.record import write_recorded
from maskrcnn_repro.inference.prediction import Prediction

import numpy as np
from pycocotools import mask as rle_codec

PREFIX = "/data/local-files/?d="
"""Address of a file below ``LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT``."""
_RUN_BITS = (3, 4, 8, 16)
"""Sizes of the numbers that hold the length of a run, less 1."""
_TAGS = {"polygonlabels": "PolygonLabels", "brushlabels": "BrushLabels"}


class LabelStudioWriter:
    """Writes a JSON of tasks and, beside it, the labelling configuration as XML.

    Images are named as files below Label Studio's document root, which is the folder of the inputs. Coordinates
    are percents of the image. The parts of an object are separate regions.

    Args:
        path: of the JSON.
        labels: of the model.
        shapes: how masks are written: as polygons or with the brush.
    """

    def __init__(self, path: Path, labels: Labels, shapes: Shapes) -> None:
        self.path, self.shapes, self.class_names = path, shapes, labels.class_names
        self.tasks: list[dict[str, Any]] = []
        self.kind = "polygonlabels" if shapes.polygons else "brushlabels"

    def add(self, item: Item) -> None:
        """Take the prediction for an image."""
        prediction = item.prediction
        if prediction.rles is None:
            self.kind = "rectanglelabels"
        regions: list[dict[str, Any]] = []
        for index in self.shapes.visible(prediction):
            for value in self._values(prediction, index):
                regions.append(self._region(prediction, index, value, f"{index}-{len(regions)}"))
        mean = float(prediction.scores.mean()) if len(prediction) else 0.0
        self.tasks.append(
            {
                "data": {"image": PREFIX + quote(item.name, errors="surrogateescape")},
                "predictions": [
                    {"model_version": "maskrcnn", "score": round(mean, 6), "result": regions}
                ],
            }
        )

    def close(self) -> list[str]:
        """Write both files; return sentences on them."""
        folder = self.path.parent
        write_recorded(folder, self.path, f"{json.dumps(self.tasks)}\n".encode())
        config = self.path.with_suffix(".xml")
        tag = _TAGS.get(self.kind, "RectangleLabels")
        labels = "".join(f"    <Label value={quoteattr(name)}/>\n" for name in self.class_names)
        view = (
            f'<View>\n  <Image name="image" value="$image"/>\n  <{tag} name="label" toName="image">\n'
            f"{labels}  </{tag}>\n</View>\n"
        )
        write_recorded(folder, config, view.encode())
        return [
            f"Label Studio: {self.path}, for a project with the labelling configuration {config}",
            *self.shapes.sentences(),
        ]

    def _region(
        self, prediction: Prediction, index: int, value: dict[str, Any], region_id: str
    ) -> dict[str, Any]:
        return {
            "id": region_id,
            "type": self.kind,
            "from_name": "label",
            "to_name": "image",
            "original_width": prediction.width,
            "original_height": prediction.height,
            "image_rotation": 0,
            "value": value | {self.kind: [prediction.names[index]]},
            "score": round(float(prediction.scores[index]), 6),
        }

    def _values(self, prediction: Prediction, index: int) -> list[dict[str, Any]]:
        percent = 100 / np.array([prediction.width, prediction.height])
        if prediction.rles is None:
            x1, y1, x2, y2 = (prediction.boxes[index].reshape(2, 2) * percent).ravel().tolist()
            return [{"x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1, "rotation": 0}]
        if not self.shapes.polygons:
            return [{"format": "rle", "rle": brush(rle_codec.decode(prediction.rles[index]))}]
        parts = self.shapes.parts(prediction, index)
        if len(parts) > 1:
            self.shapes.lose("Several parts are separate regions")
        return [{"points": (part * percent).tolist(), "closed": True} for part in parts]


def brush(mask: np.ndarray) -> list[int]:
    """Return a mask as the bytes of Label Studio's brush.

    They are bits: 32 for the number of values (four channels for each pixel, by rows), 5 for the size of a value
    less 1, 4 for each of the four sizes of a run's length less 1, and then the runs: a 1, two bits for the size of
    the length, the length less 1, the value. (The format has blocks of single values, too, which begin with a 0.)

    Args:
        mask: (H, W) uint8, 0 or 1.
    """
    pixels = mask.ravel()
    edges = np.flatnonzero(np.diff(pixels)) + 1
    starts = np.array([0, *edges])
    lengths = 4 * np.diff([*starts, pixels.size])
    bits = [f"{4 * pixels.size:032b}", f"{8 - 1:05b}", *(f"{size - 1:04b}" for size in _RUN_BITS)]
    for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
        value = f"{255 * int(pixels[start]):08b}"
        for run in (*[1 << 16] * (length >> 16), length & 0xFFFF):
            if run:
                place = next(i for i, size in enumerate(_RUN_BITS) if run <= 1 << size)
                bits.append(f"1{place:02b}{run - 1:0{_RUN_BITS[place]}b}{value}")
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return list(int(text, 2).to_bytes(len(text) // 8, "big"))
