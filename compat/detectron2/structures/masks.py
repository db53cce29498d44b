"""Masks of the instances of one image: bitmaps, polygons, or small masks within RoIs.

N = instances, H, W = image height and width in pixels, M = cells per side of a mask within a box.
A polygon is a vector x0, y0, x1, y1, ... in continuous pixel coordinates; pixel (i, j) covers
[i, i + 1] x [j, j + 1]. An instance is a list of polygons and covers their union.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import Tensor
from torchvision.ops import masks_to_boxes

from detectron2._absent import module_getattr
from detectron2.layers.mask_ops import paste_masks_in_image
from detectron2.layers.roi_align import ROIAlign
from detectron2.structures._per_instance import PerInstanceTensor
from detectron2.structures.boxes import Boxes
from detectron2.utils.memory import retry_if_cuda_oom

__all__ = ["BitMasks", "PolygonMasks", "ROIMasks", "polygons_to_bitmask"]


def polygon_area(x: np.ndarray, y: np.ndarray) -> float:
    """Return the area within a polygon, given the coordinates of its corners (shoelace formula)."""
    return abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2


def polygons_to_bitmask(polygons: list[np.ndarray], height: int, width: int) -> np.ndarray:
    """Return the (H, W) bool mask that COCO's rasterizer makes of the polygons of one instance."""
    if not polygons:  # pycocotools fails on an empty list
        return np.zeros((height, width), dtype=bool)
    run_lengths = coco_mask.frPyObjects(polygons, height, width)
    return coco_mask.decode(coco_mask.merge(run_lengths)).astype(bool)


def rasterize_polygons_within_box(
    polygons: list[np.ndarray], box: np.ndarray, mask_size: int
) -> Tensor:
    """Return what a box x1, y1, x2, y2 shows of the polygons of one instance: (M, M) bool."""
    cells_per_pixel = mask_size / np.maximum(box[2:] - box[:2], 0.1)  # 0.1: boxes without extent
    corners = [(polygon.reshape(-1, 2) - box[:2]) * cells_per_pixel for polygon in polygons]
    bitmap = polygons_to_bitmask([points.ravel() for points in corners], mask_size, mask_size)
    return torch.from_numpy(bitmap)


class BitMasks(PerInstanceTensor):
    """Masks as bitmaps.

    Args:
        tensor: (N, H, W), a tensor or array; what is not zero belongs to the object.
    """

    def __init__(self, tensor: Tensor | np.ndarray) -> None:
        self.tensor = torch.as_tensor(tensor).to(torch.bool)
        assert self.tensor.dim() == 3, f"bitmasks are (N, H, W), not {tuple(self.tensor.shape)}"
        self.image_size = self.tensor.shape[1:]

    def __iter__(self) -> Iterator[Tensor]:
        """Give one (H, W) mask after the other."""
        return iter(self.tensor)

    def nonempty(self) -> Tensor:
        """Return (N,) bool: the mask has a pixel."""
        return self.tensor.any(dim=(1, 2))

    @staticmethod
    def from_polygon_masks(
        polygon_masks: "PolygonMasks | list[list[np.ndarray]]", height: int, width: int
    ) -> "BitMasks":
        """Rasterize the polygons of N instances in an image of the given size."""
        bitmaps = [polygons_to_bitmask(polygons, height, width) for polygons in polygon_masks]
        return BitMasks(np.stack(bitmaps) if bitmaps else np.zeros((0, height, width)))

    def crop_and_resize(self, boxes: Tensor, mask_size: int) -> Tensor:
        """Return what each box shows of its mask, resized by RoIAlign: training targets.

        Args:
            boxes: (N, 4), one per mask.
            mask_size: M.

        Returns:
            (N, M, M) bool.
        """
        assert len(boxes) == len(self), f"{len(boxes)} boxes for {len(self)} masks"
        index = torch.arange(len(self), device=self.device)[:, None]
        rois = torch.cat([index, boxes.to(self.device)], dim=1)
        pool = ROIAlign((mask_size, mask_size), 1.0, 0)
        return pool(self.tensor[:, None].float(), rois)[:, 0] >= 0.5

    def get_bounding_boxes(self) -> Boxes:
        """Return the tightest boxes, on the CPU; zeros for a mask without pixels."""
        boxes, filled = torch.zeros(len(self), 4), self.nonempty()
        # Older releases of torchvision fail on a mask without pixels; it returns the last pixel, not its end.
        boxes[filled.cpu()] = masks_to_boxes(self.tensor[filled]).cpu() + torch.tensor([0, 0, 1, 1])
        return Boxes(boxes)


class PolygonMasks:
    """Masks as polygons; always on the CPU.

    Args:
        polygons: per instance a list of polygons, each a vector of at least three corners.

    Raises:
        ValueError: another nesting, or a polygon with an odd number of coordinates or too few.
    """

    def __init__(self, polygons: list[list[Tensor | np.ndarray | Sequence[float]]]) -> None:
        for value in (polygons, *polygons):
            if not isinstance(value, list):
                message = f"PolygonMasks take lists of polygons, not a {type(value).__name__}."
                raise ValueError(message)  # noqa: TRY004  (Detectron2's type)
        self.polygons = [[_as_array(polygon) for polygon in instance] for instance in polygons]

    def to(self, *args: Any, **kwargs: Any) -> "PolygonMasks":
        """Return this object, whatever the device."""
        return self

    @property
    def device(self) -> torch.device:
        """The CPU."""
        return torch.device("cpu")

    def get_bounding_boxes(self) -> Boxes:
        """Return the tightest boxes, with the right and lower edge at 0 or above."""
        boxes = torch.zeros(len(self), 4)
        boxes[:, :2] = torch.inf  # stays so for an instance without polygons
        for box, polygons in zip(boxes, self.polygons, strict=True):
            if polygons:
                corners = torch.from_numpy(np.concatenate(polygons)).reshape(-1, 2).float()
                box[:2] = corners.amin(dim=0)
                box[2:] = corners.amax(dim=0).clamp(min=0)
        return Boxes(boxes)

    def nonempty(self) -> Tensor:
        """Return (N,) bool: the instance has a polygon."""
        return torch.tensor([len(instance) > 0 for instance in self.polygons], dtype=torch.bool)

    def __getitem__(self, item: int | slice | list[int] | Tensor) -> "PolygonMasks":
        """Return the masks at an integer, a slice, or a list or vector of integers or bools.

        Raises:
            ValueError: a tensor that is neither integer nor bool.
        """
        if isinstance(item, slice):
            return PolygonMasks(self.polygons[item])
        if isinstance(item, Tensor):
            if item.is_floating_point():
                raise ValueError(f"A tensor of {item.dtype} cannot be an index of PolygonMasks.")
            item = (item.nonzero()[:, 0] if item.dtype == torch.bool else item).tolist()
        return PolygonMasks([self.polygons[i] for i in ([item] if isinstance(item, int) else item)])

    def __iter__(self) -> Iterator[list[np.ndarray]]:
        """Give the polygons of one instance after the other."""
        return iter(self.polygons)

    def __len__(self) -> int:
        return len(self.polygons)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(num_instances={len(self)})"

    def crop_and_resize(self, boxes: Tensor, mask_size: int) -> Tensor:
        """Return what each box shows of its mask, rasterized in M x M cells: training targets.

        Args:
            boxes: (N, 4), one per mask.
            mask_size: M.

        Returns:
            (N, M, M) bool, on the device of the boxes.
        """
        assert len(boxes) == len(self), f"{len(boxes)} boxes for {len(self)} masks"
        targets = torch.zeros(len(self), mask_size, mask_size, dtype=torch.bool)
        for i, box in enumerate(boxes.cpu().numpy()):
            targets[i] = rasterize_polygons_within_box(self.polygons[i], box, mask_size)
        return targets.to(boxes.device)

    def area(self) -> Tensor:
        """Return (N,) sums of the polygons' areas in square pixels; overlaps count twice."""
        return torch.tensor(
            [sum(polygon_area(p[0::2], p[1::2]) for p in instance) for instance in self.polygons]
        )

    @staticmethod
    def cat(polymasks_list: Sequence["PolygonMasks"]) -> "PolygonMasks":
        """Return the masks of all objects of a list."""
        return PolygonMasks(list(itertools.chain.from_iterable(polymasks_list)))


def _as_array(polygon: Tensor | np.ndarray | Sequence[float]) -> np.ndarray:
    if len(polygon) % 2 or len(polygon) < 6:
        raise ValueError(
            f"A polygon of {len(polygon)} coordinates; it needs x and y of three corners or more."
        )
    return np.array(polygon.cpu() if isinstance(polygon, Tensor) else polygon, dtype=np.float64)


class ROIMasks(PerInstanceTensor):
    """Masks within RoIs, to be pasted into the image when their boxes are known.

    Args:
        tensor: (N, M, M) scores in [0, 1].

    Raises:
        ValueError: another number of dimensions.
    """

    def __init__(self, tensor: Tensor) -> None:
        if tensor.dim() != 3:
            raise ValueError(f"ROIMasks are (N, M, M), not {tuple(tensor.shape)}.")
        self.tensor = tensor

    def to_bitmasks(
        self, boxes: Boxes, height: int, width: int, threshold: float = 0.5
    ) -> BitMasks:
        """Paste the masks into an image; see :func:`paste_masks_in_image`."""
        paste = retry_if_cuda_oom(paste_masks_in_image)
        return BitMasks(paste(self.tensor, boxes.tensor, (height, width), threshold=threshold))


__getattr__ = module_getattr(__name__)
