"""Where two detectors with the same weights differ: traced to ties in their non-maximum suppressions.

A tie is an IoU so close to the threshold, or two scores so close to each other, that rounding decides.
"""

from contextlib import contextmanager
from dataclasses import dataclass
from unittest.mock import patch

import torch
from torchvision import ops
from torchvision.ops import boxes as box_ops

SCORES, IOUS = 1e-5, 1e-4
"""How close a tie is."""
PLACE = 1e-2
"""Pixels within which two boxes are the same."""


@dataclass
class Suppression:
    """One call of NMS: candidates, and which of them were kept, at most ``limit``."""

    boxes: torch.Tensor
    scores: torch.Tensor
    groups: torch.Tensor
    threshold: float
    kept: torch.Tensor


@contextmanager
def recorded(limits=(1000, 100)):
    """Yield a list that the calls of NMS are added to: the RPN's, then that of the detections."""
    calls, nms = [], box_ops.batched_nms

    def record(boxes, scores, groups, threshold):
        kept = nms(boxes, scores, groups, threshold)
        chosen = torch.zeros(len(boxes), dtype=torch.bool)
        chosen[kept[: limits[len(calls) % 2]]] = True
        # The RPN's scores are logits in Detectron2.
        known = (
            scores.sigmoid()
            if len(calls) % 2 == 0 and scores.numel() and (scores.max() > 1 or scores.min() < 0)
            else scores
        )
        calls.append(Suppression(boxes, known, groups, threshold, chosen))
        return kept

    with patch.object(box_ops, "batched_nms", record), patch.object(ops, "batched_nms", record):
        yield calls


def untraced(first, second):
    """Return how many kept candidates of ``first`` the other did not keep, and how many of these no tie explains.

    Args:
        first: a :class:`Suppression`.
        second: the same of the other detector.
    """
    same = _same(first, second)
    missing = first.kept & ~(same & second.kept).any(dim=1)
    explained = missing & _is_tied(first)
    # A candidate that came or went takes others with it: those that it overlaps, and those at the end of the list.
    changed = torch.cat(
        (first.boxes[missing], second.boxes[second.kept & ~(same & first.kept[:, None]).any(dim=0)])
    )
    lowest = first.scores[first.kept].min() if first.kept.any() else 0
    for place in torch.nonzero(missing & ~explained)[:, 0]:
        overlap = box_ops.box_iou(first.boxes[place : place + 1], changed)[0]
        pushed = (overlap > first.threshold - IOUS).sum() > 1
        at_end = first.scores[place] - lowest < SCORES * max(len(changed), 1)
        explained[place] = bool(explained.any()) and bool(pushed or at_end)
    return int(missing.sum()), int((missing & ~explained).sum())


def _same(first, second):
    """Return which candidates are the same, (candidates of the first, those of the second) bool."""
    near = torch.cdist(first.boxes, second.boxes, p=float("inf")) < PLACE
    return near & (first.groups[:, None] == second.groups)


def _is_tied(call):
    """Return which candidates take part in a tie, (candidates,) bool."""
    iou = box_ops.box_iou(call.boxes, call.boxes) * (call.groups[:, None] == call.groups)
    close = (iou - call.threshold).abs() < IOUS
    equal = (iou > call.threshold) & ((call.scores[:, None] - call.scores).abs() < SCORES)
    equal.fill_diagonal_(False)
    end = call.scores[call.kept].min() if call.kept.any() else 2.0
    return close.any(dim=1) | equal.any(dim=1) | ((call.scores - end).abs() < SCORES)
