"""What all RoI heads share: the registry, matching and sampling of proposals, selections of them.

Letters: N images, R RoIs (of one image where a function takes one), G ground-truth objects of an
image, K foreground classes; label K is the background, -1 is ignored.
Boxes are xyxy in pixels of the network's input.
"""

from statistics import fmean
from typing import Any

import torch
from torch import nn

from detectron2.config import CfgNode, configurable
from detectron2.structures import ImageList, Instances, pairwise_iou
from detectron2.utils.events import get_event_storage
from detectron2.utils.registry import Registry

from ..matcher import Matcher
from ..proposal_generator.proposal_utils import add_ground_truth_to_proposals
from ..sampling import subsample_labels

# Called with the config and the ShapeSpec of each feature map, by its name.
ROI_HEADS_REGISTRY = Registry("ROI_HEADS")


def select_foreground_proposals(
    proposals: list[Instances], bg_label: int
) -> tuple[list[Instances], list[torch.Tensor]]:
    """Keep the proposals that are neither background nor ignored.

    Args:
        proposals: of each image, with ``gt_classes``.
        bg_label: K.

    Returns:
        What is kept of each image, and for each image an (R,) bool mask of it.
    """
    masks = [(p.gt_classes != -1) & (p.gt_classes != bg_label) for p in proposals]
    pairs = zip(proposals, masks, strict=True)
    return [p[mask.nonzero().squeeze(1)] for p, mask in pairs], masks


class ROIHeads(nn.Module):
    """Base of all RoI heads: matches proposals with the ground truth and samples them.

    Args:
        num_classes: K.
        batch_size_per_image: proposals to sample per image for training.
        positive_fraction: at most this share of them is foreground.
        proposal_matcher: IoU matrix (G, R) to matches and labels (1 foreground, 0 background, -1
            ignored).
        proposal_append_gt: add the ground-truth boxes to the proposals, so that there is
            foreground from the first iteration on.
    """

    @configurable
    def __init__(
        self,
        *,
        num_classes: int,
        batch_size_per_image: int,
        positive_fraction: float,
        proposal_matcher: Matcher,
        proposal_append_gt: bool = True,
    ):
        super().__init__()
        self.num_classes, self.proposal_matcher = num_classes, proposal_matcher
        self.batch_size_per_image, self.positive_fraction = batch_size_per_image, positive_fraction
        self.proposal_append_gt = proposal_append_gt

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        keys = cfg.MODEL.ROI_HEADS
        # What is called like its key.
        same = ("num_classes", "batch_size_per_image", "positive_fraction", "proposal_append_gt")
        matcher = Matcher(keys.IOU_THRESHOLDS, keys.IOU_LABELS)
        return {name: keys[name.upper()] for name in same} | {"proposal_matcher": matcher}

    def _sample_proposals(self, matches, match_labels, gt_classes):
        """Return the indices of an image's samples, foreground first, and their classes."""
        if len(gt_classes):
            labels = gt_classes[matches]
            labels[match_labels == 0], labels[match_labels == -1] = self.num_classes, -1
        else:
            labels = torch.full_like(matches, self.num_classes)
        counts = self.batch_size_per_image, self.positive_fraction
        sampled = torch.cat(subsample_labels(labels, *counts, self.num_classes))
        return sampled, labels[sampled]

    @torch.no_grad()
    def label_and_sample_proposals(self, proposals: list[Instances], targets: list[Instances]):
        """Choose the proposals to train on and give them their targets.

        Args:
            proposals: of each image, with ``proposal_boxes``.
            targets: ground truth of each image, see :meth:`forward`.

        Returns:
            The sampled proposals of each image with ``gt_classes`` in [0, K] and every other
            ``gt_`` field of the object they are matched with (arbitrary for background). An image
            without ground truth has ``gt_classes`` only.
        """
        if not targets:
            raise ValueError("Training needs ground truth: give every input 'instances'")
        if self.proposal_append_gt:
            proposals = add_ground_truth_to_proposals(targets, proposals)
        sampled, background = [], []
        for candidates, truth in zip(proposals, targets, strict=True):
            iou_GR = pairwise_iou(truth.gt_boxes, candidates.proposal_boxes)
            matches, match_labels = self.proposal_matcher(iou_GR)
            chosen, labels = self._sample_proposals(matches, match_labels, truth.gt_classes)
            samples = candidates[chosen]
            samples.gt_classes = labels
            for name, values in truth.get_fields().items() if len(truth) else ():
                if name.startswith("gt_") and not samples.has(name):
                    samples.set(name, values[matches[chosen]])
            sampled.append(samples)
            background.append((labels == self.num_classes).sum().item())
        foreground = [
            len(samples) - count for samples, count in zip(sampled, background, strict=True)
        ]
        for kind, counts in (("fg", foreground), ("bg", background)):
            get_event_storage().put_scalar(f"roi_head/num_{kind}_samples", fmean(counts))
        return sampled

    def forward(self, images: ImageList, features: dict, proposals, targets=None):
        """Train on proposals or turn them into detections, according to the module's mode.

        Args:
            images: the N input images.
            features: maps (N, C, H, W) by name.
            proposals: of each image, with ``proposal_boxes``.
            targets: only in training: ``gt_boxes``, ``gt_classes`` in [0, K) and, for the branches
                that need them, ``gt_masks``, ``gt_keypoints``.

        Returns:
            Detections of each image (in training unspecified), and losses by name (none when
            detecting).

        Raises:
            ValueError: training without ``targets``.
        """
        raise NotImplementedError(f"{type(self).__name__} has no forward()")

    def _check_given_boxes(self, instances: list[Instances]) -> None:
        if self.training:
            raise RuntimeError("Boxes can be given in evaluation mode only; call eval() first")
        given = list(instances[0].get_fields())
        for name in ("pred_boxes", "pred_classes"):
            if name not in given:
                raise ValueError(f"Given detections need {name}; they have {given}")
