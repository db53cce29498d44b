"""Masks from RoIs to the image (paper, Section 3.1, inference).

N = instances, M = cells per side of a predicted mask, H, W = image height and width in pixels.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from detectron2._absent import module_getattr

__all__ = ["paste_masks_in_image"]

BYTES_PER_FLOAT = 4
GPU_MEM_LIMIT = 2**30
"""Bytes that one chunk of pasted masks may take on a GPU."""


def paste_masks_in_image(
    masks: Tensor, boxes: Tensor, image_shape: tuple[int, int], threshold: float = 0.5
) -> Tensor:
    """Resize each mask to its box, and paste it into an empty image.

    The value of cell i of a mask lies at (i + 0.5) / M of its box, that of pixel j of the image at j + 0.5;
    between cells values are interpolated, beyond the outer cells they fall to 0.

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
    if len(masks) == 0:
        return masks.new_empty((0, height, width), dtype=torch.uint8)
    boxes = boxes if isinstance(boxes, Tensor) else boxes.tensor
    assert len(boxes) == len(masks), (boxes.shape, masks.shape)

    on_cpu = boxes.device.type == "cpu"
    dtype = torch.bool if threshold >= 0 else torch.uint8
    pasted = torch.zeros(len(masks), height, width, device=boxes.device, dtype=dtype)
    # A CPU is quickest one by one, in the region of the box alone; a GPU with as many as memory permits.
    needed = len(masks) * height * width * BYTES_PER_FLOAT
    chunks = len(masks) if on_cpu else math.ceil(needed / GPU_MEM_LIMIT)
    assert chunks <= len(masks), "one image exceeds mask_ops.GPU_MEM_LIMIT; raise it"
    for chunk in torch.arange(len(masks), device=boxes.device).chunk(chunks):
        values, region = _do_paste_mask(masks[chunk, None], boxes[chunk], height, width, on_cpu)
        values = values >= threshold if threshold >= 0 else (values * 255).to(dtype)
        pasted[(chunk, *region)] = values
    return pasted


def _do_paste_mask(
    masks: Tensor, boxes: Tensor, img_h: int, img_w: int, skip_empty: bool = True
) -> tuple[Tensor, tuple[slice, ...]]:
    """Sample masks at the pixels of an image.

    Args:
        masks: (N, 1, M, M).
        boxes: (N, 4) in pixels.
        img_h: H.
        img_w: W.
        skip_empty: leave out pixels that no box comes near.

    Returns:
        The values (N, h, w), and the slices of rows and columns that they belong to; without ``skip_empty``
        these are all, and the slices an empty tuple.
    """
    rows, columns = slice(0, img_h), slice(0, img_w)
    if skip_empty:
        # One pixel of margin: the outer half cells of a mask reach beyond its box.
        x1, y1 = (boxes[:, :2].amin(dim=0).floor() - 1).clamp(min=0).int().tolist()
        x2, y2 = (boxes[:, 2:].amax(dim=0).ceil() + 1).int().tolist()
        # Boxes outside the image leave no pixels.
        rows = slice(y1, max(y1, min(y2, img_h)))
        columns = slice(x1, max(x1, min(x2, img_w)))
    y = _sample_positions(rows, boxes[:, 1::2])
    x = _sample_positions(columns, boxes[:, 0::2])
    shape = (len(boxes), y.shape[1], x.shape[1])
    grid = torch.stack([x[:, None, :].expand(shape), y[:, :, None].expand(shape)], dim=3)
    masks = masks if masks.is_floating_point() else masks.float()
    values = F.grid_sample(masks, grid.to(masks.dtype), align_corners=False)
    return values[:, 0], (rows, columns) if skip_empty else ()


def _sample_positions(pixels: slice, ends: Tensor) -> Tensor:
    """Return where pixel centres lie in boxes along one axis: -1 at the start, 1 at the end.

    Args:
        pixels: range of P pixels.
        ends: (N, 2) start and end of each box.

    Returns:
        (N, P).
    """
    centres = torch.arange(pixels.start, pixels.stop, device=ends.device, dtype=torch.float32) + 0.5
    start, end = ends[:, :1], ends[:, 1:]
    return (centres - start) / (end - start) * 2 - 1


__getattr__ = module_getattr(__name__)
