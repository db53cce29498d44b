"""A region proposal network that learns from its sampled anchors alone.

The losses look at 256 anchors of an image, the predictions at all its cells have no gradient, and still the backward pass
of a dense head goes through every cell. Here the head runs over the maps without a graph, for the proposals, and once more,
with a graph, at the cells of the sampled anchors. Losses and gradients are the same up to rounding.

N images, C channels, L maps, A anchors per cell, R anchors of all maps, K sampled anchors of all images.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from maskrcnn_repro.modeling.hooks import is_hooked

import torch
import torch.nn.functional as F
from detectron2.layers import Conv2d
from detectron2.modeling.proposal_generator import RPN, StandardRPNHead
from detectron2.structures import Boxes, ImageList, Instances
from torch import Tensor, nn


class SampledRPN(RPN):
    """Detectron2's RPN, with a graph of the sampled anchors alone while it trains.

    An existing network becomes one by its ``__class__``, if :func:`samples_pay` accepts it.
    """

    def forward(
        self,
        images: ImageList,
        features: dict[str, Tensor],
        gt_instances: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """Return the proposals of each image and, in training, the losses; see ``RPN``."""
        if not self.training or gt_instances is None:
            return super().forward(images, features, gt_instances)
        maps = [features[name] for name in self.in_features]
        anchors = self.anchor_generator(maps)
        with torch.no_grad():
            logits, deltas = self.rpn_head(maps)
        logits = [x.permute(0, 2, 3, 1).flatten(1) for x in logits]
        deltas = [x.permute(0, 2, 3, 1).unflatten(3, (-1, 4)).flatten(1, 3) for x in deltas]
        labels, boxes = self.label_and_sample_anchors(anchors, gt_instances)
        losses = self._sampled_losses(maps, anchors, labels, boxes)
        return self.predict_proposals(anchors, logits, deltas, images.image_sizes), losses

    def _sampled_losses(
        self, maps: list[Tensor], anchors: list[Boxes], labels: list[Tensor], boxes: list[Tensor]
    ) -> dict[str, Tensor]:
        """Return the losses of all anchors that any image has sampled; those of the others have the label -1."""
        image, anchor = (torch.stack(labels) >= 0).nonzero(as_tuple=True)
        logits, deltas = self._predictions(maps, image, anchor)
        union, place = anchor.unique(return_inverse=True)
        dense_logits = logits.new_zeros(len(labels), len(union))
        dense_deltas = deltas.new_zeros(len(labels), len(union), 4)
        return self.losses(
            [Boxes(Boxes.cat(anchors).tensor[union])],
            [dense_logits.index_put((image, place), logits)],
            [label[union] for label in labels],
            [dense_deltas.index_put((image, place), deltas)],
            [box[union] for box in boxes],
        )

    def _predictions(
        self, maps: list[Tensor], image: Tensor, anchor: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the logits (K,) and deltas (K, 4) of anchors.

        Args:
            maps: (N, C, H, W) of each level.
            image: (K,), of each anchor.
            anchor: (K,), its number among the R of an image.
        """
        head: Any = self.rpn_head
        count = head.objectness_logits.out_channels
        cell, which = anchor // count, anchor % count
        patches = torch.cat([*_patches(maps, image, cell)])
        order = torch.cat([*_by_level(maps, cell)])
        weight = head.conv.weight.permute(0, 2, 3, 1).flatten(1)
        hidden = F.relu(F.linear(patches, weight, head.conv.bias))
        logits = F.linear(
            hidden, head.objectness_logits.weight.flatten(1), head.objectness_logits.bias
        )
        deltas = F.linear(hidden, head.anchor_deltas.weight.flatten(1), head.anchor_deltas.bias)
        # Back from the order of the levels.
        rows, which = order.argsort(), which[:, None]
        logits = logits[rows].float().gather(1, which).squeeze(1)
        deltas = deltas[rows].float().unflatten(1, (count, 4))
        return logits, deltas.gather(1, which[..., None].expand(-1, 1, 4)).squeeze(1)


def samples_pay(rpn: nn.Module) -> bool:
    """Tell whether a network is Detectron2's, with one 3x3 convolution and ReLU before its outputs, and a head without hooks."""
    if type(rpn) is not RPN or type(rpn.rpn_head) is not StandardRPNHead:
        return False
    head: Any = rpn.rpn_head
    conv, generator = head.conv, cast(Any, rpn.anchor_generator)
    plain = type(conv) is Conv2d and conv.norm is None and conv.kernel_size == (3, 3)
    plain = plain and isinstance(conv.activation, nn.ReLU) and conv.bias is not None
    return bool(plain) and generator.box_dim == 4 and not is_hooked(*head.modules())


def _by_level(maps: Sequence[Tensor], cell: Tensor) -> list[Tensor]:
    """Return for each level the indices of the anchors that lie on it; cells are counted over all levels."""
    ends = torch.tensor([0] + [x.shape[2] * x.shape[3] for x in maps], device=cell.device).cumsum(0)
    level = torch.searchsorted(ends, cell, right=True) - 1
    return [(level == number).nonzero().squeeze(1) for number in range(len(maps))]


def _patches(maps: Sequence[Tensor], image: Tensor, cell: Tensor) -> list[Tensor]:
    """Return for each level what a 3x3 convolution reads for the anchors on it, (k, 9 * C); zeros beyond the border."""
    around = torch.tensor([-1, 0, 1], device=cell.device)
    patches, first = [], 0
    for level_map, chosen in zip(maps, _by_level(maps, cell), strict=True):
        _, channels, height, width = level_map.shape
        inside = cell[chosen] - first
        y = (inside // width)[:, None, None] + around[:, None]
        x = (inside % width)[:, None, None] + around
        exists = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        row = (image[chosen][:, None, None] * height + y.clamp(0, height - 1)) * width
        row = row + x.clamp(0, width - 1)
        table = level_map.permute(0, 2, 3, 1).reshape(-1, channels)
        cells = table.index_select(0, row.flatten()).view(-1, 9, channels)
        patches.append((cells * exists.view(-1, 9, 1)).flatten(1))
        first += height * width
    return patches
