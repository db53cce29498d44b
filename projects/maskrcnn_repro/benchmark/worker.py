"""A process that keeps one model and times one step or one inference whenever it is asked.

Run as ``python -m maskrcnn_repro.benchmark.worker`` by :mod:`maskrcnn_repro.benchmark.backend`. The first
line on stdin is a JSON object with the fields of :class:`Task`; the answer tells what was built. Each
further line is one of :data:`REQUESTS` as a JSON string, answered by a number; the end of input ends it.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from dataclasses import dataclass
from typing import Any

from maskrcnn_repro.benchmark import models, scenes
from maskrcnn_repro.utils.provenance import code_origin

import torch
from detectron2.solver import build_optimizer
from detectron2.utils.events import EventStorage

REQUESTS = ("train", "infer", "peak_memory")


@dataclass(frozen=True)
class Task:
    """What to build."""

    model: str
    """A key of :data:`maskrcnn_repro.benchmark.models.SETTINGS`."""
    height: int
    """Of the image, in pixels."""
    width: int
    threads: int


class Bench:
    """A model with the recipe's weights and one image.

    The learning rate is 0: a step costs what it always does, and every one starts from the same weights.
    """

    def __init__(self, task: Task) -> None:
        torch.set_num_threads(task.threads)
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
        torch.manual_seed(0)
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

    def peak_memory(self) -> float:
        """Return the highest resident memory of this process so far, in bytes."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else 1024 * peak

    def describe(self) -> dict[str, Any]:
        """Return what another backend must reproduce, and where it comes from."""
        instances = self.detect()
        return {
            "detections": len(instances),
            "score_sum": float(instances.scores.sum()),
            "origin": code_origin(),
        }


def main() -> None:
    """Serve requests until the end of input."""
    # Libraries print to stdout; answers get a channel of their own.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    bench = Bench(Task(**json.loads(sys.stdin.readline())))
    print(json.dumps(bench.describe()), file=answers)
    for line in sys.stdin:
        request = json.loads(line)
        if request not in REQUESTS:
            raise ValueError(f"Request {request!r} is not one of {', '.join(REQUESTS)}.")
        print(json.dumps(getattr(bench, request)()), file=answers)


if __name__ == "__main__":
    main()
