"""COCO's panoptic format: a JSON, and a PNG of segment ids for each image.

Format: https://cocodataset.org/#format-data and #format-results.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maskrcnn_repro.checkpoint.model_file import Labels
from maskrcnn_repro.data.panoptic.files import write_ids
from maskrcnn_repro.errors import ConfigError, DataError
from maskrcnn_repro.inference.formats.item import Item
from maskrcnn_repro.utils.files import write_text


class PanopticWriter:
    """Writes the segments of a panoptic model as a data set, which are panoptic results as well.

    Things have the category ids of the data that the model was trained on, if it knows them; those of stuff follow.

    Args:
        path: of the JSON; the PNG files go into the folder of its name without the suffix.
        labels: of the model.

    Raises:
        ConfigError: the model knows no stuff.
    """

    def __init__(self, path: Path, labels: Labels) -> None:
        if not labels.stuff_names:
            raise ConfigError(
                "--format panoptic is for models that make panoptic maps; choose coco for this one."
            )
        self.path = path
        things = list(labels.category_ids or range(1, len(labels.class_names) + 1))
        # The first semantic class is all things.
        stuff = [max(things, default=0) + number for number in range(len(labels.stuff_names))]
        self._ids = {True: things, False: stuff}
        self.categories = [
            {"id": number, "name": name, "isthing": isthing}
            for isthing, numbers, names in (
                (1, things, labels.class_names),
                (0, stuff[1:], labels.stuff_names[1:]),
            )
            for number, name in zip(numbers, names, strict=True)
        ]
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []
        self._files: set[str] = set()

    def add(self, item: Item) -> None:
        """Write the PNG of an image."""
        prediction = item.prediction
        name, ids = item.name, prediction.panoptic_seg
        if ids is None:
            raise DataError(f"{name} has no panoptic map: pictures in tiles have none.")
        file = Path(name).with_suffix(".png").as_posix()
        # The long one for an image whose name differs from another's in its ending alone.
        file = f"{name}.png" if file in self._files else file
        target = self.path.with_suffix("") / file
        write_ids(target, ids)
        self._files.add(file)
        number = len(self.images) + 1
        size = {"height": prediction.height, "width": prediction.width}
        self.images.append({"id": number, "file_name": name, **size})
        segments = [
            self._segment(info, int((ids == info["id"]).sum())) for info in prediction.segments_info
        ]
        self.annotations.append({"image_id": number, "file_name": file, "segments_info": segments})

    def _segment(self, info: Mapping[str, Any], area: int) -> dict[str, Any]:
        category = self._ids[info["isthing"]][info["category_id"]]
        score = {"score": info["score"]} if "score" in info else {}
        return {"id": info["id"], "category_id": category, "area": area, "iscrowd": 0, **score}

    def close(self) -> list[str]:
        """Write the JSON; return a sentence on it."""
        tree = {
            "images": self.images,
            "annotations": self.annotations,
            "categories": self.categories,
        }
        write_text(self.path, json.dumps(tree) + "\n")
        return [f"COCO panoptic data set: {self.path} and {self.path.with_suffix('')}"]
