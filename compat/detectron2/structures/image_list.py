"""A batch of images of different sizes.

N = images, H, W = height and width of the largest one, after padding.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from detectron2._absent import module_getattr
from detectron2.layers.wrappers import shapes_to_tensor

__all__ = ["ImageList"]


class ImageList:
    """Images padded at the right and bottom to one size.

    Args:
        tensor: (N, ..., H, W).
        image_sizes: (height, width) of each image without padding.
    """

    def __init__(self, tensor: Tensor, image_sizes: list[tuple[int, int]]) -> None:
        self.tensor, self.image_sizes = tensor, image_sizes

    def __len__(self) -> int:
        return len(self.image_sizes)

    def __getitem__(self, idx: int) -> Tensor:
        """Return image ``idx`` (..., height, width) without its padding."""
        height, width = self.image_sizes[idx]
        return self.tensor[idx, ..., :height, :width]

    def to(self, *args: Any, **kwargs: Any) -> "ImageList":
        """Return the images on another device or in another type."""
        return ImageList(self.tensor.to(*args, **kwargs), self.image_sizes)

    @property
    def device(self) -> torch.device:
        return self.tensor.device

    @staticmethod
    def from_tensors(
        tensors: Sequence[Tensor],
        size_divisibility: int = 0,
        pad_value: float = 0.0,
        padding_constraints: dict[str, int] | None = None,
    ) -> "ImageList":
        """Pad images to a common size.

        Args:
            tensors: at least one, each (..., height, width) and equal in the other dimensions.
            size_divisibility: round H and W up to a multiple of this; 0 and 1 do not round.
            pad_value: what the padding is filled with.
            padding_constraints: ``size_divisibility``, which replaces the argument of this name,
                and ``square_size``, which sets H and W when above 0.
        """
        assert tensors, "a batch needs at least one image"
        leading = [image.shape[:-2] for image in tensors]
        assert leading.count(leading[0]) == len(leading), f"images do not fit together: {leading}"
        constraints = padding_constraints or {}
        divisor = max(constraints.get("size_divisibility", size_divisibility), 1)

        # Computed with tensors, so that a traced model takes images of any size.
        sizes = [shapes_to_tensor(image.shape[-2:]) for image in tensors]
        largest = torch.stack(sizes).amax(dim=0)
        if constraints.get("square_size", 0) > 0:
            largest = torch.full_like(largest, constraints["square_size"])
        height, width = (largest + divisor - 1).div(divisor, rounding_mode="floor") * divisor
        padded = [
            F.pad(image, (0, width - image.shape[-1], 0, height - image.shape[-2]), value=pad_value)
            for image in tensors
        ]
        if not torch.jit.is_tracing():
            sizes = [tuple(size.tolist()) for size in sizes]
        return ImageList(torch.stack(padded), sizes)


__getattr__ = module_getattr(__name__)
