"""Worker process of the backend benchmark: builds a model and times a step or an inference on request.

Run as ``python -m maskrcnn_repro.benchmark.worker`` by :mod:`maskrcnn_repro.benchmark.backend`. The first
line on stdin is a JSON object with the fields of :class:`Task`, answered by :meth:`Bench.describe`. Each
further line is one of :data:`REQUESTS` as a JSON string, answered by a number, until the end of input.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from maskrcnn_repro.benchmark import models, scenes
from maskrcnn_repro.utils.provenance import code_origin

import torch
from detectron2.solver import build_optimizer
from detectron2.utils.events import EventStorage

REQUESTS = ("train", "infer")
PEAK_MEMORY = "peak_memory"
"""The request that every worker answers, by the highest resident memory of its process so far, in bytes."""


@dataclass(frozen=True)
class Task:
    """The model and the image of a worker."""

    model: str
    """A key of :data:`maskrcnn_repro.benchmark.models.SETTINGS`."""
    height: int
    """Of the image, in pixels."""
    width: int
    threads: int


@dataclass(frozen=True)
class ContestantTask(Task):
    """The model and the image of a worker that is one of several contestants."""

    contestant: str
    """A key of the ``CONTESTANTS`` of its module."""


class Bench:
    """A model with the recipe's weights, and a batch of one image."""

    def __init__(self, task: Task) -> None:
        torch.set_num_threads(task.threads)
        # With a learning rate of 0, a step takes as long as usual, and all steps start from the same weights.
        cfg = models.config(task.model, {"SOLVER.BASE_LR": 0.0})
        self.model = models.build(cfg)
        self.optimizer = build_optimizer(cfg, self.model)
        self.batch = [
            scenes.model_input(
                scenes.scene(0, task.height, task.width, objects=8),
                num_classes=cfg.MODEL.ROI_HEADS.NUM_CLASSES,
                mask_format="polygon" if cfg.MODEL.MASK_ON else "",
                keypoints=cfg.MODEL.KEYPOINT_ON,
            )
        ]

    def train(self) -> float:
        """Return the seconds of forward, backward and optimiser step."""
        self.model.train()
        torch.manual_seed(0)  # every step samples the same anchors and RoIs
        begin = time.perf_counter()
        with EventStorage():
            loss = sum(self.model(self.batch).values())
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return time.perf_counter() - begin

    def infer(self) -> float:
        """Return the seconds of an inference, from the image to full-size masks."""
        begin = time.perf_counter()
        self.detect()
        return time.perf_counter() - begin

    def detect(self) -> Any:
        """Return the detections in the image, as Detectron2's ``Instances``."""
        self.model.eval()
        with torch.no_grad():
            return self.model(self.batch)[0]["instances"]

    def describe(self) -> dict[str, Any]:
        """Return the facts that the other backend must reproduce, and the origin of the code."""
        instances = self.detect()
        return {
            "detections": len(instances),
            "score_sum": float(instances.scores.sum()),
            "origin": code_origin(),
        }


def peak_memory() -> float:
    """Return the highest resident memory of this process so far, in bytes; NaN on Windows, which does not tell it."""
    try:
        import resource
    except ImportError:
        return math.nan
    # In KiB on Linux, in bytes on macOS.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def call(bench: Any, request: str) -> Any:
    """Return what the method of ``bench`` that a request names returns."""
    return getattr(bench, request)()


def serve(
    build: Callable[[dict[str, Any]], Any],
    requests: Sequence[str],
    answer: Callable[[Any, str], Any] = call,
) -> None:
    """Answer lines of JSON on stdin until their end.

    Args:
        build: makes of the first line an object; its ``describe`` is the first answer.
        requests: what further lines may be, beside :data:`PEAK_MEMORY`, which needs no object.
        answer: takes the object and a request, and returns what JSON knows.
    """
    # Libraries print to stdout: send that to stderr, and the answers to a copy of the original stdout.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    bench = build(json.loads(sys.stdin.readline()))
    print(json.dumps(bench.describe()), file=answers)
    for line in sys.stdin:
        request = json.loads(line)
        if request == PEAK_MEMORY:
            print(json.dumps(peak_memory()), file=answers)
            continue
        if request not in requests:
            raise ValueError(f"Request {request!r} is not one of {', '.join(requests)}.")
        print(json.dumps(answer(bench, request)), file=answers)


def main() -> None:
    """Serve requests until the end of input."""
    serve(lambda task: Bench(Task(**task)), REQUESTS)


if __name__ == "__main__":
    main()
