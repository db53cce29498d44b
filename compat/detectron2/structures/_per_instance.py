"""What masks and keypoints share."""

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor


class PerInstanceTensor:
    """Base of masks and keypoints: a tensor with one entry per instance in front."""

    tensor: Tensor

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Return the same on another device."""
        return type(self)(self.tensor.to(*args, **kwargs))

    @property
    def device(self) -> torch.device:
        return self.tensor.device

    def __len__(self) -> int:
        return len(self.tensor)

    def __getitem__(self, item: int | slice | Tensor) -> Self:
        """Return the instances at an integer, a slice, or a vector of indices or bools."""
        chosen = self.tensor[item]
        return type(self)(chosen[None] if isinstance(item, int) else chosen)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(num_instances={len(self)})"

    @classmethod
    def cat(cls, parts: Sequence[Self]) -> Self:
        """Return the instances of all objects of a list that is not empty."""
        return cls(torch.cat([part.tensor for part in parts]))
