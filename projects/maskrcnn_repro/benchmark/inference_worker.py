"""Worker process of the inference benchmark: builds one contestant and times images on request.

Run as ``python -m maskrcnn_repro.benchmark.inference_worker``. The protocol is that of
:mod:`maskrcnn_repro.benchmark.worker`, with the fields of :class:`Task` in the first line.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from maskrcnn_repro.benchmark import models, scenes
from maskrcnn_repro.benchmark.worker import serve
from maskrcnn_repro.checkpoint.torchvision_detector import Classes, to_torchvision
from maskrcnn_repro.inference.fast.build import accelerate
from maskrcnn_repro.inference.settings import automatic_precision
from maskrcnn_repro.utils.freed_memory import UNUSED, keep_freed_memory
from maskrcnn_repro.utils.provenance import code_origin

import torch
from torch import nn

REQUESTS = ("infer",)
Detections = dict[str, Any]
"""``boxes`` (R, 4) and ``scores`` (R,), best first, and ``masks``, their number and size."""


@dataclass(frozen=True)
class Task:
    """A contestant, its model and its images."""

    contestant: str
    """A key of :data:`CONTESTANTS`."""
    model: str
    """A key of :data:`maskrcnn_repro.benchmark.models.SETTINGS`."""
    sizes: Sequence[Sequence[int]]
    """Height and width of each image, in pixels."""
    threads: int


class Bench:
    """A model with the recipe's weights, and images."""

    def __init__(self, task: Task) -> None:
        torch.set_num_threads(task.threads)
        self.images = [
            torch.from_numpy(scenes.scene(0, height, width, objects=8).image)
            for height, width in task.sizes
        ]
        self.path = "plain float32"
        CONTESTANTS[task.contestant](self, task)
        begin = time.perf_counter()
        with torch.inference_mode(), self.context():
            first = self.detect(self.images[0])
            self.first_seconds = time.perf_counter() - begin
            self.detected = [first, *map(self.detect, self.images[1:])]

    context: Callable[[], AbstractContextManager[Any]] = nullcontext
    """What the model runs in."""
    detect: Callable[[torch.Tensor], Detections]
    """Detects the objects in an image."""

    def infer(self) -> float:
        """Return the mean seconds of an image, from its tensor to full-size masks."""
        begin = time.perf_counter()
        with torch.inference_mode(), self.context():
            for image in self.images:
                self.detect(image)
        return (time.perf_counter() - begin) / len(self.images)

    def describe(self) -> dict[str, Any]:
        """Return what was detected in each image, how, and how long the first image took."""
        return {
            "detections": [len(detections["scores"]) for detections in self.detected],
            "boxes": torch.cat([detections["boxes"] for detections in self.detected]).tolist(),
            "scores": torch.cat([detections["scores"] for detections in self.detected]).tolist(),
            "masks": [detections["masks"] for detections in self.detected],
            "first_seconds": self.first_seconds,
            "path": self.path,
            "origin": code_origin(),
        }


def our_model(
    name: str,
    precision: str,
    settings: Mapping[str, Any] | None = None,
    *,
    masks: str = "rle",
    fast: bool = True,
) -> tuple[nn.Module, str]:
    """Return our model with the recipe's weights, in evaluation mode, and what computes it.

    Args:
        name: a key of :data:`maskrcnn_repro.benchmark.models.SETTINGS`.
        precision: of ``MODEL.INFERENCE.PRECISION``.
        settings: keys that differ from that model's.
        masks: ``MODEL.INFERENCE.MASK_OUTPUT``.
        fast: by the fast path.
    """
    overrides = {"MODEL.INFERENCE.MASK_OUTPUT": masks, **(settings or {})}
    cfg = models.own_config(name, overrides)
    chosen = automatic_precision(cfg) if precision == "auto" else precision
    cfg.MODEL.INFERENCE.PRECISION = chosen
    model = models.build(cfg).eval()
    return model, (accelerate(model, cfg) if fast else "") or f"plain {chosen}"


def _ours(precision: str, masks: str, *, fast: bool = True) -> Callable[[Bench, Task], None]:
    def build(bench: Bench, task: Task) -> None:
        model, bench.path = our_model(task.model, precision, masks=masks, fast=fast)
        keep_freed_memory(UNUSED)  # as maskrcnn predict does
        bench.detect = _detectron2(model)

    return build


def _peer_detectron2(bench: Bench, task: Task) -> None:
    bench.detect = _detectron2(models.build(models.config(task.model)).eval())


def _detectron2(model: nn.Module) -> Callable[[torch.Tensor], Detections]:
    def detect(image: torch.Tensor) -> Detections:
        instances = model([{"image": image}])[0]["instances"]
        masks = instances.pred_masks
        size = getattr(masks, "image_size", None) or tuple(masks.shape[1:])
        return {
            "boxes": instances.pred_boxes.tensor,
            "scores": instances.scores,
            "masks": [len(masks), *size],
        }

    return detect


def _torchvision(bench: Bench, task: Task) -> None:
    bench.detect = _of_torchvision(_torchvision_for(task))


def _torchvision_best(bench: Bench, task: Task) -> None:
    model = _torchvision_for(task).to(memory_format=torch.channels_last)
    bench.detect = _of_torchvision(model)
    _reduce(bench)


def _torchvision_for(task: Task) -> nn.Module:
    return torchvision_model(min(map(min, task.sizes)), max(map(max, task.sizes)))


def torchvision_model(height: int, width: int) -> nn.Module:
    """Return torchvision's R50-FPN with the recipe's weights, for images of this size in pixels."""
    from torchvision.models.detection import maskrcnn_resnet50_fpn

    # The same weights under its names; its pixels have a deviation of 1, those of the recipe of about 60.
    state = models.build(models.config("R50-FPN")).state_dict()
    state["backbone.bottom_up.stem.conv1.weight"] *= 60
    longer, shorter = max(height, width), min(height, width)
    model = maskrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=81, min_size=shorter, max_size=longer
    )
    weights = to_torchvision(state, Classes.of(81, named=True), {})
    model.load_state_dict(weights, strict=False)
    return model.eval()


def _of_torchvision(model: nn.Module) -> Callable[[torch.Tensor], Detections]:
    def detect(image: torch.Tensor) -> Detections:
        output = model([image / 255])[0]
        masks = output["masks"][:, 0] >= 0.5
        return {
            "boxes": output["boxes"].float(),
            "scores": output["scores"].float(),
            "masks": [*masks.shape],
        }

    return detect


def _detectron2_best(bench: Bench, task: Task) -> None:
    _peer_detectron2(bench, task)
    _reduce(bench)


def _reduce(bench: Bench) -> None:
    bench.context = lambda: torch.autocast("cpu", dtype=torch.bfloat16)
    bench.path = "plain bfloat16"


CONTESTANTS: dict[str, Callable[[Bench, Task], None]] = {
    "ours": _ours("auto", "rle"),
    "ours, bitmaps": _ours("auto", "bitmap"),
    "ours, float32": _ours("float32", "rle"),
    "ours, plain": _ours("float32", "bitmap", fast=False),
    "torchvision": _torchvision,
    "torchvision, bfloat16": _torchvision_best,
    "Detectron2": _peer_detectron2,
    "Detectron2, bfloat16": _detectron2_best,
}
"""Name of a contestant -> what builds it."""


def main() -> None:
    """Serve requests until the end of input."""
    serve(lambda task: Bench(Task(**task)), REQUESTS)


if __name__ == "__main__":
    main()
