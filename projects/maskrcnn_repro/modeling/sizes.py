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

from maskrcnn_repro.roi_ops import RoIOperation, RoIOpPooler

import torch
from detectron2.config import CfgNode
from detectron2.layers import ROIAlign
from detectron2.modeling import build_model
from detectron2.modeling.poolers import ROIPooler
from detectron2.structures import Boxes, Instances
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.ops import RoIPool

HEIGHT, WIDTH = 800, 1216
"""Image size, in pixels, for which multiply-adds are counted: shorter side 800, longer one near COCO's mean."""
_POOLING = (RoIOpPooler, ROIPooler, RoIOperation, ROIAlign, RoIPool)
MULTIPLY_ADDS = (
    "convolutions and linear layers of the backbone, of a semantic branch and the RPN if the model has them, of the box "
    "branch on as many RoIs as proposals are read at test, of the other branches on as many RoIs as detections are kept. "
    "RoI operations, norms, NMS and pasting are not counted, and of test-time augmentation one view."
)
COUNTING = (
    "Parameters: all, frozen ones too; frozen batch norm has none. Multiply-adds: one image of "
    f"{HEIGHT}x{WIDTH} px; {MULTIPLY_ADDS}"
)


@dataclass(frozen=True)
class Size:
    """Parameters and multiply-adds of one model, by part.

    Attributes:
        parameters: number in each of ``backbone``, ``proposal_generator`` and the branches of ``roi_heads``
            (``roi_heads.box_head`` ...).
        multiply_adds: number in each of ``backbone``, ``semantic``, ``rpn``, ``boxes``, ``masks``, ``keypoints``,
            ``surfaces`` that the model has.
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


def size_of(cfg: CfgNode, height: int = HEIGHT, width: int = WIDTH) -> Size:
    """Return the size of a config's model, which may be one of this project or Detectron2's.

    Args:
        cfg: the config.
        height: of the image whose multiply-adds are counted, in pixels.
        width: in pixels.
    """
    model = build_on_meta(cfg)
    image = torch.empty(1, len(cfg.MODEL.PIXEL_MEAN), height, width, device="meta")
    return Size(_count_parameters(model), _count_multiply_adds(model, cfg, image))


def _count_parameters(model: nn.Module) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for name, value in model.named_parameters():
        first, second, *_ = name.split(".")
        counts[f"{first}.{second}" if first == "roi_heads" else first] += value.numel()
    return dict(counts)


def _count_multiply_adds(model: Any, cfg: CfgNode, image: torch.Tensor) -> dict[str, int]:
    counts = {}

    def run(part: str, function: Callable[[Any], Any], inputs: Any) -> Any:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            outputs = function(inputs)
        # PyTorch counts an addition and a multiplication as two.
        counts[part] = counter.get_total_flops() // 2
        return outputs

    features = run("backbone", model.backbone, image)
    rpn, heads = getattr(model, "proposal_generator", None), getattr(model, "roi_heads", None)
    # Of the model itself, or of heads that take its features.
    semantic = getattr(model, "sem_seg_head", None) or getattr(heads, "semantic_head", None)
    if semantic is not None:
        run("semantic", semantic, features)
    if rpn is not None:
        run("rpn", rpn.rpn_head, [features[name] for name in rpn.in_features])
    if heads is not None:
        for branch, (number, _) in roi_counts(cfg).items():
            _pool_shapes_alone(heads, number)
            run(branch, functools.partial(_run_branch, heads, branch, number), features)
    return counts


def _pool_shapes_alone(heads: nn.Module, number: int) -> None:
    """Let poolers and their operations return ``number`` RoIs of the right size: on no data they cannot pool."""

    def pool(maps: Any, rois: Any, *, side: Any) -> torch.Tensor:
        level = maps if isinstance(maps, torch.Tensor) else maps[0]
        return level.new_empty(number, level.shape[1], *side)

    for module in heads.modules():
        if isinstance(module, _POOLING):
            side = module.output_size
            pair = (side, side) if isinstance(side, int) else side
            module.forward = functools.partial(pool, side=pair)  # type: ignore[method-assign]


def _run_branch(heads: Any, branch: str, number: int, features: Mapping[str, torch.Tensor]) -> None:
    boxes = Boxes(torch.empty(number, 4, device="meta"))
    if branch == "surfaces":
        heads.surface_maps(features, [boxes])
        return
    pooled = _trace_pooling(heads, branch, features, [boxes])
    if branch == "boxes":
        # A cascade has lists of them.
        in_a_row = isinstance(heads.box_predictor, nn.ModuleList)
        predictors = heads.box_predictor if in_a_row else [heads.box_predictor]
        box_heads = heads.box_head if in_a_row else [getattr(heads, "box_head", _average_cells)]
        for head, predictor in zip(box_heads, predictors, strict=True):
            predictor(head(pooled))
    elif branch == "masks":
        detections = Instances((HEIGHT, WIDTH), pred_boxes=boxes)
        detections.pred_classes = torch.empty(number, dtype=torch.int64, device="meta")
        heads.mask_head(pooled, [detections])
    else:
        heads.keypoint_head.layers(pooled)


def _trace_pooling(
    heads: Any, branch: str, features: Mapping[str, torch.Tensor], boxes: list[Boxes]
) -> Any:
    """Return what the first layer of a branch takes; the maps themselves for a mask head that pools itself."""
    if hasattr(heads, "res5"):
        return heads.res5(heads.pooler([features[name] for name in heads.in_features], boxes))
    name = {"boxes": "box", "masks": "mask", "keypoints": "keypoint"}[branch]
    maps = {level: features[level] for level in getattr(heads, f"{name}_in_features")}
    pooler = getattr(heads, f"{name}_pooler")
    return maps if pooler is None else pooler([*maps.values()], boxes)


def _average_cells(pooled: torch.Tensor) -> torch.Tensor:
    return pooled.mean(dim=(2, 3))


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
    if model.get("DENSEPOSE_ON"):
        counts["surfaces"] = (int(detections), int(model.ROI_DENSEPOSE_HEAD.POOLER_RESOLUTION))
    return counts
