"""What the DensePose head predicts of detections, and what that says of the pixels of their boxes.

Letters: R detections, K charts and the background, D classes of the coarse segmentation, S side of the maps in cells,
h, w = height and width of a box in whole pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from maskrcnn_repro.data.densepose.surface import Mirror

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class SurfaceMaps:
    """Maps over the boxes of detections, a field of Detectron2's ``Instances``."""

    coarse: Tensor
    """(R, D, S, S) logits: body or background, or parts of the body."""
    fine: Tensor
    """(R, K, S, S) logits of charts; the first is the background."""
    u: Tensor
    """(R, K, S, S) coordinates in each chart, in [0, 1] where they are right."""
    v: Tensor

    @property
    def side(self) -> int:
        """S."""
        return int(self.u.shape[-1])

    def tensors(self) -> list[Tensor]:
        """Return the four maps."""
        return [getattr(self, field.name) for field in fields(self)]

    def __len__(self) -> int:
        return len(self.u)

    def __getitem__(self, item: int | slice | Tensor) -> SurfaceMaps:
        if isinstance(item, int):
            item = slice(item, item + 1 or None)
        return SurfaceMaps(*(tensor[item] for tensor in self.tensors()))

    def to(self, *args: Any, **kwargs: Any) -> SurfaceMaps:
        """Return the same on a device."""
        return SurfaceMaps(*(tensor.to(*args, **kwargs) for tensor in self.tensors()))

    def split(self, counts: Sequence[int]) -> list[SurfaceMaps]:
        """Return those of each image, of so many detections."""
        parts = zip(*(tensor.split(list(counts)) for tensor in self.tensors()), strict=True)
        return [SurfaceMaps(*part) for part in parts]

    @staticmethod
    def mean(views: Sequence[SurfaceMaps]) -> SurfaceMaps:
        """Return the mean of the maps of the same detections."""
        kinds = zip(*(view.tensors() for view in views), strict=True)
        return SurfaceMaps(*(sum(maps[1:], maps[0]) / len(maps) for maps in kinds))

    def mirrored(self, mirror: Mirror) -> SurfaceMaps:
        """Return what the maps of a mirrored image say of the image: what is a left arm there is a right one here."""
        coarse, fine, u, v = (maps.flip(dims=[3]) for maps in self.tensors())
        if coarse.shape[1] > 2:
            coarse = coarse[:, mirror.parts[: coarse.shape[1]].tolist()]
        charts = np.broadcast_to(np.arange(u.shape[1])[:, None, None], u.shape)
        # Tables of a mirror end at 0 and 1.
        coordinates = mirror.coordinates(charts, *(x.clamp(0, 1).cpu().numpy() for x in (u, v)))
        fine, u, v = (
            torch.as_tensor(maps, dtype=fine.dtype, device=fine.device)[:, mirror.charts.tolist()]
            for maps in (fine, *coordinates)
        )
        return SurfaceMaps(coarse, fine, u, v)

    def surfaces(self, boxes: Tensor) -> list[Tensor]:
        """Return chart, u and v of the pixels of each box, (3, h, w) uint8; coordinates are in 255ths.

        Args:
            boxes: (R, 4) xyxy in pixels of the image; their fractions are cut off, and none is narrower than a pixel.
        """
        sizes = (boxes[:, 2:] - boxes[:, :2]).long().clamp(min=1).tolist()
        return [self[k]._surface(height, width) for k, (width, height) in enumerate(sizes)]

    def _surface(self, height: int, width: int) -> Tensor:
        coarse, fine, u, v = (
            F.interpolate(maps, (height, width), mode="bilinear", align_corners=False)[0]
            for maps in self.tensors()
        )
        chart = fine.argmax(dim=0) * (coarse.argmax(dim=0) > 0)
        both = torch.stack([maps.gather(0, chart[None])[0] for maps in (u, v)])
        quantised = (both * (chart > 0) * 255).clamp(0, 255)
        return torch.cat([chart[None].byte(), quantised.byte()])
