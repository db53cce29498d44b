"""Worker process of the benchmark of heads: builds one head's model and times images and steps on request.

Run as ``python -m maskrcnn_repro.benchmark.heads_worker``. The protocol is that of
:mod:`maskrcnn_repro.benchmark.worker`, with the fields of :class:`HeadTask` in the first line.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from maskrcnn_repro.benchmark import models, scenes
from maskrcnn_repro.benchmark.worker import serve
from maskrcnn_repro.config import load_config
from maskrcnn_repro.data.densepose.annotation import PARTS, SIDE, SurfacePoints
from maskrcnn_repro.data.densepose.targets import SurfaceTargets
from maskrcnn_repro.engine.preparation import prepare
from maskrcnn_repro.inference.fast.build import accelerate
from maskrcnn_repro.modeling.sizes import size_of
from maskrcnn_repro.utils.freed_memory import keep_freed_memory
from maskrcnn_repro.utils.provenance import code_origin

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.solver import build_optimizer
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from torch import nn

REQUESTS = ("infer", "train", "count", "two_iterations")
FULL_SIZE = (800, 1088)
"""Height and width, in pixels, of the image that multiply-adds are counted for and two iterations are trained on."""
PROPOSALS = 1000
POINTS = 100
"""Of a person with surface coordinates: the mean of COCO's, 5 million of 50,000 people (DensePose, abstract and Sec. 2)."""
OVERRIDES = {
    "MODEL.DEVICE": "cpu",
    "MODEL.WEIGHTS": "",
    "DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TRAIN": PROPOSALS,
    "DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TEST": PROPOSALS,
    # Made-up weights are sure of nothing; every head is to predict as many masks as may be kept.
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.02,
    # All steps begin with nearly the same weights, and take as long as usual.
    "SOLVER.BASE_LR": 1e-6,
}


@dataclass(frozen=True)
class HeadTask:
    """The model and the image of a worker."""

    contestant: str
    configs: Mapping[str, Sequence[str]]
    """Contestant -> its config, then the overlays over it."""
    height: int
    """Of the image, in pixels."""
    width: int
    threads: int
    rois: int
    """Sampled of an image in a step."""


class Bench:
    """A head's model with made-up weights, for prediction or for training, and a batch of one image."""

    def __init__(self, task: HeadTask) -> None:
        torch.set_num_threads(task.threads)
        config, *overlays = task.configs[task.contestant]
        keys = {**OVERRIDES, "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": task.rois}
        words = [str(word) for pair in keys.items() for word in pair]
        self.cfg = load_config(config, words, overlays=overlays)
        self.batch = batch(self.cfg, task.height, task.width)
        self.model: nn.Module | None = None
        self.detections = self._detect()

    def infer(self) -> float:
        """Return the seconds of an image, from its pixels to masks."""
        begin = time.perf_counter()
        self._detect()
        return time.perf_counter() - begin

    def train(self) -> float:
        """Return the seconds of a step: forward, backward and update."""
        begin = time.perf_counter()
        self._step(self.batch)
        return time.perf_counter() - begin

    def count(self) -> dict[str, int]:
        """Return parameters, and multiply-adds of an image of full size."""
        size = size_of(self.cfg, *FULL_SIZE)
        return {"parameters": size.total_parameters, "multiply_adds": size.total_multiply_adds}

    def two_iterations(self) -> list[dict[str, float]]:
        """Train two steps on an image of full size; return the seconds and the total loss of each."""
        images, steps = batch(self.cfg, *FULL_SIZE), []
        for _ in range(2):
            begin = time.perf_counter()
            loss = self._step(images)
            steps.append({"seconds": time.perf_counter() - begin, "loss": loss})
        return steps

    def describe(self) -> dict[str, Any]:
        """Return how many detections there are, and the origin of the code."""
        return {"detections": self.detections, "origin": code_origin()}

    def _detect(self) -> int:
        if self.model is None or self.model.training:
            self.model = models.build(self.cfg).eval()
            accelerate(self.model, self.cfg)
        with torch.no_grad():
            return len(self.model(self.batch)[0]["instances"])

    def _step(self, images: list[dict[str, Any]]) -> float:
        if self.model is None or not self.model.training:
            self.model = models.build(self.cfg).train()
            prepare(self.model, self.cfg)
            keep_freed_memory(huge=False)  # as a training on a CPU does
            self.optimizer = build_optimizer(self.cfg, self.model)
        torch.manual_seed(0)  # every step samples the same RoIs
        with EventStorage():
            loss = torch.stack([*self.model(images).values()]).sum()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())


def batch(cfg: CfgNode, height: int, width: int) -> list[dict[str, Any]]:
    """Return one generated image with ground truth of every kind and proposals, as models take it."""
    scene = scenes.scene(0, height, width, objects=8)
    image = scenes.model_input(
        scene,
        num_classes=cfg.MODEL.ROI_HEADS.NUM_CLASSES,
        mask_format=cfg.INPUT.MASK_FORMAT if cfg.MODEL.MASK_ON else "",
        keypoints=cfg.MODEL.KEYPOINT_ON,
    )
    image["sem_seg"] = torch.zeros(height, width, dtype=torch.long)
    if cfg.MODEL.DENSEPOSE_ON:
        image["instances"].gt_densepose = surfaces(len(image["instances"]))
    if cfg.MODEL.LOAD_PROPOSALS:
        boxes = Boxes(torch.from_numpy(proposals(scene)))
        image["proposals"] = Instances(
            (height, width),
            proposal_boxes=boxes,
            objectness_logits=torch.linspace(3, -3, PROPOSALS),
        )
    return [image]


def proposals(scene: scenes.Scene) -> np.ndarray:
    """Return boxes (1000, 4) float32, xyxy in pixels: half of them near objects, half anywhere."""
    random = np.random.default_rng(0)
    height, width = scene.size
    near = scene.boxes[np.arange(PROPOSALS // 2) % len(scene.boxes)]
    near = near + random.normal(0, 0.15, near.shape) * np.tile(near[:, 2:] - near[:, :2], 2)
    sizes = np.exp(random.uniform(np.log(16), np.log(min(height, width)), (PROPOSALS // 2, 2)))
    corners = random.uniform(0, 1, sizes.shape) * (np.array([width, height]) - sizes)
    boxes = np.concatenate([near, np.concatenate([corners, corners + sizes], axis=1)])
    return boxes.clip(0, [width, height, width, height]).astype(np.float32)


def surfaces(count: int) -> SurfaceTargets:
    """Return annotated surfaces of as many people: 100 points and parts everywhere, as many as COCO's have."""
    random = np.random.default_rng(0)
    people: list[SurfacePoints | None] = []
    for _ in range(count):
        places, charts = random.uniform(0, SIDE, (POINTS, 2)), random.integers(1, 25, (POINTS, 1))
        points = np.concatenate([places, charts, random.uniform(0, 1, (POINTS, 2))], axis=1)
        parts = random.integers(0, PARTS + 1, (SIDE, SIDE), np.uint8)
        people.append(SurfacePoints(points, parts))
    return SurfaceTargets.of(people)


def main() -> None:
    """Serve requests until the end of input."""
    serve(lambda task: Bench(HeadTask(**task)), REQUESTS)


if __name__ == "__main__":
    main()
