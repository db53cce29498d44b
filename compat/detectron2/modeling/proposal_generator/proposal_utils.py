"""From scored boxes to proposals.

Shapes: N images, L feature maps, Ri anchors of the i-th, P boxes kept. Boxes are xyxy in pixels of
the network's input, scores are logits.
"""

import math

import torch

from detectron2._absent import module_getattr
from detectron2.layers import batched_nms, cat
from detectron2.structures import Boxes, Instances

_ALMOST_CERTAIN = 1 - 1e-10
_GROUND_TRUTH_LOGIT = math.log(_ALMOST_CERTAIN / (1 - _ALMOST_CERTAIN))


def find_top_rpn_proposals(
    proposals: list[torch.Tensor],
    pred_objectness_logits: list[torch.Tensor],
    image_sizes: list[tuple[int, int]],
    nms_thresh: float,
    pre_nms_topk: int,
    post_nms_topk: int,
    min_box_size: float,
    training: bool,
) -> list[Instances]:
    """Choose the best boxes per image: top scores per level, clip, drop small ones, NMS, top again.

    Args:
        proposals: L times (N, Ri, 4).
        pred_objectness_logits: L times (N, Ri).
        image_sizes: (height, width) of every image without its padding.
        nms_thresh: IoU above which NMS, within each level, drops the lower score.
        pre_nms_topk: how many boxes of each level reach NMS.
        post_nms_topk: how many boxes of an image are returned at most, of all levels together.
        min_box_size: sides must be longer than this, in pixels.
        training: a box or score that is not finite is an error then; otherwise it is dropped.

    Returns:
        For every image ``proposal_boxes`` (P, 4) and ``objectness_logits`` (P,), best first.

    Raises:
        FloatingPointError: in training, predictions that are not finite.
    """
    best = []
    for level, (boxes, scores) in enumerate(zip(proposals, pred_objectness_logits, strict=True)):
        # A slice, unlike min(), keeps the number symbolic under torch.jit.trace.
        count = scores[:, :pre_nms_topk].shape[1]
        scores, order = scores.topk(count, dim=1)
        boxes = boxes.gather(1, order[:, :, None].expand(-1, -1, 4))
        best.append((boxes, scores, torch.full_like(order, level)))
    all_levels = [cat(parts, dim=1) for parts in zip(*best, strict=True)]
    chosen = []
    for image_size, boxes, scores, levels in zip(image_sizes, *all_levels, strict=False):
        finite = boxes.isfinite().all(dim=1) & scores.isfinite()
        if training and not finite.all():
            bad = f"{int((~finite).sum())} of {len(finite)} proposals"
            raise FloatingPointError(f"training has diverged: {bad} have Inf or NaN")
        clipped = Boxes(boxes[finite])
        clipped.clip(image_size)
        rois = Instances(image_size, proposal_boxes=clipped, objectness_logits=scores[finite])
        large = clipped.nonempty(threshold=min_box_size)
        rois, levels = rois[large], levels[finite][large]
        corners, logits = rois.proposal_boxes.tensor, rois.objectness_logits
        chosen.append(rois[batched_nms(corners, logits, levels, nms_thresh)[:post_nms_topk]])
    return chosen


def add_ground_truth_to_proposals(gt: list, proposals: list[Instances]) -> list[Instances]:
    """Append every image's ground truth to its proposals.

    Args:
        gt: instances with ``gt_boxes`` (and all other fields of the proposals), or only boxes.
        proposals: of the same images.

    Raises:
        ValueError: different numbers of images.
        AssertionError: the proposals have a field that the ground truth lacks.
    """
    if len(gt) != len(proposals):
        raise ValueError(f"ground truth of {len(gt)} images for proposals of {len(proposals)}")
    return list(map(add_ground_truth_to_proposals_single_image, gt, proposals))


def add_ground_truth_to_proposals_single_image(gt: Instances | Boxes, proposals: Instances):
    """Append the ground truth of one image, with a logit of almost certain objects."""
    fields = {"gt_boxes": gt} if isinstance(gt, Boxes) else gt.get_fields()
    boxes, logits = fields["gt_boxes"], proposals.objectness_logits
    certain = torch.full((len(boxes),), _GROUND_TRUTH_LOGIT, device=logits.device)
    fields = fields | {"proposal_boxes": boxes, "objectness_logits": certain}
    wanted = proposals.get_fields()
    missing = [name for name in wanted if name not in fields]
    assert not missing, f"proposals have fields {missing} that the ground truth lacks"
    appended = Instances(proposals.image_size, **{name: fields[name] for name in wanted})
    return Instances.cat([proposals, appended])


__getattr__ = module_getattr(__name__)
