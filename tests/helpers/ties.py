"""Why a detection of one model has no partner in another's: a tie that rounding breaks, or a real difference."""

import torch
import torch.nn.functional as F
from torchvision.ops import box_iou

from tests.helpers.torchvision_models import apart, pairs

SCORES, OVERLAP = 1e-5, 1e-4
"""Scores that are less apart are tied, an IoU is tied with a threshold that is no further away."""
SAME = 0.9
"""IoU of boxes of a label that are taken for one object: a detection with such a partner is there, and differs."""


def unmatched(theirs, own, **options):
    """Return each detection of ``theirs`` without partner in ``own``, by its place, and the tie that explains it.

    Args:
        theirs: detections of an image, after NMS and the cut to the best ones.
        own: the same of the other model.
        options: ``nms``, ``threshold`` and ``limit`` of both, by default 0.5, 0.05 and 100.

    Returns:
        place -> ``"score threshold"``, ``"order"``, ``"IoU"`` or ``"border"``; ``""`` is a real difference.
    """
    places = pairs(theirs, own)
    partners = set(places[places >= 0].tolist())
    strangers = [i for i in range(len(own.scores)) if i not in partners]
    missing = (places < 0).nonzero().flatten().tolist()
    return {place: _tie(theirs, place, own, strangers, **options) for place in missing}


def _tie(theirs, place, own, strangers, *, nms=0.5, threshold=0.05, limit=100):
    score = theirs.scores[place]
    overlaps = box_iou(theirs.boxes[place : place + 1], own.boxes)[0]
    overlaps = torch.where(own.labels == theirs.labels[place], overlaps, 0)
    if any(overlaps[i] > SAME for i in strangers):
        return ""
    if abs(score - threshold) < SCORES:
        return "score threshold"
    # What NMS may have kept in its place: with a higher score, or with the same.
    rivals = (overlaps >= nms - OVERLAP) & (own.scores > score - SCORES)
    if (rivals & ((own.scores - score).abs() < SCORES)).any():
        return "order"
    if (rivals & (overlaps <= nms + OVERLAP)).any():
        return "IoU"
    if len(own.scores) == limit and abs(score - own.scores.min()) < SCORES:
        return "border"
    return ""


def keypoint_gaps(theirs, own):
    """Return of each keypoint that lies elsewhere in ``own`` how much lower the heatmap of ``theirs`` is there.

    It is the largest logit of the heatmap less that of the pixel chosen by ``own``. A heatmap is resized to the whole
    pixels of the RoI of ``own``: where a side is a whole number but for rounding, it may have one more than in ``theirs``.
    """
    places = pairs(theirs, own)
    rows = (places >= 0).nonzero().flatten()
    points, rois = own.keypoints[places[rows], :, :2], own.rois[places[rows]]
    elsewhere = apart(theirs.keypoints[rows, :, :2], points).nonzero().tolist()
    return [_gap(theirs.heatmaps[rows[i], k], rois[i], points[i, k]) for i, k in elsewhere]


def _gap(heatmap, roi, point):
    sides = (roi[2:] - roi[:2]).clamp(min=1)
    width, height = sides.ceil().long().tolist()
    resized = F.interpolate(heatmap[None, None], (height, width), mode="bicubic")[0, 0]
    x, y = ((point - roi[:2]) / sides * torch.tensor([width, height])).long().tolist()
    return float(resized.max() - resized[y, x])
