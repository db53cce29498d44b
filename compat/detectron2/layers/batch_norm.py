"""Normalization layers and their names.

N = images, C = channels, H, W = height and width in feature cells.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from fvcore.nn.distributed import differentiable_all_reduce
from torch import Tensor, nn
from torch.nn import functional as F

from detectron2._absent import module_getattr
from detectron2.utils import comm

__all__ = ["FrozenBatchNorm2d", "NaiveSyncBatchNorm", "get_norm"]

_STATISTICS = {"running_mean": 0.0, "running_var": 1.0}
_VECTORS = {"weight": 1.0, "bias": 0.0, **_STATISTICS}


class FrozenBatchNorm2d(nn.Module):
    """Batch normalization whose four vectors are constants: buffers, not parameters.

    The paper freezes batch norm in fine-tuning. Converted Caffe2 weights have the statistics folded
    into ``weight`` and ``bias``; those of the module then stay at what changes nothing.

    Args:
        num_features: C.
        eps: added to the variance.
    """

    _version = 3  # of the state_dict; below 2 it may lack the statistics

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.num_features, self.eps = num_features, eps
        for name, value in _VECTORS.items():
            self.register_buffer(name, torch.full((num_features,), value))
        self.running_var -= eps
        self.register_buffer("num_batches_tracked", None)  # a converted layer brings its own

    def forward(self, x: Tensor) -> Tensor:
        """Normalize (N, C, H, W)."""
        if not x.requires_grad:
            vectors = (self.running_mean, self.running_var, self.weight, self.bias)
            return F.batch_norm(x, *vectors, training=False, eps=self.eps)
        # F.batch_norm would keep memory for gradients of weight and bias, which nobody needs.
        factor = self.weight * torch.rsqrt(self.running_var + self.eps)
        shift = self.bias - self.running_mean * factor
        return x * factor.to(x.dtype)[:, None, None] + shift.to(x.dtype)[:, None, None]

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, *args) -> None:
        if (local_metadata.get("version") or 0) < 2:
            for name, value in _STATISTICS.items():
                state_dict.setdefault(prefix + name, torch.full_like(self.weight, value))
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)

    def extra_repr(self) -> str:
        return f"num_features={self.num_features}, eps={self.eps}"

    @classmethod
    def convert_frozen_batchnorm(cls, module: nn.Module) -> nn.Module:
        """Return ``module`` with every BatchNorm2d and SyncBatchNorm in it frozen.

        A normalization layer itself gives a new module; any other is changed in place and returned.
        """
        if not isinstance(module, nn.BatchNorm2d | nn.SyncBatchNorm):
            for name, child in module.named_children():
                setattr(module, name, cls.convert_frozen_batchnorm(child))
            return module
        frozen = cls(module.num_features, module.eps).to(module.running_mean.device)
        for name in _VECTORS:
            vector = getattr(module, name)
            if vector is not None:  # weight and bias of a layer without affine part
                getattr(frozen, name).copy_(vector.detach())
        frozen.num_batches_tracked = module.num_batches_tracked
        return frozen


class NaiveSyncBatchNorm(nn.BatchNorm2d):
    """Batch normalization over the images of all processes.

    Args:
        *args: as for BatchNorm2d.
        stats_mode: ``""`` gives every process the same weight and needs images on each; ``"N"``
            weighs processes by their number of images, which may be 0. Neither looks at H and W.
        **kwargs: as for BatchNorm2d.
    """

    def __init__(self, *args: Any, stats_mode: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        assert stats_mode in ("", "N"), stats_mode
        self._by_images = stats_mode == "N"

    def forward(self, input: Tensor) -> Tensor:
        """Normalize (N, C, H, W)."""
        if not self.training or comm.get_world_size() == 1:
            return super().forward(input)
        assert self._by_images or len(input), "stats_mode='' needs an image on every process"
        x = input.float() if input.dtype == torch.float16 else input  # squares overflow fp16
        # Sums, not means: those of no image are 0, and this process stays in the backward pass.
        sums = torch.cat([values.sum(dim=(0, 2, 3)) for values in (x, x.square())])
        moments = sums / max(x[:, 0].numel(), 1)
        weight = x.new_tensor([len(x) if self._by_images else 1])
        totals = differentiable_all_reduce(torch.cat([moments * weight, weight]))
        total_weight = totals[-1].detach()
        mean, mean_square = (totals[:-1] / total_weight.clamp(min=1)).chunk(2)
        variance = mean_square - mean.square()
        with torch.no_grad():
            momentum = self.momentum * total_weight.clamp(max=1)  # 0 if nobody has an image
            self.running_mean.lerp_(mean, momentum)
            self.running_var.lerp_(variance, momentum)
        factor = self.weight * torch.rsqrt(variance + self.eps)
        shift = self.bias - mean * factor
        return (x * factor[:, None, None] + shift[:, None, None]).to(input.dtype)


class LayerNorm(nn.LayerNorm):
    """Normalization over C at every cell of (N, C, H, W)."""

    def __init__(self, normalized_shape: int, eps: float = 1e-6) -> None:
        super().__init__(normalized_shape, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


_NORMS: dict[str, Callable[[int], nn.Module]] = {
    "BN": nn.BatchNorm2d,
    "FrozenBN": FrozenBatchNorm2d,
    "SyncBN": nn.SyncBatchNorm,
    "nnSyncBN": nn.SyncBatchNorm,
    "naiveSyncBN": NaiveSyncBatchNorm,
    "naiveSyncBN_N": functools.partial(NaiveSyncBatchNorm, stats_mode="N"),
    "GN": functools.partial(nn.GroupNorm, 32),
    "LN": LayerNorm,
}


def get_norm(norm: str | Callable[[int], nn.Module] | None, out_channels: int) -> nn.Module | None:
    """Return a normalization layer.

    Args:
        norm: BN, FrozenBN, SyncBN, nnSyncBN, naiveSyncBN, naiveSyncBN_N, GN (32 groups) or LN; or a
            function from the number of channels to a module; ``""`` and None mean no layer.
        out_channels: C.

    Raises:
        KeyError: another name.
    """
    if not norm:
        return None
    if isinstance(norm, str) and norm not in _NORMS:
        raise KeyError(f"Unknown norm {norm!r}; there are {', '.join(_NORMS)}.")
    return _NORMS.get(norm, norm)(out_channels)


__getattr__ = module_getattr(__name__)
