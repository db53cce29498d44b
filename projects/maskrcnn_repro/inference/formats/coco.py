"""COCO: one JSON that is a data set, and whose annotations are a results list.

Format: https://cocodataset.org/#format-data and #format-results.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from maskrcnn_repro.inference.formats.item import Item, Shapes
from maskrcnn_repro.inference.prediction import Prediction
from maskrcnn_repro.utils.files import write_text

import numpy as np
from pycocotools import mask as rle_codec


class CocoWriter:
    """Writes a COCO data set whose annotations have scores as well, so that they are COCO results, too.

    Category ids are places among the class names, from 1. A frame of a video is an image named after the video,
    with its number as ``frame``; its annotations have a ``track_id``.

    Args:
        path: of the JSON.
        class_names: of the model.
        shapes: how masks are written.
    """

    def __init__(self, path: Path, class_names: Sequence[str], shapes: Shapes) -> None:
        self.path, self.shapes = path, shapes
        self.tree: dict[str, list[dict[str, Any]]] = {
            "images": [],
            "annotations": [],
            "categories": [{"id": i, "name": n} for i, n in enumerate(class_names, start=1)],
        }

    def add(self, item: Item) -> None:
        """Take the prediction for an image."""
        prediction = item.prediction
        image: dict[str, Any] = {"id": len(self.tree["images"]) + 1, "file_name": item.name}
        if item.frame is not None:
            image |= {"file_name": f"{item.name}/{item.frame:06d}", "frame": item.frame}
        image |= {"height": prediction.height, "width": prediction.width}
        self.tree["images"].append(image)
        if prediction.keypoint_names:
            for category in self.tree["categories"]:
                category.setdefault("keypoints", list(prediction.keypoint_names))
        annotations = self.tree["annotations"]
        for index in self.shapes.visible(prediction):
            row = {"id": len(annotations) + 1, "image_id": image["id"], "iscrowd": 0}
            row |= self._annotation(prediction, index)
            if item.tracks:
                row["track_id"] = item.tracks[index]
            annotations.append(row)

    def close(self) -> list[str]:
        """Write the JSON; return sentences on it."""
        write_text(self.path, json.dumps(self.tree) + "\n")
        return [f"COCO data set with scores: {self.path}", *self.shapes.sentences()]

    def _annotation(self, prediction: Prediction, index: int) -> dict[str, Any]:
        x1, y1, x2, y2 = (round(float(value), 3) for value in prediction.boxes[index])
        row: dict[str, Any] = {
            "category_id": int(prediction.class_ids[index]) + 1,
            "bbox": [x1, y1, round(x2 - x1, 3), round(y2 - y1, 3)],
            "score": round(float(prediction.scores[index]), 6),
            "area": round((x2 - x1) * (y2 - y1), 3),
        }
        if prediction.rles is not None:
            rle = prediction.rles[index]
            row["area"] = int(rle_codec.area(rle))
            row["segmentation"] = (
                [part.ravel().tolist() for part in self.shapes.parts(prediction, index)]
                if self.shapes.polygons
                else {"size": list(rle["size"]), "counts": _text(rle["counts"])}
            )
        if prediction.keypoints is not None:
            row |= _keypoints(prediction.keypoints[index])
        return row


def _text(counts: bytes | str) -> str:
    return counts if isinstance(counts, str) else counts.decode("ascii")


def _keypoints(points: np.ndarray) -> dict[str, Any]:
    """Return the entries of a detection's keypoints; COCO's are indices of pixels, and its flags whole numbers."""
    values = [
        number
        for x, y, _ in points
        for number in (round(float(x) - 0.5, 3), round(float(y) - 0.5, 3), 2)
    ]
    return {
        "keypoints": values,
        "num_keypoints": len(points),
        "keypoint_scores": [round(float(score), 6) for score in points[:, 2]],
    }
