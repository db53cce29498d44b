"""Worker process of the loading benchmark: maps the images of a COCO JSON on request.

Run as ``python -m maskrcnn_repro.benchmark.loading_worker``; see :mod:`maskrcnn_repro.benchmark.worker` for the protocol.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from typing import Any

from maskrcnn_repro.benchmark.worker import serve
from maskrcnn_repro.config import get_config
from maskrcnn_repro.data.image_source import WithSource
from maskrcnn_repro.data.loader import Mapper, image_files
from maskrcnn_repro.data.mapper import TrainMapper
from maskrcnn_repro.utils.freed_memory import UNUSED, keep_freed_memory
from maskrcnn_repro.utils.provenance import code_origin

import cv2
import numpy as np
import torch
from detectron2.data import DatasetFromList, DatasetMapper
from detectron2.data.datasets import load_coco_json
from detectron2.structures import PolygonMasks

OURS, FAST, PEER = "ours", "ours, INPUT.RESIZE torch", "Detectron2"
REQUESTS = ("load",)


@dataclass(frozen=True)
class Task:
    """A contestant and its data."""

    contestant: str
    """:data:`OURS`, :data:`FAST` or :data:`PEER`."""
    file: str
    """COCO JSON."""
    folder: str
    """Of the images."""
    count: int
    """How many images, of those with objects."""


class Bench:
    """A training mapper, and serialised records as the data loader keeps them."""

    def __init__(self, task: Task) -> None:
        torch.set_num_threads(1)
        cv2.setNumThreads(1)
        records = load_coco_json(task.file, task.folder, "loading_benchmark")
        chosen = [record for record in records if record["annotations"]][: task.count]
        self.records = DatasetFromList(chosen, copy=False)
        self.contestant = task.contestant
        encoded = any(
            isinstance(each.get("segmentation"), dict)
            for record in chosen
            for each in record["annotations"]
        )
        # Run-length encodings, as of the generated set, are no polygons.
        self.mask_format = "bitmask" if encoded else "polygon"
        self.mapper = mapper_of(task.contestant, self.mask_format)
        if task.contestant != PEER:  # as in the workers of our loader
            keep_freed_memory(UNUSED)

    def load(self) -> float:
        """Return the seconds of the processor that all images take."""
        # Of one thread: what else the machine does is not counted.
        begin = time.process_time()
        for number in range(len(self.records)):
            self._sample(self.mapper, number)
        return time.process_time() - begin

    def describe(self) -> dict[str, Any]:
        """Return a digest of each sample; of the fast resizing, what it changes."""
        facts: dict[str, Any] = {"origin": code_origin()}
        numbers = range(len(self.records))
        if self.contestant != FAST:
            return facts | {"samples": [digest(self._sample(self.mapper, n)) for n in numbers]}
        exact = mapper_of(OURS, self.mask_format)
        changed, far, values, largest = 0, 0, 0, 0
        for n in numbers:
            pair = (self._sample(mapper, n)["image"].short() for mapper in (exact, self.mapper))
            difference = torch.sub(*pair).abs()
            changed += int(difference.count_nonzero())
            far += int((difference > 1).count_nonzero())
            values += difference.numel()
            largest = max(largest, int(difference.max()))
        shares = {"changed": changed / max(values, 1), "far": far / max(values, 1)}
        return facts | shares | {"largest": largest}

    def _sample(self, mapper: Mapper, number: int) -> dict[str, Any]:
        # Every contestant draws the same sizes and mirrors the same images.
        np.random.seed(number)
        return mapper(self.records[number])


def mapper_of(contestant: str, mask_format: str) -> Mapper:
    """Return the mapper of a contestant, for training with masks in a form of ``INPUT.MASK_FORMAT``."""
    cfg = get_config()
    cfg.MODEL.MASK_ON, cfg.INPUT.MASK_FORMAT = True, mask_format
    if contestant == PEER:
        return DatasetMapper(cfg, True)
    cfg.INPUT.RESIZE = "torch" if contestant == FAST else "pillow"
    return WithSource(TrainMapper(cfg, True), image_files(cfg))


def digest(sample: dict[str, Any]) -> str:
    """Return a hash of the pixels, boxes, classes and masks of a sample."""
    instances = sample["instances"]
    if isinstance(instances.gt_masks, PolygonMasks):
        masks = [polygon for each in instances.gt_masks.polygons for polygon in each]
    else:
        masks = [instances.gt_masks.tensor]
    arrays = [sample["image"], instances.gt_boxes.tensor, instances.gt_classes, *masks]
    content = hashlib.sha256()
    for array in map(np.asarray, arrays):
        content.update(f"{array.dtype}{array.shape}".encode())
        content.update(np.ascontiguousarray(array).tobytes())
    return content.hexdigest()


def main() -> None:
    """Serve requests until the end of input."""
    serve(lambda task: Bench(Task(**task)), REQUESTS)


if __name__ == "__main__":
    main()
