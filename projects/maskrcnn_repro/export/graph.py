"""The inference of a trained two-stage model as one module of plain tensor code, for exporters.

No exporter takes the model itself: structures, checks of the data and operations that only run in PyTorch stand
in its way. Here the trained layers are joined anew, for one image of any size, with any number of RoIs.

Shape legend: h, w height and width of the network's input, H, W those of the image that results are wanted
in, in pixels; R detections, m side of a mask in cells, K keypoints.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from maskrcnn_repro.errors import ExportError
from maskrcnn_repro.export.keypoints import decode_keypoints
from maskrcnn_repro.export.pasting import paste
from maskrcnn_repro.export.pooling import ExportPooler, with_stand_in
from maskrcnn_repro.export.proposals import Detected, ExportDetections, ExportRPN, check_code, clip
from maskrcnn_repro.inference.exported_branches import branches_of_model
from maskrcnn_repro.modeling.anchors import TorchvisionAnchorGenerator
from maskrcnn_repro.modeling.mask_head import MaskHead
from maskrcnn_repro.modeling.mask_head.losses import sigmoid_masks

import torch
import torch.nn.functional as F
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.proposal_generator import RPN
from detectron2.modeling.roi_heads import Res5ROIHeads, StandardROIHeads
from torch import Tensor, nn


class ExportGraph(nn.Module):
    """Detections in one image.

    Args:
        model: a trained Faster, Mask or Keypoint R-CNN, in evaluation mode.
        threshold: detections have a higher score.
        pasted: return masks also at the resolution of the image.
        pixels: type of the image that is taken, uint8 or, of a resizing that rounds nothing, float32.

    Raises:
        ExportError: a model of another architecture.
    """

    branches: Any
    mean: Tensor
    std: Tensor
    mask_head: Any
    keypoint_head: Any

    def __init__(
        self,
        model: Any,
        *,
        threshold: float,
        pasted: bool = False,
        pixels: torch.dtype = torch.uint8,
    ) -> None:
        super().__init__()
        check_architecture(model)
        self.backbone, self.pasted, self.pixels = model.backbone, pasted, pixels
        self.flip = model.input_format == "BGR"
        self.register_buffer("mean", model.pixel_mean.detach().clone(), persistent=False)
        self.register_buffer("std", model.pixel_std.detach().clone(), persistent=False)
        self.rpn = ExportRPN(model.proposal_generator)
        heads = model.roi_heads
        self.branches = branches_of(heads)(heads, threshold)
        self.mask_head = export_form(heads.mask_head) if heads.mask_on else None
        keypoints = getattr(heads, "keypoint_on", False)
        self.keypoint_head = heads.keypoint_head if keypoints else None
        further = [(branch, branch.build(model)) for branch in branches_of_model(model)]
        self.further = [branch for branch, module in further if module is not None]
        self.further_modules = nn.ModuleList(m for _, m in further if m is not None)
        self.eval()

    @property
    def outputs(self) -> list[str]:
        """Names of the tensors that :meth:`forward` returns, in their order."""
        masks = ["masks"] if self.mask_head is not None else []
        pasted = ["pasted"] if masks and self.pasted else []
        scores = ["mask_scores"] if getattr(self.mask_head, "scores_masks", False) else []
        points = ["keypoints"] if self.keypoint_head is not None else []
        further = [name for branch in self.further for name in branch.outputs]
        return ["boxes", "scores", "classes", *masks, *pasted, *scores, *points, *further]

    def forward(self, image: Tensor, size: Tensor) -> tuple[Tensor, ...]:
        """Detect objects.

        Args:
            image: (h, w, 3) uint8, or float32 of a model whose resizing gives that (``INPUT.RESIZE``), RGB,
                resized as the metadata of an export say.
            size: (2,) int64, H and W: results are in pixels of an image of this size.

        Returns:
            ``boxes`` (R, 4) float32 xyxy, ``scores`` (R,) float32, falling, and ``classes`` (R,) int64; then, where
            the model has them, ``masks`` (R, m, m) float32, probabilities over the box, ``pasted`` (R, H, W) bool,
            ``mask_scores`` (R,) float32, ``keypoints`` (R, K, 3) float32: x, y and score, and what the further branches
            of plug-ins put out.
        """
        height, width = image.shape[:2]
        features = self.backbone(self._normalised(image))
        proposals = self.rpn(features, (height, width))
        boxes, scores, classes = self.branches.detect(features, proposals, (height, width))

        target = size.to(boxes.dtype)
        scale = torch.stack([target[1] / width, target[0] / height])
        wanted = clip(boxes * scale.repeat(2), (target[0], target[1]))
        full = (wanted[:, 2:] > wanted[:, :2]).all(dim=1).nonzero().squeeze(1)
        boxes, wanted, scores, classes = (x[full] for x in (boxes, wanted, scores, classes))
        results = [wanted, scores, classes]
        if self.mask_head is not None:
            masks, ious = self._masks(features, boxes, classes)
            results.append(masks)
            if self.pasted:
                results.append(paste(masks, wanted, size))
            results += [scores * ious] if ious is not None else []
        if self.keypoint_head is not None:
            results.append(self._keypoints(features, boxes, scale))
        for module in self.further_modules:
            results += module(features, boxes, (height, width), size)
        return tuple(results)

    def _normalised(self, image: Tensor) -> Tensor:
        """Return the padded input of the backbone, (1, 3, h', w')."""
        planes = image.permute(2, 0, 1)
        planes = (planes.flip(0) if self.flip else planes).to(self.mean.dtype)
        planes = (planes - self.mean) / self.std
        divisor = max(self.backbone.size_divisibility, 1)
        bottom, right = (-side % divisor for side in image.shape[:2])
        return F.pad(planes[None], (0, right, 0, bottom))

    def _masks(
        self, features: dict[str, Tensor], boxes: Tensor, classes: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Return masks (R, m, m) and, of a head that scores them, their predicted IoUs (R,)."""
        head: Any = self.mask_head
        if hasattr(head, "mask_logits"):
            return head.mask_logits(features, [boxes], classes).sigmoid(), None
        rois, count = self.branches.masks(features, with_stand_in(boxes)), boxes.shape[0]
        if not isinstance(self.mask_head, MaskHead):
            return sigmoid_masks(head.layers(rois)[:count], classes), None
        padded = F.pad(classes, (0, 1))
        masks = head.masks(rois, padded)
        if not getattr(head, "scores_masks", False):
            return masks[:count], None
        return masks[:count], head.mask_ious(rois, masks, padded)[:count]

    def _keypoints(self, features: dict[str, Tensor], boxes: Tensor, scale: Tensor) -> Tensor:
        logits = self.keypoint_head.layers(self.branches.keypoints(features, with_stand_in(boxes)))
        points = decode_keypoints(logits[: boxes.shape[0]], boxes)
        return torch.cat([points[..., :2] * scale, points[..., 2:]], dim=2)


class FPNBranches(nn.Module):
    """A pooler and a head of its own for each branch (Fig. 4 right).

    Args:
        heads: the trained RoI heads.
        threshold: detections have a higher score.

    Raises:
        ExportError: an RoI operation or an output layer is of another kind.
    """

    def __init__(self, heads: Any, threshold: float) -> None:
        super().__init__()
        self.in_features = list(heads.box_in_features)
        self.box_pooler = ExportPooler(heads.box_pooler)
        pooler = heads.mask_pooler if heads.mask_on else None
        self.mask_pooler = None if pooler is None else ExportPooler(pooler)
        self.keypoint_pooler = ExportPooler(heads.keypoint_pooler) if heads.keypoint_on else None
        self.add_box_branch(heads, threshold)

    def add_box_branch(self, heads: Any, threshold: float) -> None:
        """Take the box head and its output layers."""
        self.box_head = heads.box_head
        self.detections = ExportDetections(heads.box_predictor, threshold)

    def detect(
        self, features: dict[str, Tensor], proposals: Tensor, size: tuple[Any, Any]
    ) -> Detected:
        """Return boxes (R, 4), scores (R,) and classes (R,) of proposals in an image of ``size`` (height, width)."""
        rois = self.pooled(self.box_pooler, features, with_stand_in(proposals))
        return self.detections.detect(self.box_head(rois), proposals, size)

    def masks(self, features: dict[str, Tensor], boxes: Tensor) -> Tensor:
        """Return what the mask head takes for boxes (R, 4)."""
        return self.pooled(self.mask_pooler, features, boxes)

    def keypoints(self, features: dict[str, Tensor], boxes: Tensor) -> Tensor:
        """Return what the keypoint head takes for boxes (R, 4)."""
        return self.pooled(self.keypoint_pooler, features, boxes)

    def pooled(self, pooler: Any, features: dict[str, Tensor], boxes: Tensor) -> Tensor:
        """Pool boxes (R, 4) from the maps of these heads."""
        return pooler([features[name] for name in self.in_features], boxes)


class C4Branches(nn.Module):
    """One pooler and one res5 for all branches (Fig. 4 left).

    Args:
        heads: the trained RoI heads.
        threshold: detections have a higher score.

    Raises:
        ExportError: the RoI operation or the output layer is of another kind.
    """

    def __init__(self, heads: Any, threshold: float) -> None:
        super().__init__()
        self.in_feature = heads.in_features[0]
        self.pooler, self.res5 = ExportPooler(heads.pooler), heads.res5
        self.detections = ExportDetections(heads.box_predictor, threshold)

    def detect(
        self, features: dict[str, Tensor], proposals: Tensor, size: tuple[Any, Any]
    ) -> Detected:
        """Return boxes (R, 4), scores (R,) and classes (R,) of proposals in an image of ``size`` (height, width)."""
        scored = self.masks(features, with_stand_in(proposals)).mean(dim=(2, 3))
        return self.detections.detect(scored, proposals, size)

    def masks(self, features: dict[str, Tensor], boxes: Tensor) -> Tensor:
        """Return what the mask head takes for boxes (R, 4)."""
        return self.res5(self.pooler([features[self.in_feature]], boxes))


BRANCHES: dict[type, type] = {StandardROIHeads: FPNBranches, Res5ROIHeads: C4Branches}
"""Class of RoI heads -> class of the branches that export them; a plug-in adds those of its own heads.

It is built with the trained heads and the threshold of scores, and has the methods of :class:`FPNBranches` that its
model needs. Heads that are not named have those of the class they inherit from.
"""


MASK_HEADS: dict[type, Callable[[Any], nn.Module]] = {}
"""Class of a mask head that pools itself -> what builds its form for exporters; a plug-in adds its own.

The form has the head's ``mask_logits``; a head that is not named is recorded as it is.
"""


def export_form(head: Any) -> Any:
    """Return what an exporter records for a mask head."""
    build = MASK_HEADS.get(type(head))
    return head if build is None else build(head)


def branches_of(heads: Any) -> type:
    """Return the class of branches that export RoI heads.

    Raises:
        ExportError: there is none for them.
    """
    for kind in type(heads).__mro__:
        if kind in BRANCHES:
            return BRANCHES[kind]
    raise ExportError(
        f"RoI heads {type(heads).__name__} cannot be exported; those on FPN, C4 and C5 can."
    )


def check_architecture(model: Any) -> None:
    """Raise ExportError unless a model is a two-stage detector of the kinds that the graph joins."""
    name = type(model).__name__
    if not isinstance(model, GeneralizedRCNN):
        raise ExportError(
            f"A {name} cannot be exported; a detector (MODEL.META_ARCHITECTURE 'MaskRCNN') can."
        )
    exported = {name for branch in branches_of_model(model) for name in branch.outputs}
    if hasattr(model, "sem_seg_head") and "semantic" not in exported:
        raise ExportError(
            f"A {name} cannot be exported: its semantic branch has no form that exporters record; FamilyPanopticFPN of "
            "maskrcnn_family.panoptic_fpn takes the same weights and can."
        )
    if getattr(model.roi_heads, "densepose_on", False) and "densepose_u" not in exported:
        raise ExportError(
            "Surface coordinates cannot be exported: their head has no form that exporters record; with MODEL.DENSEPOSE_ON "
            "False the other branches can."
        )
    if not isinstance(model.proposal_generator, RPN):
        raise ExportError(
            "A model without a region proposal network cannot be exported: it takes stored proposals; put an RPN "
            "into it with maskrcnn join-weights."
        )
    generator = model.proposal_generator.anchor_generator
    check_code(generator, "forward", (DefaultAnchorGenerator, TorchvisionAnchorGenerator))
