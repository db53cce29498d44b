"""Keypoints, and their one-hot targets and predictions on a grid (paper, Section 5).

N = instances or RoIs, K = keypoints per instance, S = cells per side of a heatmap.
Positions are pixels of the image, continuous: cell i of a heatmap covers [i, i + 1) of S, its value
lies at i + 0.5.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from detectron2._absent import module_getattr
from detectron2.structures._per_instance import PerInstanceTensor

__all__ = ["Keypoints", "heatmaps_to_keypoints"]


class Keypoints(PerInstanceTensor):
    """Annotated keypoints of N instances.

    Args:
        keypoints: (N, K, 3) x, y, visibility, which is 0: not annotated, 1: hidden, 2: visible.
    """

    def __init__(self, keypoints: Tensor | np.ndarray | Sequence) -> None:
        self.tensor = torch.as_tensor(keypoints, dtype=torch.float32)
        shape = tuple(self.tensor.shape)
        assert shape[2:] == (3,), f"keypoints are (N, K, 3), not {shape}"

    def to_heatmap(self, boxes: Tensor, heatmap_size: int) -> tuple[Tensor, Tensor]:
        """Return the cell of each keypoint in a grid over its box.

        Args:
            boxes: (N, 4) x1, y1, x2, y2.
            heatmap_size: S.

        Returns:
            (N, K) int64 cells, row * S + column, 0 where not valid; and (N, K) int64, 1 where the
            keypoint is annotated and lies in the box. The right and lower edge belong to the last
            cell.
        """
        positions, annotated = self.tensor[..., :2], self.tensor[..., 2] > 0
        start, end = boxes[:, None, :2], boxes[:, None, 2:]
        cells = ((positions - start) * (heatmap_size / (end - start))).floor().long()
        cells[positions == end] = heatmap_size - 1
        inside = ((cells >= 0) & (cells < heatmap_size)).all(dim=-1)
        valid = (inside & annotated).long()
        return (cells[..., 1] * heatmap_size + cells[..., 0]) * valid, valid


def heatmaps_to_keypoints(maps: Tensor, rois: Tensor) -> Tensor:
    """Return where each heatmap is highest, at the resolution of the image.

    Args:
        maps: (N, K, S, S) logits.
        rois: (N, 4) x1, y1, x2, y2.

    Returns:
        (N, K, 4) x, y, logit, score. The score is the softmax over the S x S cells, continued to
        the resolution of the image: comparable between small and large RoIs, and possibly above 1.
    """
    result = maps.new_zeros(len(rois), maps.shape[1], 4)
    sides = (rois[:, 2:] - rois[:, :2]).clamp(min=1)  # width, height
    pixels = sides.ceil()
    for i, (width, height) in enumerate(pixels.int().tolist()):
        resized = F.interpolate(maps[i, None], size=(height, width), mode="bicubic")
        logit, best = resized[0].flatten(1).max(dim=1)
        cell = torch.stack([best % width, best // width], dim=1)
        result[i, :, :2] = (cell + 0.5) * (sides[i] / pixels[i]) + rois[i, :2]
        result[i, :, 2] = logit
        # exp(a - m) / sum(exp(b - m)) is the same for every m; the largest avoids overflow.
        result[i, :, 3] = 1 / (maps[i].flatten(1) - logit[:, None]).exp().sum(dim=1)
    return result


__getattr__ = module_getattr(__name__)
