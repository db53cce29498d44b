"""Non-maximum suppression (torchvision's)."""

from torch import Tensor
from torchvision import ops
from torchvision.ops import nms

from detectron2._absent import module_getattr

__all__ = ["batched_nms", "nms"]


def batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """Suppress boxes that overlap a better one of their own group by more than a threshold.

    Args:
        boxes: (N, 4) x1, y1, x2, y2.
        scores: (N,).
        idxs: (N,) group of each box, such as its class or feature level.
        iou_threshold: fraction.

    Returns:
        Indices of the boxes to keep, best first.
    """
    # torchvision shifts groups apart by multiples of the largest coordinate: too much for fp16.
    return ops.batched_nms(boxes.float(), scores, idxs, iou_threshold)


__getattr__ = module_getattr(__name__)
