"""What all RoI heads share: the registry, matching and sampling of proposals, selections of them.

Letters: N images, R RoIs (of one image where a function takes one), G ground-truth objects of an
image, J keypoint types, K foreground classes; label K is the background, -1 is ignored.
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

ROI_HEADS_REGISTRY = Registry("ROI_HEADS")
ROI_HEADS_REGISTRY.__doc__ = (
    "RoI heads by name, called with the config and the ShapeSpec of each feature map."
)

Features = dict[str, torch.Tensor]
Losses = dict[str, torch.Tensor]


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
    masks = [(one.gt_classes != -1) & (one.gt_classes != bg_label) for one in proposals]
    return [
        one[mask.nonzero().squeeze(1)] for one, mask in zip(proposals, masks, strict=True)
    ], masks


def select_proposals_with_visible_keypoints(proposals: list[Instances]) -> list[Instances]:
    """Keep the proposals that have a labelled keypoint of their object inside.

    Args:
        proposals: foreground of each image, with ``proposal_boxes`` and ``gt_keypoints``.
    """
    kept, counts = [], []
    for one in proposals:
        # An image without ground truth has no `gt_keypoints` field.
        if len(one) > 0:
            x, y, visibility = one.gt_keypoints.tensor.unbind(dim=2)  # each (R, J)
            x1, y1, x2, y2 = one.proposal_boxes.tensor[:, :, None].unbind(dim=1)
            inside = (x >= x1) & (x <= x2) & (y >= y1) & (y <= y2)
            one = one[((visibility >= 1) & inside).any(dim=1).nonzero().squeeze(1)]
            counts.append(len(one))
        kept.append(one)
    # No image with foreground counts as zero samples; a mean over none would be nan.
    get_event_storage().put_scalar("keypoint_head/num_fg_samples", fmean(counts or [0]))
    return kept


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
        self.num_classes = num_classes
        self.batch_size_per_image = batch_size_per_image
        self.positive_fraction = positive_fraction
        self.proposal_matcher = proposal_matcher
        self.proposal_append_gt = proposal_append_gt

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        heads = cfg.MODEL.ROI_HEADS
        return {
            "num_classes": heads.NUM_CLASSES,
            "batch_size_per_image": heads.BATCH_SIZE_PER_IMAGE,
            "positive_fraction": heads.POSITIVE_FRACTION,
            "proposal_matcher": Matcher(
                heads.IOU_THRESHOLDS, heads.IOU_LABELS, allow_low_quality_matches=False
            ),
            "proposal_append_gt": heads.PROPOSAL_APPEND_GT,
        }

    def _sample_proposals(
        self, matched_idxs: torch.Tensor, matched_labels: torch.Tensor, gt_classes: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Sample the proposals of one image.

        Args:
            matched_idxs: (R,) in [0, G), the object each proposal is matched with.
            matched_labels: (R,), the matcher's label.
            gt_classes: (G,), classes of the objects.

        Returns:
            Indices of the sampled proposals, foreground first, and their class labels.
        """
        if len(gt_classes) > 0:
            labels = gt_classes[matched_idxs]
            labels[matched_labels == 0] = self.num_classes
            labels[matched_labels == -1] = -1
        else:
            labels = torch.full_like(matched_idxs, self.num_classes)
        sampled = torch.cat(
            subsample_labels(
                labels, self.batch_size_per_image, self.positive_fraction, self.num_classes
            )
        )
        return sampled, labels[sampled]

    @torch.no_grad()
    def label_and_sample_proposals(
        self, proposals: list[Instances], targets: list[Instances]
    ) -> list[Instances]:
        """Choose the proposals to train on and give them their targets.

        Args:
            proposals: of each image, with ``proposal_boxes``.
            targets: ground truth of each image, see :meth:`forward`.

        Returns:
            The sampled proposals of each image with ``gt_classes`` in [0, K] and every other
            ``gt_`` field of the object they are matched with (arbitrary for background). An image
            without ground truth has ``gt_classes`` only.
        """
        if self.proposal_append_gt:
            proposals = add_ground_truth_to_proposals(targets, proposals)
        sampled, num_foreground, num_background = [], [], []
        for candidates, truth in zip(proposals, targets, strict=True):
            iou_GR = pairwise_iou(truth.gt_boxes, candidates.proposal_boxes)
            matches, match_labels = self.proposal_matcher(iou_GR)
            chosen, labels = self._sample_proposals(matches, match_labels, truth.gt_classes)
            samples = candidates[chosen]
            samples.gt_classes = labels
            if len(truth) > 0:
                for name, values in truth.get_fields().items():
                    if name.startswith("gt_") and not samples.has(name):
                        samples.set(name, values[matches[chosen]])
            sampled.append(samples)
            num_background.append((labels == self.num_classes).sum().item())
            num_foreground.append(len(labels) - num_background[-1])
        storage = get_event_storage()
        storage.put_scalar("roi_head/num_fg_samples", fmean(num_foreground))
        storage.put_scalar("roi_head/num_bg_samples", fmean(num_background))
        return sampled

    def _training_samples(
        self, proposals: list[Instances], targets: list[Instances] | None
    ) -> list[Instances]:
        if not targets:
            raise ValueError("Training needs ground truth: give every input 'instances'")
        return self.label_and_sample_proposals(proposals, targets)

    def forward(
        self,
        images: ImageList,
        features: Features,
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> tuple[list[Instances], Losses]:
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
        for name in ("pred_boxes", "pred_classes"):
            if not instances[0].has(name):
                raise ValueError(
                    f"Given detections need {name}; they have {list(instances[0].get_fields())}"
                )
