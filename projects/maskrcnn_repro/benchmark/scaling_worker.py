"""Worker process of the scaling benchmark: builds a model for one point of a curve and times it on request.

Run as ``python -m maskrcnn_repro.benchmark.scaling_worker``. The protocol is that of
:mod:`maskrcnn_repro.benchmark.worker`, with the fields of :class:`Point` in the first line.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from maskrcnn_repro.benchmark import scenes
from maskrcnn_repro.benchmark.inference_worker import our_model, torchvision_model
from maskrcnn_repro.benchmark.worker import serve
from maskrcnn_repro.utils.provenance import code_origin

import torch
from torch.profiler import ProfilerActivity, profile

REQUESTS = ("infer", "dearest")
OUTSIDE = "outside torch"
"""What :meth:`Bench.dearest` calls Python, numpy and pycocotools."""


@dataclass(frozen=True)
class Point:
    """What a worker predicts, and how."""

    contestant: str
    """ours or torchvision."""
    height: int = 800
    """Of the images, in pixels; they are not resized."""
    width: int = 1088
    rois: int = 1000
    """Proposals of an image."""
    classes: int = 80
    batch: int = 1
    processes: int = 1
    """That predict at the same time, each on images of its own."""
    threads: int = 1
    """Of each process."""


class Bench:
    """A Mask R-CNN R50-FPN with the recipe's weights, and a batch of images."""

    def __init__(self, point: Point) -> None:
        torch.set_num_threads(point.threads)
        images = [
            torch.from_numpy(scenes.scene(index, point.height, point.width, objects=8).image)
            for index in range(point.batch)
        ]
        build = _torchvision if point.contestant == "torchvision" else _ours
        self.path, self.detect = build(point, images)
        self.detections = self.infer_count()

    detect: Callable[[], list[int]]
    """Detects the objects in the images, with masks, and returns their numbers."""

    def infer_count(self) -> list[int]:
        """Return the number of detections in each image."""
        with torch.inference_mode():
            return self.detect()

    def infer(self) -> float:
        """Return the seconds of the batch."""
        begin = time.perf_counter()
        self.infer_count()
        return time.perf_counter() - begin

    def dearest(self) -> tuple[str, float]:
        """Return the operator with the most time of its own, and its share of the whole."""
        begin = time.perf_counter()
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            self.infer_count()
            whole = 1e6 * (time.perf_counter() - begin)
        times = {event.key: event.self_cpu_time_total for event in profiler.key_averages()}
        times[OUTSIDE] = whole - sum(times.values())
        name = max(times, key=lambda key: times[key])
        return name, times[name] / whole

    def describe(self) -> dict[str, Any]:
        """Return how it computes and what was detected."""
        return {"path": self.path, "detections": self.detections, "origin": code_origin()}


def _ours(point: Point, images: list[torch.Tensor]) -> tuple[str, Callable[[], list[int]]]:
    settings = {
        "MODEL.ROI_HEADS.NUM_CLASSES": point.classes,
        "MODEL.RPN.POST_NMS_TOPK_TEST": point.rois,
        "MODEL.RPN.PRE_NMS_TOPK_TEST": max(1000, point.rois),
    }
    model, path = our_model("R50-FPN", "auto", settings)
    inputs = [{"image": image} for image in images]
    return path, lambda: [len(output["instances"].pred_masks) for output in model(inputs)]


def _torchvision(point: Point, images: list[torch.Tensor]) -> tuple[str, Callable[[], list[int]]]:
    model = torchvision_model(point.height, point.width)
    inputs = [image / 255 for image in images]
    return "plain float32", lambda: [len(output["masks"][:, 0] >= 0.5) for output in model(inputs)]


def main() -> None:
    """Serve requests until the end of input."""
    serve(lambda point: Bench(Point(**point)), REQUESTS)


if __name__ == "__main__":
    main()
