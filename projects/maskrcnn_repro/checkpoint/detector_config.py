"""The config of a whole detector, told by the names and shapes of its tensors."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from maskrcnn_repro._location import PACKAGE
from maskrcnn_repro.checkpoint.origin import depth_of
from maskrcnn_repro.errors import CheckpointError

import yaml

Shapes = Mapping[str, tuple[int, ...]]
WIDTHS = {
    "MODEL.RESNETS.STEM_OUT_CHANNELS": ("stem.conv1.weight", 0),
    "MODEL.FPN.OUT_CHANNELS": ("fpn_lateral2.weight", 0),
    "MODEL.ROI_BOX_HEAD.CONV_DIM": ("box_head.conv1.weight", 0),
    "MODEL.ROI_BOX_HEAD.FC_DIM": ("box_head.fc1.weight", 0),
    "MODEL.ROI_MASK_HEAD.CONV_DIM": ("mask_head.deconv.weight", 1),
    "MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS": ("score_lowres.weight", 1),
}
"""Keys of widths: the end of a tensor's name, and which of its dimensions it is."""
LEVELS = ["res2", "res3", "res4", "res5"]


@dataclass(frozen=True)
class Kind:
    """A library's detectors: how they are recognised, and the config keys that follow from that."""

    name: str
    has: Sequence[str]
    lacks: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


@functools.cache
def kinds() -> tuple[Kind, ...]:
    """Return the rows of ``kinds.yaml``."""
    text = (PACKAGE / "checkpoint" / "kinds.yaml").read_text(encoding="utf-8")
    return tuple(Kind(**row) for row in yaml.safe_load(text)["kinds"])


def kind_of(names: Sequence[str]) -> Kind | None:
    """Return the kind of a whole detector with tensors of these names; None if it is of none.

    Raises:
        CheckpointError: it is of one, and has a part that no model here has.
    """

    def any_begins(pattern: str) -> bool:
        return any(re.match(pattern, name) for name in names)

    for kind in kinds():
        if all(map(any_begins, kind.has)):
            for pattern, meaning in kind.lacks.items():
                if any_begins(pattern):
                    raise CheckpointError(
                        f"The weights are a detector of {kind.name}, but {meaning}, which no config here says."
                    )
            return kind
    return None


@dataclass(frozen=True)
class Outline:
    """Shapes of a detector's tensors under Detectron2's names, whole or without their beginnings."""

    shapes: Shapes

    def shape(self, ending: str) -> tuple[int, ...] | None:
        """Return the shape of the tensor whose name is ``ending`` or ends in it; None if there is none."""
        for name, shape in self.shapes.items():
            if name == ending or name.endswith(f".{ending}"):
                return shape
        return None

    def count(self, pattern: str) -> int:
        """Return how many tensors have names that end in a match of ``pattern``."""
        return sum(re.search(rf"(^|\.){pattern}$", name) is not None for name in self.shapes)

    @property
    def is_pyramid(self) -> bool:
        """Whether there is an FPN."""
        return self.shape("fpn_lateral2.weight") is not None


def keys_of(shapes: Shapes, kind: Kind, unused: int = 0) -> dict[str, Any]:
    """Return the config keys of a detector that differ from Detectron2's defaults, by dotted name.

    Args:
        shapes: of its tensors, named as in Detectron2, whole or as the Caffe2 converter of Detectron2 leaves them.
        kind: of it.
        unused: outputs of the class layer that are no classes, beside the background.

    Raises:
        CheckpointError: its ResNet has a depth that no config has.
    """
    outline = Outline(shapes)
    keys: dict[str, Any] = {"MODEL.META_ARCHITECTURE": "MaskRCNN", "INPUT.MIN_SIZE_TEST": 800}
    keys |= _backbone(outline, kind) | _branches(outline, unused)
    for key, (ending, dimension) in WIDTHS.items():
        if shape := outline.shape(ending):
            keys[key] = shape[dimension]
    keys |= _pyramid(outline, kind) if outline.is_pyramid else _one_map(outline)
    return {**keys, **kind.options}


def _backbone(outline: Outline, kind: Kind) -> dict[str, Any]:
    depth = depth_of(outline.shapes)
    middle = outline.shape("res2.0.conv2.weight")
    if depth is None or middle is None:
        raise CheckpointError(
            "The weights are a detector whose backbone is no ResNet of 18 to 152 layers."
        )
    groups = middle[0] // middle[1]
    keys: dict[str, Any] = {"MODEL.RESNETS.DEPTH": depth}
    if depth < 50:
        keys["MODEL.RESNETS.RES2_OUT_CHANNELS"] = 64
    elif (groups, middle[1]) != (1, 64):
        keys |= {"MODEL.RESNETS.NUM_GROUPS": groups, "MODEL.RESNETS.WIDTH_PER_GROUP": middle[1]}
    if groups > 1:
        # ResNeXts stride in the 3x3; Detectron2's own were trained on pixels divided by their deviation.
        keys["MODEL.RESNETS.STRIDE_IN_1X1"] = False
        if kind.name == "Detectron2":
            keys["MODEL.PIXEL_STD"] = [57.375, 57.12, 58.395]
    if outline.count(r"conv1\.norm\.num_batches_tracked"):
        keys["MODEL.RESNETS.NORM"] = "BN"
    return keys


def _branches(outline: Outline, unused: int) -> dict[str, Any]:
    scores, boxes = outline.shape("cls_score.weight"), outline.shape("bbox_pred.weight")
    masks, points = (
        outline.shape("mask_head.predictor.weight"),
        outline.shape("score_lowres.weight"),
    )
    assert scores is not None
    assert boxes is not None
    keys: dict[str, Any] = {
        "MODEL.ROI_HEADS.NUM_CLASSES": scores[0] - 1 - unused,
        "MODEL.MASK_ON": masks is not None,
        "MODEL.KEYPOINT_ON": points is not None,
    }
    if unused:
        keys["MODEL.ROI_BOX_HEAD.UNUSED_CLASSES"] = unused
    if boxes[0] == 4 and keys["MODEL.ROI_HEADS.NUM_CLASSES"] > 1:
        keys["MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG"] = True
    if masks:
        convs = outline.count(r"mask_head\.mask_fcn\d+\.weight")
        keys |= {"MODEL.ROI_MASK_HEAD.NAME": "FCNMaskHead", "MODEL.ROI_MASK_HEAD.NUM_CONV": convs}
        if masks[0] == 1 and keys["MODEL.ROI_HEADS.NUM_CLASSES"] > 1:
            keys["MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK"] = True
        if outline.count(r"mask_fcn1\.norm\.running_mean"):
            keys["MODEL.ROI_MASK_HEAD.NORM"] = "BN"
    if points:
        widths = [outline.shape(f"conv_fcn{i}.weight") for i in range(1, 9)]
        keys |= {
            "MODEL.ROI_KEYPOINT_HEAD.NAME": "FCNKeypointHead",
            "MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS": [shape[0] for shape in widths if shape],
        }
    return keys


def _pyramid(outline: Outline, kind: Kind) -> dict[str, Any]:
    convs = outline.count(r"box_head\.conv\d+\.weight")
    keys: dict[str, Any] = {
        "MODEL.BACKBONE.NAME": "build_resnet_fpn_backbone",
        "MODEL.RESNETS.OUT_FEATURES": LEVELS,
        "MODEL.FPN.IN_FEATURES": LEVELS,
        "MODEL.ANCHOR_GENERATOR.SIZES": [[32], [64], [128], [256], [512]],
        "MODEL.RPN.IN_FEATURES": ["p2", "p3", "p4", "p5", "p6"],
        "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 2000,
        "MODEL.RPN.PRE_NMS_TOPK_TEST": 1000,
        "MODEL.RPN.POST_NMS_TOPK_TRAIN": 2000 if kind.name == "torchvision" else 1000,
        "MODEL.ROI_HEADS.NAME": "PaperStandardROIHeads",
        "MODEL.ROI_HEADS.IN_FEATURES": ["p2", "p3", "p4", "p5"],
        "MODEL.ROI_BOX_HEAD.NAME": "FastRCNNConvFCHead",
        "MODEL.ROI_BOX_HEAD.NUM_FC": outline.count(r"box_head\.fc\d+\.weight"),
        "MODEL.ROI_BOX_HEAD.NUM_CONV": convs,
        "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 7,
    }
    if outline.count(r"rpn_head\.conv\.conv\d+\.weight"):
        keys["MODEL.RPN.CONV_DIMS"] = [-1] * outline.count(r"rpn_head\.conv\.conv\d+\.weight")
    for part, pattern in (
        ("FPN", r"fpn_lateral2\.norm"),
        ("ROI_BOX_HEAD", r"box_head\.conv1\.norm"),
    ):
        if outline.count(rf"{pattern}\.weight"):
            keys[f"MODEL.{part}.NORM"] = "BN"
    if kind.name == "Detectron":
        # Its configs of pyramids say so, those of C4 leave it at 0.
        keys |= {
            f"MODEL.ROI_{head}_HEAD.POOLER_SAMPLING_RATIO": 2
            for head in ("BOX", "MASK", "KEYPOINT")
        }
    return keys


def _one_map(outline: Outline) -> dict[str, Any]:
    """Return the keys of a detector on one feature map: C4, or C5 with a dilated res5 where a box head says so."""
    if not outline.count(r"box_head\.fc1\.weight"):
        return {
            "MODEL.ROI_HEADS.NAME": "PaperRes5ROIHeads",
            "MODEL.ROI_HEADS.RES5_STRIDE": 2,
            "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 14,
        }
    return {
        "MODEL.RESNETS.OUT_FEATURES": ["res5"],
        "MODEL.RESNETS.RES5_DILATION": 2,
        "MODEL.RPN.IN_FEATURES": ["res5"],
        "MODEL.ROI_HEADS.NAME": "PaperStandardROIHeads",
        "MODEL.ROI_HEADS.IN_FEATURES": ["res5"],
        "MODEL.ROI_BOX_HEAD.NAME": "FastRCNNConvFCHead",
        "MODEL.ROI_BOX_HEAD.NUM_FC": 2,
        "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 7,
    }
