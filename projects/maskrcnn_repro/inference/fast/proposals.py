"""A region proposal network that decodes only the boxes it may propose.

N images, C channels, A anchors per cell, k boxes of a level that reach NMS.
"""

from __future__ import annotations

from typing import Any

from maskrcnn_repro.inference.fast.layers import FusedConv

import torch
from detectron2.modeling.proposal_generator import RPN
from detectron2.modeling.proposal_generator.proposal_utils import find_top_rpn_proposals
from detectron2.structures import ImageList, Instances
from torch import Tensor, nn


class FastRPN(nn.Module):
    """Proposes what the ``RPN`` it is made of proposes.

    Args:
        rpn: of Detectron2, with a ``StandardRPNHead``.
        hidden: its head's 3x3 convolutions, fused with ReLU.
        outputs: its two 1x1 convolutions as one: A channels of logits, then A * 4 of deltas.
    """

    def __init__(self, rpn: RPN, hidden: nn.Module, outputs: FusedConv) -> None:
        super().__init__()
        self.in_features, self.anchor_generator = rpn.in_features, rpn.anchor_generator
        self.box2box_transform = rpn.box2box_transform
        self.pre_nms_topk, self.post_nms_topk = rpn.pre_nms_topk[False], rpn.post_nms_topk[False]
        self.nms_thresh, self.min_box_size = rpn.nms_thresh, rpn.min_box_size
        self.hidden, self.outputs = hidden, outputs
        self._anchors: tuple[Any, list[Tensor]] = (None, [])

    def forward(
        self, images: ImageList, features: dict[str, Tensor], gt_instances: None = None
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """Return the proposals of each image, best first, and no losses; see ``RPN``."""
        maps = [features[name] for name in self.in_features]
        levels = zip(maps, self._anchors_of(maps), strict=True)
        boxes, logits = zip(*(self._best(*level) for level in levels), strict=True)
        limits = (self.nms_thresh, self.pre_nms_topk, self.post_nms_topk, self.min_box_size, False)
        return find_top_rpn_proposals([*boxes], [*logits], images.image_sizes, *limits), {}

    def _best(self, level_map: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor]:
        """Return the boxes (N, k, 4) of the best anchors of a map (N, C, H, W), and their logits (N, k)."""
        predicted = self.outputs(self.hidden(level_map)).permute(0, 2, 3, 1)  # (N, H, W, A * 5)
        count = predicted.shape[3] // 5
        logits = predicted[..., :count].float().flatten(1)
        logits, best = logits.topk(min(self.pre_nms_topk, logits.shape[1]), dim=1)
        deltas = predicted[..., count:].unflatten(3, (count, 4)).flatten(1, 3)
        images = torch.arange(len(best))[:, None]
        chosen = deltas[images, best].float().flatten(0, 1)
        boxes = self.box2box_transform.apply_deltas(chosen, anchors[best.flatten()])
        return boxes.view(*best.shape, 4), logits

    def _anchors_of(self, maps: list[Tensor]) -> list[Tensor]:
        """Return the anchors of each map, (H * W * A, 4); those of the last size are kept."""
        sizes = [tuple(level_map.shape[2:]) for level_map in maps]
        if self._anchors[0] != sizes:
            made = self.anchor_generator([level_map[:1, :1].float() for level_map in maps])
            self._anchors = (sizes, [boxes.tensor for boxes in made])
        return self._anchors[1]
