"""Boxes as deltas to other boxes, and the loss on them.

Shapes: N boxes or images, k box predictions per box (one, or one per class), L feature maps, Ri
anchors of the i-th and R of all. Boxes are xyxy in pixels of the network's input, deltas have no
unit.
"""

import math
from collections.abc import Callable, Sequence

import torch
from fvcore.nn import smooth_l1_loss
from torchvision import ops

from detectron2._absent import module_getattr
from detectron2.layers import cat
from detectron2.structures import Boxes

# At most from 16 to 1000 pixels: exp() of an untrained network's output must not overflow.
_DEFAULT_SCALE_CLAMP = math.log(1000 / 16)

_IOU_LOSSES: dict[str, Callable] = {
    "giou": ops.generalized_box_iou_loss,
    "diou": ops.distance_box_iou_loss,
    "ciou": ops.complete_box_iou_loss,
}


class Box2BoxTransform:
    """Deltas (dx, dy, dw, dh) of R-CNN (arXiv 1311.2524, appendix C).

    ``dx`` and ``dy`` move the centre by fractions of the source's width and height; ``dw`` and
    ``dh`` are natural logarithms of the size ratios.

    Args:
        weights: factors of the four deltas, which bring them to a common scale.
        scale_clamp: upper limit of dw and dh when they are applied.
    """

    def __init__(
        self, weights: tuple[float, float, float, float], scale_clamp: float = _DEFAULT_SCALE_CLAMP
    ):
        self.weights, self.scale_clamp = weights, scale_clamp

    def get_deltas(self, src_boxes: torch.Tensor, target_boxes: torch.Tensor) -> torch.Tensor:
        """Return what turns each source box into its target box.

        Args:
            src_boxes: (N, 4), for example anchors.
            target_boxes: (N, 4), for example ground truth.

        Returns:
            (N, 4) deltas, times ``weights``.

        Raises:
            ValueError: a source box without area.
        """
        source_center, source_size = _center_and_size(src_boxes)
        if not (source_size > 0).all():
            row = int((source_size <= 0).any(dim=1).int().argmax())
            raise ValueError(f"box {row} of the source boxes is empty: {src_boxes[row].tolist()}")
        target_center, target_size = _center_and_size(target_boxes)
        weights = src_boxes.new_tensor(self.weights)
        shift = weights[:2] * (target_center - source_center) / source_size
        scale = weights[2:] * torch.log(target_size / source_size)
        return torch.cat((shift, scale), dim=1)

    def apply_deltas(self, deltas: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        """Return the boxes that deltas lead to, in float32 whatever the precision of the deltas.

        Args:
            deltas: (N, k * 4), times ``weights``.
            boxes: (N, 4) source boxes.

        Returns:
            (N, k * 4) boxes, not clipped to any image.
        """
        center, size = _center_and_size(boxes.float()[:, None])
        scaled = deltas.float().unflatten(1, (-1, 4))
        scaled = scaled / scaled.new_tensor(self.weights)
        center = scaled[..., :2] * size + center
        half = 0.5 * (scaled[..., 2:].clamp(max=self.scale_clamp).exp() * size)
        return torch.cat((center - half, center + half), dim=2).flatten(1)


class Box2BoxTransformLinear:
    """Distances (left, top, right, bottom) from the source's centre to the target's edges (FCOS).

    Args:
        normalize_by_size: divide them by the source's width and height.
    """

    def __init__(self, normalize_by_size: bool = True):
        self.normalize_by_size = normalize_by_size

    def get_deltas(self, src_boxes: torch.Tensor, target_boxes: torch.Tensor) -> torch.Tensor:
        """Return (N, 4) distances; all positive where a source's centre is inside its target."""
        center, size = _center_and_size(src_boxes)
        deltas = torch.cat((center - target_boxes[:, :2], target_boxes[:, 2:] - center), dim=1)
        return deltas / size.repeat(1, 2) if self.normalize_by_size else deltas

    def apply_deltas(self, deltas: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        """Return (N, k * 4) boxes from as many distances; negative ones count as 0."""
        distances = deltas.relu().unflatten(1, (-1, 4))
        center, size = _center_and_size(boxes.to(deltas.dtype)[:, None])
        unit = size.repeat(1, 1, 2) if self.normalize_by_size else 1
        before, after = (distances * unit).split(2, dim=2)
        return torch.cat((center - before, center + after), dim=2).flatten(1)


def _center_and_size(boxes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    size = boxes[..., 2:] - boxes[..., :2]
    return boxes[..., :2] + 0.5 * size, size


def _dense_box_regression_loss(
    anchors: Sequence[Boxes | torch.Tensor],
    box2box_transform: Box2BoxTransform | Box2BoxTransformLinear,
    pred_anchor_deltas: Sequence[torch.Tensor],
    gt_boxes: Sequence[torch.Tensor],
    fg_mask: torch.Tensor,
    box_reg_loss_type: str = "smooth_l1",
    smooth_l1_beta: float = 0.0,
) -> torch.Tensor:
    """Sum the box loss over the foreground anchors of all images.

    Args:
        anchors: L times (Ri, 4).
        box2box_transform: what the deltas mean.
        pred_anchor_deltas: L times (N, Ri, 4).
        gt_boxes: N times (R, 4), the box that each anchor should become.
        fg_mask: (N, R) bool, the anchors that count.
        box_reg_loss_type: ``smooth_l1`` on deltas, or ``giou``, ``diou``, ``ciou`` on boxes.
        smooth_l1_beta: where smooth L1 turns from square to linear; 0 for plain L1.

    Raises:
        ValueError: an unknown loss.
    """
    allowed = {"smooth_l1": None, **_IOU_LOSSES}
    if box_reg_loss_type not in allowed:
        raise ValueError(f"no box loss is called {box_reg_loss_type!r}; choose from {[*allowed]}")
    sources = cat([a.tensor if isinstance(a, Boxes) else a for a in anchors])
    deltas = cat(list(pred_anchor_deltas), dim=1)
    iou_loss = allowed[box_reg_loss_type]
    if iou_loss is None:
        wanted = torch.stack([box2box_transform.get_deltas(sources, target) for target in gt_boxes])
        return smooth_l1_loss(deltas[fg_mask], wanted[fg_mask], smooth_l1_beta, reduction="sum")
    boxes = torch.stack([box2box_transform.apply_deltas(image, sources) for image in deltas])
    return iou_loss(boxes[fg_mask], torch.stack(list(gt_boxes))[fg_mask], reduction="sum")


__getattr__ = module_getattr(__name__)
