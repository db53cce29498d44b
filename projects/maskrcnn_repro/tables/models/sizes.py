"""Size of a model: its number of parameters, and the multiply-adds of one image.

Models are built and run on PyTorch's meta device, which neither allocates nor computes: ResNeXt-152 takes a
tenth of a second.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

HEIGHT, WIDTH = 800, 1216
"""Image size, in pixels, for which multiply-adds are counted: shorter side 800, longer one near COCO's mean."""
COUNTING = (
    f"Parameters: all, frozen ones too; frozen batch norm has none. Multiply-adds: one image of "
    f"{HEIGHT}x{WIDTH} px; convolutions and linear layers of the backbone and the RPN, of the box branch on as "
    "many RoIs as proposals are read at test, of mask and keypoint branches on as many RoIs as detections are kept. "
    "RoI operations, norms, NMS and pasting are not counted, and of test-time augmentation one view."
)


@dataclass(frozen=True)
class Size:
    """Parameters and multiply-adds of one model, by part.

    Attributes:
        parameters: number in each of ``backbone``, ``proposal_generator`` and the branches of ``roi_heads``
            (``roi_heads.box_head`` ...).
        multiply_adds: number in each of ``backbone``, ``rpn``, ``boxes``, ``masks``, ``keypoints`` that the
            model has.
    """

    parameters: Mapping[str, int]
    multiply_adds: Mapping[str, int]

    @property
    def total_parameters(self) -> int:
        """Number of parameters of all parts."""
        return sum(self.parameters.values())

    @property
    def total_multiply_adds(self) -> int:
        """Number of multiply-adds of all parts."""
        return sum(self.multiply_adds.values())


def build_on_meta(cfg: CfgNode) -> Any:
    """Return the model of a config on the meta device, in evaluation mode."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = "meta"
    # MODEL.DEVICE alone would not do: Detectron2 builds a model on the CPU and moves it then.
    with torch.device("meta"):
        return build_model(cfg).eval()


def size_of(cfg: CfgNode) -> Size:
    """Return the size of a config's model, which may be one of this project or Detectron2's."""
    model = build_on_meta(cfg)
    return Size(_count_parameters(model), _count_multiply_adds(model, cfg))


def _count_parameters(model: nn.Module) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for name, value in model.named_parameters():
        first, second, *_ = name.split(".")
        counts[f"{first}.{second}" if first == "roi_heads" else first] += value.numel()
    return dict(counts)


def _count_multiply_adds(model: Any, cfg: CfgNode) -> dict[str, int]:
    counts = {}

    def run(part: str, function: Callable[[Any], Any], inputs: Any) -> Any:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            outputs = function(inputs)
        # PyTorch counts an addition and a multiplication as two.
        counts[part] = counter.get_total_flops() // 2
        return outputs

    features = run("backbone", model.backbone, torch.empty(1, 3, HEIGHT, WIDTH, device="meta"))
    rpn, heads = model.proposal_generator, getattr(model, "roi_heads", None)
    if rpn is not None:
        run("rpn", rpn.rpn_head, [features[name] for name in rpn.in_features])
    if heads is not None:
        channels = model.backbone.output_shape()[cfg.MODEL.ROI_HEADS.IN_FEATURES[0]].channels
        for branch, (number, side) in roi_counts(cfg).items():
            pooled = torch.empty(number, channels, side, side, device="meta")
            run(branch, functools.partial(_run_branch, heads, branch), pooled)
    return counts


def _run_branch(heads: Any, branch: str, pooled: torch.Tensor) -> Any:
    is_c4 = hasattr(heads, "res5")
    x = heads.res5(pooled) if is_c4 else pooled
    if branch == "boxes":
        return heads.box_predictor(x.mean(dim=(2, 3)) if is_c4 else heads.box_head(x))
    head = heads.mask_head if branch == "masks" else heads.keypoint_head
    return head.layers(x)


def roi_counts(cfg: CfgNode) -> dict[str, tuple[int, int]]:
    """Return the number of RoIs and the side of their pooled features, in cells, for each branch at test."""
    model, detections = cfg.MODEL, cfg.TEST.DETECTIONS_PER_IMAGE
    stored = cfg.DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TEST
    proposals = stored if model.LOAD_PROPOSALS else model.RPN.POST_NMS_TOPK_TEST
    # The C4 head has one RoI operation for all branches.
    mask = model.ROI_MASK_HEAD if model.ROI_BOX_HEAD.NAME else model.ROI_BOX_HEAD
    counts = {"boxes": (int(proposals), int(model.ROI_BOX_HEAD.POOLER_RESOLUTION))}
    if model.MASK_ON:
        counts["masks"] = (int(detections), int(mask.POOLER_RESOLUTION))
    if model.KEYPOINT_ON:
        keypoint = model.ROI_KEYPOINT_HEAD
        counts["keypoints"] = (int(detections), int(keypoint.POOLER_RESOLUTION))
    return counts
