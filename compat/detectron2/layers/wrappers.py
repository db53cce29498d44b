"""Layers and functions of torch with what they lack: norm and activation, empty inputs, tracing."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import BatchNorm2d, ConvTranspose2d, Linear
from torch.nn import functional as F
from torch.nn.functional import interpolate

from detectron2._absent import module_getattr

__all__ = ["Conv2d", "cat", "cross_entropy", "nonzero_tuple", "shapes_to_tensor"]
__all__ += ["BatchNorm2d", "ConvTranspose2d", "Linear", "interpolate"]  # torch's own


class Conv2d(nn.Conv2d):
    """A convolution, followed by a normalization and an activation where given.

    Args:
        *args: as for ``torch.nn.Conv2d``.
        norm: a module applied to the output, or None.
        activation: a function applied after it, or None.
        **kwargs: as for ``torch.nn.Conv2d``.
    """

    def __init__(self, *args: Any, norm=None, activation=None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.norm, self.activation = norm, activation

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C_in, H, W) to (N, C_out, H', W')."""
        x = super().forward(x)
        for step in (self.norm, self.activation):
            x = x if step is None else step(x)
        return x


def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Concatenate a list or tuple; a single tensor is returned as it is, without a copy."""
    assert isinstance(tensors, list | tuple), type(tensors)
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors, dim)


def nonzero_tuple(x: Tensor) -> tuple[Tensor, ...]:
    """Return the indices of the elements that are not zero, one vector per dimension."""
    return torch.where(x)


def cross_entropy(input: Tensor, target: Tensor, *, reduction: str = "mean", **kwargs) -> Tensor:
    """As torch's, but the mean over no targets is 0 and has a gradient, where torch's is NaN."""
    if target.numel() or reduction != "mean":
        return F.cross_entropy(input, target, reduction=reduction, **kwargs)
    # Not a new zero: DistributedDataParallel waits for the gradient of every parameter.
    return 0 * input.sum()


def shapes_to_tensor(x: Sequence[int] | Sequence[Tensor], device: Any = None) -> Tensor:
    """Return sizes as a vector; while a model is traced they are tensors and stay variable."""
    sizes = torch.stack(list(x)) if torch.jit.is_tracing() else torch.as_tensor(x)
    return sizes.to(device=device)


__getattr__ = module_getattr(__name__)
