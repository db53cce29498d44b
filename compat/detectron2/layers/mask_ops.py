"""Masks from RoIs to the image (paper, Section 3.1, inference).

N = instances, M = cells per side of a predicted mask, H, W = image height and width in pixels.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from detectron2._absent import module_getattr

__all__ = ["paste_masks_in_image"]


def paste_masks_in_image(
    masks: Tensor, boxes: Tensor, image_shape: tuple[int, int], threshold: float = 0.5
) -> Tensor:
    """Resize each mask to its box, and paste it into an empty image.

    The value of cell i of a mask lies at (i + 0.5) / M of its box, that of pixel j of the image at
    j + 0.5; between cells values are interpolated, beyond the outer cells they fall to 0.

    Args:
        masks: (N, M, M) in [0, 1].
        boxes: (N, 4) x1, y1, x2, y2 in pixels of the image, or Boxes.
        image_shape: H, W.
        threshold: values from here on belong to the object; if negative, they are returned instead.

    Returns:
        (N, H, W), bool; uint8 from 0 to 255 for a negative threshold.
    """
    assert masks.shape[-1] == masks.shape[-2], f"masks must be square, not {tuple(masks.shape)}"
    height, width = image_shape
    boxes = boxes if isinstance(boxes, Tensor) else boxes.tensor
    masks = masks if masks.is_floating_point() else masks.float()
    dtype = torch.bool if threshold >= 0 else torch.uint8
    pasted = torch.zeros(len(masks), height, width, device=boxes.device, dtype=dtype)
    # One pixel of margin: the outer half cells of a mask reach beyond its box.
    start = (boxes[:, :2].floor() - 1).clamp(min=0)
    end = (boxes[:, 2:].ceil() + 1).minimum(boxes.new_tensor([width, height]))
    regions = torch.cat([start, end.maximum(start)], dim=1).int().tolist()
    for image, mask, box, (x1, y1, x2, y2) in zip(pasted, masks, boxes, regions, strict=True):
        x, y = _sample_positions(x1, x2, box[0::2]), _sample_positions(y1, y2, box[1::2])
        grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=2).to(mask.dtype)
        values = F.grid_sample(mask[None, None], grid[None], align_corners=False)[0, 0]
        values = values >= threshold if threshold >= 0 else (values * 255).to(dtype)
        image[y1:y2, x1:x2] = values
    return pasted


def _sample_positions(first: int, stop: int, ends: Tensor) -> Tensor:
    """Return where pixel centres lie between the ends of a box: -1 at its start, 1 at its end."""
    centres = torch.arange(first, stop, device=ends.device, dtype=torch.float32) + 0.5
    start, end = ends
    return (centres - start) / (end - start) * 2 - 1


__getattr__ = module_getattr(__name__)
