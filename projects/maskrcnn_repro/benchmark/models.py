"""The models of the benchmarks: the paper's architectures with Detectron2's settings.

Configs are differences from ``detectron2.config.get_cfg()`` without this project's keys, so that both
backends build the models from their own code only; :func:`own_config` is that of a contestant of this project.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from maskrcnn_repro.benchmark import recipe
from maskrcnn_repro.config import get_config
from maskrcnn_repro.errors import ConfigError, did_you_mean

from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_model
from torch import nn

_STAGES = ["res2", "res3", "res4", "res5"]
_LEVELS = ["p2", "p3", "p4", "p5", "p6"]

_TWO_FC_HEAD = {
    "MODEL.ROI_HEADS.NAME": "StandardROIHeads",
    "MODEL.ROI_BOX_HEAD.NAME": "FastRCNNConvFCHead",
    "MODEL.ROI_BOX_HEAD.NUM_FC": 2,
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 7,
    "MODEL.ROI_MASK_HEAD.NUM_CONV": 4,
}
_FPN = {
    **_TWO_FC_HEAD,
    "MODEL.BACKBONE.NAME": "build_resnet_fpn_backbone",
    "MODEL.RESNETS.OUT_FEATURES": _STAGES,
    "MODEL.FPN.IN_FEATURES": _STAGES,
    "MODEL.ANCHOR_GENERATOR.SIZES": [[32], [64], [128], [256], [512]],
    "MODEL.RPN.IN_FEATURES": _LEVELS,
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 2000,
    "MODEL.RPN.PRE_NMS_TOPK_TEST": 1000,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 1000,
    "MODEL.ROI_HEADS.IN_FEATURES": _LEVELS[:4],
}
_DC5 = {
    **_TWO_FC_HEAD,
    "MODEL.RESNETS.OUT_FEATURES": ["res5"],
    "MODEL.RESNETS.RES5_DILATION": 2,
    "MODEL.RPN.IN_FEATURES": ["res5"],
    "MODEL.ROI_HEADS.IN_FEATURES": ["res5"],
}
_MASK = {"MODEL.MASK_ON": True}
# As in Detectron2's config of this model: its published weights expect pixels divided by their deviation, and
# stride in the 3x3 convolution.
_X101 = {
    "MODEL.RESNETS.DEPTH": 101,
    "MODEL.RESNETS.NUM_GROUPS": 32,
    "MODEL.RESNETS.WIDTH_PER_GROUP": 8,
    "MODEL.RESNETS.STRIDE_IN_1X1": False,
    "MODEL.PIXEL_STD": [57.375, 57.120, 58.395],
}
# As in Detectron2's configs: its authors saw a lower keypoint AP with plain L1 and a lower box AP with 1,000
# proposals.
_KEYPOINTS = {
    "MODEL.KEYPOINT_ON": True,
    "MODEL.ROI_HEADS.NUM_CLASSES": 1,
    "MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA": 0.5,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 1500,
}

SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "R50-C4": _MASK,
    "R50-DC5": {**_DC5, **_MASK},
    "R50-FPN": {**_FPN, **_MASK},
    "X101-FPN": {**_FPN, **_MASK, **_X101},
    "keypoints-R50-FPN": {**_FPN, **_KEYPOINTS},
}
"""Name of a model -> its differences from Detectron2's defaults."""


def config(name: str, overrides: Mapping[str, Any] | None = None) -> CfgNode:
    """Return the config of a model of :data:`SETTINGS`, on the CPU and without a weights file.

    Raises:
        ConfigError: there is no model of that name.
    """
    if name not in SETTINGS:
        raise ConfigError(
            f"Model {name!r} is not one of {', '.join(SETTINGS)}.{did_you_mean(name, SETTINGS)}"
        )
    cfg = get_cfg()
    settings = {"MODEL.DEVICE": "cpu", "MODEL.WEIGHTS": "", **SETTINGS[name], **(overrides or {})}
    cfg.merge_from_list([word for pair in settings.items() for word in pair])
    return cfg


def own_config(name: str, overrides: Mapping[str, Any] | None = None) -> CfgNode:
    """Return this project's config of a model of :data:`SETTINGS`, on the CPU and without a weights file."""
    cfg = get_config()
    settings = {
        "MODEL.DEVICE": "cpu",
        "MODEL.WEIGHTS": "",
        **SETTINGS[name],
        "MODEL.META_ARCHITECTURE": "MaskRCNN",
        "MODEL.CHANNELS_LAST": True,
        **(overrides or {}),
    }
    cfg.merge_from_list([word for pair in settings.items() for word in pair])
    return cfg


def choose_gains(cfg: CfgNode) -> dict[str, float]:
    """Return the factors for :func:`recipe.fill` that lead to finite losses and many detections."""
    factors = {
        # Deviations of pixels from their mean are about 60, unless PIXEL_STD divides them.
        "stem.conv1.weight": 1 / 64 if cfg.MODEL.PIXEL_STD[0] == 1 else 1.0,
        # Activations must not grow from residual block to residual block.
        "conv3.norm": 0.2,
        "rpn_head.objectness_logits": 0.5,
        "rpn_head.anchor_deltas": 0.15,
        "box_predictor.cls_score": 1.0,
        "box_predictor.bbox_pred": 0.5,
        "mask_head.predictor": 0.5,
    }
    # With these factors the inputs of the heads have a root mean square of about 1.
    if "fpn" in cfg.MODEL.BACKBONE.NAME:
        return factors | {"fpn_output": 0.12 if cfg.MODEL.RESNETS.DEPTH == 50 else 0.0075}
    if cfg.MODEL.ROI_HEADS.NAME == "Res5ROIHeads":
        return factors | {"rpn_head.conv": 0.25, "box_predictor": 0.25, "mask_head.deconv": 0.25}
    return factors | {"rpn_head.conv": 0.2, "box_head.fc1": 0.2, "mask_head.mask_fcn1": 0.2}


def build(cfg: CfgNode, seed: int = 0) -> nn.Module:
    """Build the model of ``cfg`` with the recipe's weights."""
    model = build_model(cfg)
    recipe.fill(model, choose_gains(cfg), seed)
    return model
