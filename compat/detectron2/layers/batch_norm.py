"""Normalization layers and their names.

N = images, C = channels, H, W = height and width in feature cells.
"""

from collections.abc import Callable
from typing import Any

import torch
from fvcore.nn.distributed import differentiable_all_reduce
from torch import Tensor, nn
from torch.nn import functional as F

from detectron2._absent import module_getattr
from detectron2.layers.wrappers import BatchNorm2d
from detectron2.utils import comm


class FrozenBatchNorm2d(nn.Module):
    """Batch normalization whose four vectors are constants: buffers, not parameters.

    The paper freezes batch norm in fine-tuning. Converted Caffe2 weights have the statistics folded into
    ``weight`` and ``bias``; those of the module then stay at what changes nothing.

    Args:
        num_features: C.
        eps: added to the variance.
    """

    _version = 3  # of the state_dict; below 2 it may lack the statistics

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.num_features, self.eps = num_features, eps
        ones = torch.ones(num_features)
        vectors = {
            "weight": ones,
            "bias": 0 * ones,
            "running_mean": 0 * ones,
            "running_var": ones - eps,
        }
        for name, vector in vectors.items():
            self.register_buffer(name, vector)
        self.register_buffer("num_batches_tracked", None)  # a converted layer brings its own

    def forward(self, x: Tensor) -> Tensor:
        """Normalize (N, C, H, W)."""
        if not x.requires_grad:
            vectors = (self.running_mean, self.running_var, self.weight, self.bias)
            return F.batch_norm(x, *vectors, training=False, eps=self.eps)
        # F.batch_norm would keep memory for gradients of weight and bias, which nobody needs.
        factor = self.weight * torch.rsqrt(self.running_var + self.eps)
        shift = self.bias - self.running_mean * factor
        factor, shift = (vector.to(x.dtype)[:, None, None] for vector in (factor, shift))
        return x * factor + shift

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, *args) -> None:
        if (local_metadata.get("version") or 0) < 2:
            state_dict.setdefault(f"{prefix}running_mean", torch.zeros_like(self.running_mean))
            state_dict.setdefault(f"{prefix}running_var", torch.ones_like(self.running_var))
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)

    def extra_repr(self) -> str:
        return f"num_features={self.num_features}, eps={self.eps}"

    @classmethod
    def convert_frozen_batchnorm(cls, module: nn.Module) -> nn.Module:
        """Return ``module`` with every BatchNorm2d and SyncBatchNorm in it frozen.

        A normalization layer itself gives a new module; any other is changed in place and returned.
        """
        return _replace(module, (nn.BatchNorm2d, nn.SyncBatchNorm), cls)

    @classmethod
    def convert_frozenbatchnorm2d_to_batchnorm2d(cls, module: nn.Module) -> nn.Module:
        """The reverse: return ``module`` with BatchNorm2d in place of every FrozenBatchNorm2d."""
        return _replace(module, FrozenBatchNorm2d, nn.BatchNorm2d)


def _replace(
    module: nn.Module, old: type | tuple[type, ...], new: Callable[..., nn.Module]
) -> nn.Module:
    """Replace layers of type ``old`` by ``new(channels, eps)`` with the same vectors."""
    if isinstance(module, old):
        layer = new(module.num_features, module.eps).to(module.running_mean.device)
        for name in ("weight", "bias", "running_mean", "running_var"):
            vector = getattr(module, name)
            if vector is not None:  # weight and bias of a layer without affine part
                getattr(layer, name).data.copy_(vector.detach())
        layer.num_batches_tracked = module.num_batches_tracked
        return layer
    for name, child in module.named_children():
        setattr(module, name, _replace(child, old, new))
    return module


class NaiveSyncBatchNorm(BatchNorm2d):
    """Batch normalization over the images of all processes.

    Args:
        *args: as for BatchNorm2d.
        stats_mode: ``""`` gives every process the same weight and needs images on each; ``"N"`` weighs
            processes by their number of images, which may be 0. Neither looks at differing H and W.
        **kwargs: as for BatchNorm2d.
    """

    def __init__(self, *args: Any, stats_mode: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        assert stats_mode in ("", "N"), stats_mode
        self._stats_mode = stats_mode

    def forward(self, input: Tensor) -> Tensor:
        """Normalize (N, C, H, W)."""
        if not self.training or comm.get_world_size() == 1:
            return super().forward(input)
        x = (
            input.float() if input.dtype == torch.float16 else input
        )  # sums of squares overflow fp16
        mean, mean_square, momentum = self._global_moments(x)
        variance = mean_square - mean.square()
        with torch.no_grad():
            self.running_mean.lerp_(mean, momentum)
            self.running_var.lerp_(variance, momentum)
        factor = self.weight * torch.rsqrt(variance + self.eps)
        shift = self.bias - mean * factor
        return (x * factor[:, None, None] + shift[:, None, None]).to(input.dtype)

    def _global_moments(self, x: Tensor) -> tuple[Tensor, Tensor, Any]:
        """Return mean and mean square per channel over all processes, and the momentum to use."""
        images = len(x)
        if images:
            moments = torch.cat([x.mean(dim=(0, 2, 3)), x.square().mean(dim=(0, 2, 3))])
        else:
            moments = (
                x.new_zeros(2 * x.shape[1]) + x.sum()
            )  # keeps this process in the backward pass
        if self._stats_mode == "":
            assert images > 0, "stats_mode='' needs at least one image on every process"
            mean, mean_square = (differentiable_all_reduce(moments) / comm.get_world_size()).chunk(
                2
            )
            return mean, mean_square, self.momentum
        totals = differentiable_all_reduce(torch.cat([moments * images, x.new_tensor([images])]))
        total_images = totals[-1].detach()
        mean, mean_square = (totals[:-1] / total_images.clamp(min=1)).chunk(2)
        # No image anywhere: leave the running statistics as they are.
        return mean, mean_square, self.momentum * total_images.clamp(max=1)


class LayerNorm(nn.LayerNorm):
    """Normalization over C at every cell of (N, C, H, W)."""

    def __init__(self, normalized_shape: int, eps: float = 1e-6) -> None:
        super().__init__(normalized_shape, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


_NORMS: dict[str, Callable[[int], nn.Module]] = {
    "BN": BatchNorm2d,
    "FrozenBN": FrozenBatchNorm2d,
    "SyncBN": nn.SyncBatchNorm,
    "nnSyncBN": nn.SyncBatchNorm,
    "naiveSyncBN": NaiveSyncBatchNorm,
    "naiveSyncBN_N": lambda channels: NaiveSyncBatchNorm(channels, stats_mode="N"),
    "GN": lambda channels: nn.GroupNorm(32, channels),
    "LN": LayerNorm,
}


def get_norm(norm: str | Callable[[int], nn.Module] | None, out_channels: int) -> nn.Module | None:
    """Return a normalization layer.

    Args:
        norm: BN, FrozenBN, SyncBN, nnSyncBN, naiveSyncBN, naiveSyncBN_N, GN (32 groups) or LN; or a function
            from the number of channels to a module; ``""`` and None mean no layer.
        out_channels: C.

    Raises:
        KeyError: another name.
    """
    if norm is None or norm == "":
        return None
    if isinstance(norm, str):
        if norm not in _NORMS:
            raise KeyError(f"Unknown norm {norm!r}; there are {', '.join(_NORMS)}.")
        norm = _NORMS[norm]
    return norm(out_channels)


__getattr__ = module_getattr(__name__)
