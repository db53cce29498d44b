"""Layers and functions of torch with what they lack: norm and activation, empty inputs, tracing."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detectron2._absent import module_getattr

BatchNorm2d = nn.BatchNorm2d
ConvTranspose2d = nn.ConvTranspose2d
Linear = nn.Linear
interpolate = F.interpolate


class Conv2d(nn.Conv2d):
    """A convolution, followed by a normalization and an activation where given.

    Args:
        *args: as for ``torch.nn.Conv2d``.
        norm: a module applied to the output, or None.
        activation: a function applied after it, or None.
        **kwargs: as for ``torch.nn.Conv2d``.
    """

    def __init__(
        self,
        *args: Any,
        norm: nn.Module | None = None,
        activation: Callable[[Tensor], Tensor] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.norm = norm
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C_in, H, W) to (N, C_out, H', W')."""
        if self.training and isinstance(self.norm, nn.SyncBatchNorm):
            assert x.numel() > 0, "SyncBatchNorm cannot train on an empty input"
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
    return x.nonzero(as_tuple=True)


def empty_input_loss_func_wrapper(loss_func: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Wrap a loss: the mean over no targets is 0 and has a gradient, where torch's is NaN."""

    def loss(input: Tensor, target: Tensor, *, reduction: str = "mean", **kwargs: Any) -> Tensor:
        nothing_to_average = reduction == "mean" and target.numel() == 0
        # Multiplied, not a new zero: DistributedDataParallel waits for the gradient of every parameter.
        return (
            0.0 * input.sum()
            if nothing_to_average
            else loss_func(input, target, reduction=reduction, **kwargs)
        )

    return loss


cross_entropy = empty_input_loss_func_wrapper(F.cross_entropy)


def shapes_to_tensor(
    x: Sequence[int] | Sequence[Tensor], device: torch.device | None = None
) -> Tensor:
    """Return sizes as a vector; while a model is traced they are tensors and stay variable."""
    if torch.jit.is_tracing():
        assert all(isinstance(size, Tensor) for size in x), "sizes are tensors while tracing"
        return torch.stack(list(x)).to(device=device)
    return torch.as_tensor(x, device=device)


def move_device_like(src: Tensor, dst: Tensor) -> Tensor:
    """Return ``src`` on the device of ``dst``."""
    return src.to(dst.device)


__getattr__ = module_getattr(__name__)
