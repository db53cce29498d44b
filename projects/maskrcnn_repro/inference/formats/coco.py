"""COCO: one JSON that is a data set, and whose annotations are a results list.

Format: https://cocodataset.org/#format-data and #format-results.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from maskrcnn_repro.checkpoint.model_file import Labels
from maskrcnn_repro.inference.formats.item import Item, Shapes
from maskrcnn_repro.inference.prediction import Prediction
from maskrcnn_repro.utils.files import write_text

import numpy as np
from pycocotools import mask as rle_codec


class CocoWriter:
    """Writes a COCO data set whose annotations have scores as well, so that they are COCO results, too.

    Category ids are those of the data that the model was trained on, if it knows them. A frame of a video is an image named after the video,
    with its number as ``frame``; its annotations have a ``track_id``.

    Args:
        path: of the JSON.
        labels: of the model.
        shapes: how masks are written.
        path_of_model: how the model computes, see :attr:`Predictor.path`; it is written as ``info.inference``.
    """

    def __init__(self, path: Path, labels: Labels, shapes: Shapes, path_of_model: str = "") -> None:
        self.path, self.shapes = path, shapes
        self.info = {"inference": path_of_model} if path_of_model else {}
        ids = labels.category_ids or range(1, len(labels.class_names) + 1)
        categories: list[dict[str, Any]] = [
            {"id": number, "name": name}
            for number, name in zip(ids, labels.class_names, strict=True)
        ]
        if names := list(labels.keypoint_names):
            skeleton = [[names.index(a) + 1, names.index(b) + 1] for a, b in labels.skeleton]
            for category in categories:
                category |= {"keypoints": names, "skeleton": skeleton}
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []
        self.categories = categories

    def add(self, item: Item) -> None:
        """Take the prediction for an image."""
        prediction = item.prediction
        image: dict[str, Any] = {"id": len(self.images) + 1, "file_name": item.name}
        if item.frame is not None:
            image |= {"file_name": f"{item.name}/{item.frame:06d}", "frame": item.frame}
        self.images.append(image | {"height": prediction.height, "width": prediction.width})
        results = prediction.to_coco(image["id"])
        for index in self.shapes.visible(prediction):
            row = {"id": len(self.annotations) + 1, **results[index], "iscrowd": 0}
            row |= self._of_a_data_set(prediction, index)
            if item.tracks:
                row["track_id"] = item.tracks[index]
            self.annotations.append(row)

    def close(self) -> list[str]:
        """Write the JSON; return sentences on it."""
        tree = {
            "info": self.info,
            "images": self.images,
            "annotations": self.annotations,
            "categories": self.categories,
        }
        write_text(self.path, json.dumps(tree) + "\n")
        return [f"COCO data set with scores: {self.path}", *self.shapes.sentences()]

    def _of_a_data_set(self, prediction: Prediction, index: int) -> dict[str, Any]:
        """Return what a data set has beyond results, or otherwise."""
        row: dict[str, Any] = {}
        if prediction.rles is None:
            x1, y1, x2, y2 = prediction.boxes[index].tolist()
            row["area"] = (x2 - x1) * (y2 - y1)
        else:
            row["area"] = int(rle_codec.area(prediction.rles[index]))
            if self.shapes.polygons:
                parts = self.shapes.parts(prediction, index)
                row["segmentation"] = [part.ravel().tolist() for part in parts]
        if prediction.keypoints is not None:
            points = prediction.keypoints[index].astype(np.float64)
            # A data set has flags where results may have scores.
            flagged = [[x - 0.5, y - 0.5, 2] for x, y, _ in points.tolist()]
            row["keypoints"] = [number for point in flagged for number in point]
            row["num_keypoints"] = len(points)
            row["keypoint_scores"] = points[:, 2].tolist()
        return row
