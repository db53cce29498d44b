"""Anchors as torchvision's detectors have them, so that their weights mean the same.

Shape legend: L feature maps, A anchors per cell. Boxes are xyxy in pixels of the network's input.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from detectron2.modeling.anchor_generator import ANCHOR_GENERATOR_REGISTRY, DefaultAnchorGenerator
from detectron2.structures import Boxes
from torch import Tensor


@ANCHOR_GENERATOR_REGISTRY.register()
class TorchvisionAnchorGenerator(DefaultAnchorGenerator):
    """Anchors with whole-number corners, at strides that the sizes of the feature maps imply.

    The corners around a cell are rounded to whole pixels. The stride of a map is the size of the padded image
    divided by that of the map, cut to a whole number: of an image of 800 pixels, p6 has 13 cells and a stride
    of 61, where Detectron2 counts 64. The size of the padded image follows from the first map, which divides it.

    Arguments are those of ``DefaultAnchorGenerator``; the first entry of ``strides`` must be exact.
    """

    def generate_cell_anchors(
        self,
        sizes: Sequence[float] = (32, 64, 128, 256, 512),
        aspect_ratios: Sequence[float] = (0.5, 1, 2),
    ) -> Tensor:
        """Return the anchors around (0, 0), (A, 4) float32, sizes varying fastest."""
        root = torch.tensor(aspect_ratios, dtype=torch.float32).sqrt()[:, None]
        size = torch.tensor(sizes, dtype=torch.float32)
        half = torch.stack(((1 / root) * size, root * size), dim=-1).flatten(0, 1) / 2
        return torch.cat((-half, half), dim=1).round()

    def forward(self, features: list[Tensor]) -> list[Boxes]:
        """Return the anchors of each of L feature maps, by cell, row by row, then by anchor."""
        padded = [side * self.strides[0] for side in features[0].shape[-2:]]
        grids = []
        for feature, template in zip(features, self.cell_anchors, strict=True):
            y, x = (
                torch.arange(cells, device=template.device) * (side // cells)
                for side, cells in zip(padded, feature.shape[-2:], strict=True)
            )
            center = torch.cartesian_prod(y, x).flip(1)
            grids.append(Boxes((center.repeat(1, 2)[:, None] + template).reshape(-1, 4)))
        return grids
