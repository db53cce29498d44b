"""Axis-aligned boxes.

A box is x1, y1, x2, y2 in pixels of the image that the caller means, continuous: pixel (i, j) covers
[i, i + 1] x [j, j + 1], so an image of width W reaches from 0 to W, and the width of a box is x2 - x1.
N, M = numbers of boxes.
"""

from enum import IntEnum, unique
from typing import Any

import numpy as np
import torch
from torch import Tensor

from detectron2._absent import INSTALL_PAGE, module_getattr


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
            box: a list or tuple of four numbers, or an (N, 4) array or tensor, which is not changed.
            from_mode: XYXY_ABS or XYWH_ABS.
            to_mode: XYXY_ABS or XYWH_ABS.

        Raises:
            NotImplementedError: another pair of modes.
        """
        if from_mode == to_mode:
            return box
        from_mode, to_mode = BoxMode(from_mode), BoxMode(to_mode)
        if not {from_mode, to_mode} <= {BoxMode.XYXY_ABS, BoxMode.XYWH_ABS}:
            raise NotImplementedError(
                f"No conversion from {from_mode.name} to {to_mode.name}; rotated boxes are in "
                f"Detectron2 itself ({INSTALL_PAGE})"
            )
        if isinstance(box, list | tuple):
            assert len(box) == 4, f"a box has 4 numbers, not {len(box)}: {box}"
            # float32, as everywhere else; whole numbers stay so.
            return type(box)(BoxMode.convert(torch.tensor(box), from_mode, to_mode).tolist())
        start, rest = box[..., :2], box[..., 2:]
        rest = rest + start if to_mode == BoxMode.XYXY_ABS else rest - start
        return (
            torch.cat([start, rest], -1)
            if isinstance(box, Tensor)
            else np.concatenate([start, rest], -1)
        )


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
        """Where the tensor is."""
        return self.tensor.device

    def area(self) -> Tensor:
        """Return (N,) areas in square pixels."""
        return self._sides().prod(dim=1)

    def _sides(self) -> Tensor:
        """Return (N, 2) widths and heights."""
        return self.tensor[:, 2:] - self.tensor[:, :2]

    def clip(self, box_size: tuple[int, int]) -> None:
        """Move corners that lie outside an image of (height, width) to its border; changes this object.

        Raises:
            AssertionError: a coordinate is infinite or NaN.
        """
        assert self.tensor.isfinite().all(), "cannot clip boxes with infinite or NaN coordinates"
        height, width = box_size
        xs = self.tensor[:, 0::2].clamp(min=0, max=width)
        ys = self.tensor[:, 1::2].clamp(min=0, max=height)
        self.tensor = torch.stack((xs, ys), dim=2).flatten(1)

    def nonempty(self, threshold: float = 0.0) -> Tensor:
        """Return (N,) bool: width and height are both above ``threshold``."""
        return (self._sides() > threshold).all(dim=1)

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
        return (self.tensor[:, :2] + self.tensor[:, 2:]) / 2

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
        if isinstance(item, int):
            chosen = chosen[None]
        assert chosen.dim() == 2, f"indexing boxes with {item} gives {chosen.shape}, not (N, 4)"
        return Boxes(chosen)

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
    first, second = boxes1.tensor[:, None], boxes2.tensor[None]
    sides = torch.minimum(first[..., 2:], second[..., 2:]) - torch.maximum(
        first[..., :2], second[..., :2]
    )
    return sides.clamp(min=0).prod(dim=2)


def _share(part: Tensor, whole: Tensor) -> Tensor:
    """Return ``part / whole``, and 0 for an empty part of an empty whole."""
    return torch.where(part > 0, part / whole, torch.zeros_like(part))


def pairwise_iou(boxes1: Boxes, boxes2: Boxes) -> Tensor:
    """Return (N, M) intersection over union of each of N boxes with each of M; 0 for empty boxes."""
    shared = pairwise_intersection(boxes1, boxes2)
    return _share(shared, boxes1.area()[:, None] + boxes2.area() - shared)


def pairwise_ioa(boxes1: Boxes, boxes2: Boxes) -> Tensor:
    """Return (N, M) intersections as fractions of the M areas of the second boxes."""
    return _share(pairwise_intersection(boxes1, boxes2), boxes2.area())


def matched_pairwise_iou(boxes1: Boxes, boxes2: Boxes) -> Tensor:
    """Return (N,) intersection over union of N boxes, each with its partner among N others."""
    assert len(boxes1) == len(boxes2), f"{len(boxes1)} boxes cannot be paired with {len(boxes2)}"
    first, second = boxes1.tensor, boxes2.tensor
    sides = torch.minimum(first[:, 2:], second[:, 2:]) - torch.maximum(first[:, :2], second[:, :2])
    shared = sides.clamp(min=0).prod(dim=1)
    return shared / (boxes1.area() + boxes2.area() - shared)


def pairwise_point_box_distance(points: Tensor, boxes: Boxes) -> Tensor:
    """Return how far N points lie inside the four edges of M boxes.

    Args:
        points: (N, 2) x, y.
        boxes: M of them.

    Returns:
        (N, M, 4) distances from left, top, right and bottom edge, all positive inside the box.
    """
    points, corners = points[:, None], boxes.tensor[None]
    return torch.cat([points - corners[..., :2], corners[..., 2:] - points], dim=2)


__getattr__ = module_getattr(__name__)
