"""Axis-aligned boxes.

A box is x1, y1, x2, y2 in pixels of the image that the caller means, continuous: pixel (i, j)
covers [i, i + 1] x [j, j + 1], so an image of width W reaches from 0 to W, and the width of a box
is x2 - x1. N, M = numbers of boxes.
"""

from enum import IntEnum, unique
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_area, box_convert, box_iou, clip_boxes_to_image

from detectron2._absent import INSTALL_PAGE, module_getattr

__all__ = ["BoxMode", "Boxes", "pairwise_ioa", "pairwise_iou"]


@unique
class BoxMode(IntEnum):
    """What four numbers say about a box."""

    XYXY_ABS = 0
    """x1, y1, x2, y2 in pixels."""
    XYWH_ABS = 1
    """x1, y1, width, height in pixels, as in COCO's files."""
    XYXY_REL = 2
    """x1, y1, x2, y2 as fractions of the image; cannot be converted."""
    XYWH_REL = 3
    """x1, y1, width, height as fractions of the image; cannot be converted."""
    XYWHA_ABS = 4
    """Centre x and y, width, height, angle of a rotated box; not in the embedded Detectron2."""

    @staticmethod
    def convert(box: Any, from_mode: "BoxMode", to_mode: "BoxMode") -> Any:
        """Return boxes in another mode, in a container of the same type.

        Args:
            box: a list or tuple of four numbers, or an (N, 4) array or tensor; it is not changed.
            from_mode: XYXY_ABS or XYWH_ABS.
            to_mode: XYXY_ABS or XYWH_ABS.

        Raises:
            NotImplementedError: another pair of modes.
        """
        if from_mode == to_mode:
            return box
        formats = {BoxMode.XYXY_ABS: "xyxy", BoxMode.XYWH_ABS: "xywh"}
        if not {from_mode, to_mode} <= formats.keys():
            raise NotImplementedError(
                f"No conversion from {BoxMode(from_mode).name} to {BoxMode(to_mode).name}; rotated "
                f"boxes are in Detectron2 itself ({INSTALL_PAGE})"
            )
        is_single = isinstance(box, list | tuple)
        assert not is_single or len(box) == 4, f"a box has 4 numbers, not {len(box)}: {box}"
        boxes = box_convert(torch.as_tensor(box), formats[from_mode], formats[to_mode])
        if isinstance(box, np.ndarray):
            return boxes.numpy()
        return type(box)(boxes.tolist()) if is_single else boxes


class Boxes:
    """N boxes as an (N, 4) float32 tensor.

    TorchScript compiles this class with an anchor generator: methods keep to its subset of Python.

    Args:
        tensor: (N, 4) x1, y1, x2, y2, a tensor or anything that can become one.
    """

    def __init__(self, tensor: Tensor) -> None:
        # as_tensor would make a constant of a traced tensor.
        tensor = tensor if isinstance(tensor, Tensor) else torch.as_tensor(tensor)
        if tensor.numel() == 0:
            tensor = tensor.reshape(-1, 4)
        assert list(tensor.shape[1:]) == [4], f"boxes are (N, 4), not {tensor.shape}"
        self.tensor = tensor.to(torch.float32)

    def clone(self) -> "Boxes":
        """Return a copy with memory of its own."""
        return Boxes(self.tensor.clone())

    def to(self, device: torch.device) -> "Boxes":
        """Return the boxes on a device; there is no other type than float32."""
        return Boxes(self.tensor.to(device=device))

    @property
    def device(self):
        return self.tensor.device

    def area(self) -> Tensor:
        """Return (N,) areas in square pixels."""
        return box_area(self.tensor)

    def clip(self, box_size: tuple[int, int]) -> None:
        """Move corners that lie outside an image of (height, width) to its border, in place.

        Raises:
            AssertionError: a coordinate is infinite or NaN.
        """
        assert self.tensor.isfinite().all(), "cannot clip boxes with infinite or NaN coordinates"
        self.tensor = clip_boxes_to_image(self.tensor, box_size)

    def nonempty(self, threshold: float = 0.0) -> Tensor:
        """Return (N,) bool: width and height are both above ``threshold``."""
        return (self.tensor[:, 2:] - self.tensor[:, :2] > threshold).all(dim=1)

    def inside_box(self, box_size: tuple[int, int], boundary_threshold: int = 0) -> Tensor:
        """Return (N,) bool: the box lies in an image of (height, width) with a margin around it.

        Args:
            box_size: height, width.
            boundary_threshold: the margin in pixels; its right and lower end do not belong to it.
        """
        height, width = box_size
        x1, y1, x2, y2 = self.tensor.unbind(dim=-1)
        after_start = torch.minimum(x1, y1) >= -boundary_threshold
        return after_start & (x2 < width + boundary_threshold) & (y2 < height + boundary_threshold)

    def get_centers(self) -> Tensor:
        """Return (N, 2) x, y."""
        return self.tensor.reshape(-1, 2, 2).mean(dim=1)

    def scale(self, scale_x: float, scale_y: float) -> None:
        """Multiply the coordinates, in place."""
        for axis, factor in enumerate([scale_x, scale_y]):
            self.tensor[:, axis::2] *= factor

    @classmethod
    def cat(cls, boxes_list: list["Boxes"]) -> "Boxes":
        """Return all boxes of a list in one object, a copy; an empty list gives no boxes."""
        tensors = [boxes.tensor for boxes in boxes_list]
        return cls(torch.cat(tensors) if len(tensors) > 0 else torch.empty(0))

    def __getitem__(self, item) -> "Boxes":
        """Return the boxes at an integer, a slice, or a vector of indices or bools."""
        chosen = self.tensor[item]
        return Boxes(chosen[None] if isinstance(item, int) else chosen)

    def __len__(self) -> int:
        return len(self.tensor)

    @torch.jit.unused
    def __iter__(self):
        """Give one (4,) tensor after the other."""
        return iter(self.tensor)

    def __repr__(self) -> str:
        return f"Boxes({self.tensor})"


def pairwise_intersection(boxes1: Boxes, boxes2: Boxes) -> Tensor:
    """Return (N, M) areas that each of N boxes shares with each of M."""
    first, second = boxes1.tensor[:, None], boxes2.tensor
    start = torch.maximum(first[..., :2], second[:, :2])
    end = torch.minimum(first[..., 2:], second[:, 2:])
    return (end - start).clamp(min=0).prod(dim=2)


def pairwise_iou(boxes1: Boxes, boxes2: Boxes) -> Tensor:
    """Return (N, M) intersections of N with M boxes over their unions; 0 for empty boxes."""
    return box_iou(boxes1.tensor, boxes2.tensor).nan_to_num(0)


def pairwise_ioa(boxes1: Boxes, boxes2: Boxes) -> Tensor:
    """Return (N, M) intersections as fractions of the M second areas; 0 for empty boxes."""
    return (pairwise_intersection(boxes1, boxes2) / boxes2.area()).nan_to_num(0)


__getattr__ = module_getattr(__name__)
