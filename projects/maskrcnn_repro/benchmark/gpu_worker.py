"""Worker process of the GPU benchmark: one contestant in one precision, timed on request.

Run as ``python -m maskrcnn_repro.benchmark.gpu_worker`` by :mod:`maskrcnn_repro.benchmark.gpu_models`. The first
line on stdin is a JSON object with the fields of :class:`Task`, answered by :meth:`Contestant.describe`; each
further line is one of :data:`REQUESTS` as a JSON string, answered by :meth:`Contestant.measure`.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from maskrcnn_repro.benchmark import models, recipe, scenes
from maskrcnn_repro.benchmark.worker import peak_memory, serve
from maskrcnn_repro.config import get_config
from maskrcnn_repro.utils.provenance import code_origin

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.solver import build_optimizer
from detectron2.utils.events import EventStorage
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.detection import maskrcnn_resnet50_fpn

REQUESTS = ("infer", "infer to RLE", "train")

OURS = {
    "MODEL.META_ARCHITECTURE": "MaskRCNN",
    "MODEL.ROI_HEADS.NAME": "PaperStandardROIHeads",
    "MODEL.ROI_OP.NAME": "RoIAlignAve",
    "MODEL.ROI_OP.HALF_PIXEL": True,
    "MODEL.ROI_BOX_HEAD.POOLER_TYPE": "",
    "MODEL.ROI_MASK_HEAD.POOLER_TYPE": "",
    "MODEL.CHANNELS_LAST": True,
}
"""What this project's model has beyond Detectron2's of the same size; RoIAlign's samples are 2 x 2, not adaptive."""


@dataclass(frozen=True)
class Task:
    """What a worker measures."""

    contestant: str
    """ "ours", "detectron2" or "torchvision"."""
    precision: str
    """ "float32" or "bfloat16" (autocast, channels-last)."""
    device: str
    height: int
    """Of each image, in pixels."""
    width: int
    batch: int
    """Images of a training step; inference takes one."""
    proposals: int
    """RoIs of the box head at inference and, at most, of its sampling in training."""
    rois: int
    """RoIs of the box head per image in training."""
    detections: int
    """Of an image."""


class Contestant:
    """A Mask R-CNN R50-FPN for 80 classes, with its optimiser and images with 8 objects each."""

    def __init__(self, task: Task) -> None:
        torch.manual_seed(0)
        self.task, self.device = task, torch.device(task.device)
        cfg = _config(task)
        build = _torchvision if task.contestant == "torchvision" else _detectron2
        self.model: Any = build(task, cfg).to(self.device)
        if task.precision == "bfloat16":
            self.model.to(memory_format=torch.channels_last)
        self.optimizer = build_optimizer(cfg, self.model)
        self.inputs = [
            scenes.model_input(
                scenes.scene(number, task.height, task.width, objects=8),
                num_classes=80,
                mask_format="bitmask" if task.contestant == "torchvision" else "polygon",
            )
            for number in range(task.batch)
        ]

    def infer(self, masks: str = "bitmap") -> int:
        """Detect objects in the first image, masks of its size included; return their number."""
        self.model.eval()
        self.model.mask_output = masks
        with torch.inference_mode(), self._precision():
            if self.task.contestant == "torchvision":
                images = [_image_of_torchvision(self.inputs[0]).to(self.device)]
                # Its bitmaps hold probabilities.
                return len(self.model(images)[0]["masks"] > 0.5)
            return len(self.model(self.inputs[:1])[0]["instances"].pred_masks)

    def train(self) -> None:
        """Compute a training step: forward, backward and optimiser."""
        self.model.train()
        torch.manual_seed(0)  # every step samples the same anchors and RoIs
        with EventStorage(), self._precision():
            if self.task.contestant == "torchvision":
                images = [_image_of_torchvision(each).to(self.device) for each in self.inputs]
                losses = self.model(images, [self._target(each) for each in self.inputs])
            else:
                losses = self.model(self.inputs)
        self.optimizer.zero_grad()
        sum(losses.values()).backward()
        self.optimizer.step()

    def measure(self, request: str) -> dict[str, float]:
        """Return the seconds of a request and its peak memory in bytes (of the GPU, or resident without one)."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        self._wait()
        begin = time.perf_counter()
        self._handle(request)
        self._wait()
        return {"seconds": time.perf_counter() - begin, "peak_memory": self._peak_memory()}

    def describe(self) -> dict[str, Any]:
        """Return the number of detections, the operations of each request, and the origin of the code."""
        requests = REQUESTS if self.task.contestant == "ours" else ("infer", "train")
        operations = {}
        for request in requests:
            with FlopCounterMode(display=False) as counter:
                self._handle(request)
            operations[request] = counter.get_total_flops()
        origin = {"torch": torch.__version__, "code": code_origin()}
        return {"detections": self.infer(), "operations": operations, "origin": origin}

    def _handle(self, request: str) -> None:
        if request == "train":
            self.train()
        else:
            self.infer("rle" if request == "infer to RLE" else "bitmap")

    def _precision(self) -> AbstractContextManager[Any]:
        if self.task.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def _target(self, each: dict[str, Any]) -> dict[str, torch.Tensor]:
        truth = each["instances"]
        fields = {
            "boxes": truth.gt_boxes.tensor,
            # 0 is torchvision's background.
            "labels": truth.gt_classes + 1,
            "masks": truth.gt_masks.tensor.byte(),
        }
        return {name: tensor.to(self.device) for name, tensor in fields.items()}

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _peak_memory(self) -> float:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        return peak_memory()


def _config(task: Task) -> CfgNode:
    """Return Detectron2's config of the model, for ours with the keys of this project."""
    settings: dict[str, Any] = {
        **models.SETTINGS["R50-FPN"],
        "MODEL.WEIGHTS": "",
        "MODEL.DEVICE": task.device,
        # Every contestant pastes as many masks as it may.
        "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.0,
        "MODEL.RPN.POST_NMS_TOPK_TEST": task.proposals,
        "MODEL.RPN.POST_NMS_TOPK_TRAIN": task.proposals,
        "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": task.rois,
        "TEST.DETECTIONS_PER_IMAGE": task.detections,
        # A step takes as long as usual, and all steps start from the same weights.
        "SOLVER.BASE_LR": 0.0,
    }
    if task.contestant != "ours":
        return models.config("R50-FPN", settings)
    cfg = get_config()
    settings |= {**OURS, "MODEL.INFERENCE.PRECISION": task.precision}
    cfg.merge_from_list([word for pair in settings.items() for word in pair])
    return cfg


def _detectron2(task: Task, cfg: CfgNode) -> nn.Module:
    model = build_model(cfg)
    recipe.fill(model, models.choose_gains(cfg))
    return model


def _torchvision(task: Task, cfg: CfgNode) -> nn.Module:
    settings = {
        "min_size": min(task.height, task.width),
        "max_size": max(task.height, task.width),
        "rpn_post_nms_top_n_test": task.proposals,
        "rpn_post_nms_top_n_train": task.proposals,
        "box_batch_size_per_image": task.rois,
        "box_detections_per_img": task.detections,
    }
    return maskrcnn_resnet50_fpn(
        weights=None,
        weights_backbone=None,
        num_classes=81,
        box_score_thresh=cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST,
        **settings,
    )


def _image_of_torchvision(each: dict[str, Any]) -> torch.Tensor:
    """Return (3, H, W) RGB in [0, 1] of a Detectron2 input."""
    return each["image"].flip(0).float() / 255


def main() -> None:
    """Serve requests until the end of input."""
    serve(lambda task: Contestant(Task(**task)), REQUESTS, Contestant.measure)


if __name__ == "__main__":
    main()
