"""Recall of box proposals.

Legend: P = proposals of an image, G = ground-truth boxes of an image, T = IoU thresholds.
"""

from collections.abc import Iterable
from typing import Any

import torch

from detectron2.structures import Boxes, BoxMode, Instances, pairwise_iou

AREAS = {  # in pixels of the original image
    "all": (0, 1e5**2),
    "small": (0, 32**2),
    "medium": (32**2, 96**2),
    "large": (96**2, 1e5**2),
}


def average_recall(
    predictions: Iterable[dict[str, Any]], coco_api: Any, area: str, limit: int
) -> float:
    """Return the recall of ground-truth boxes, averaged over IoU 0.5, 0.55, ..., 0.95.

    Images without proposals do not count. Nor do crowds.

    Args:
        predictions: "image_id" and "proposals", `Instances` with "proposal_boxes" (xyxy, pixels of
            the original image) and "objectness_logits".
        coco_api: ground truth.
        area: range of ground-truth areas, one of `AREAS`.
        limit: proposals per image, those with the highest scores.

    Returns:
        A fraction from 0 to 1; NaN without ground truth.
    """
    covered = [torch.zeros(0)]
    for prediction in predictions:
        proposals = prediction["proposals"]
        truth = _ground_truth(coco_api, prediction["image_id"], *AREAS[area])
        if len(proposals) and len(truth):
            covered.append(_best_overlaps(proposals, truth, limit))
    overlaps = torch.cat(covered)
    thresholds_T = torch.arange(0.5, 0.95 + 1e-5, 0.05)
    hits = (overlaps >= thresholds_T[:, None]).float()
    return float(hits.mean(dim=1).mean())  # the mean of nothing is NaN


def _ground_truth(coco_api: Any, image_id: Any, low: float, high: float) -> Boxes:
    annotations = coco_api.loadAnns(coco_api.getAnnIds(imgIds=image_id))
    boxes = [
        BoxMode.convert(each["bbox"], BoxMode.XYWH_ABS, BoxMode.XYXY_ABS)
        for each in annotations
        if not each.get("iscrowd", 0) and low <= each["area"] <= high
    ]
    return Boxes(torch.tensor(boxes).reshape(-1, 4))


def _best_overlaps(proposals: Instances, truth: Boxes, limit: int) -> torch.Tensor:
    """Pair the best overlapping truth and proposal, then the best of the rest, and so on.

    Returns:
        (G,) IoU of each pair; 0 for what is left over.
    """
    order = proposals.objectness_logits.sort(descending=True)[1][:limit]
    iou_GP = pairwise_iou(truth, proposals.proposal_boxes[order])
    best = torch.zeros(len(truth))
    for pair in range(min(iou_GP.shape)):
        truth_index, proposal_index = divmod(int(iou_GP.argmax()), iou_GP.shape[1])
        best[pair] = iou_GP[truth_index, proposal_index]
        iou_GP[truth_index, :] = -1
        iou_GP[:, proposal_index] = -1
    return best
