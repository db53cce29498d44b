"""Reproducible pseudo-random weights: every tensor follows from its name, its shape and a seed.

Two programs that are compared (with the embedded and an installed Detectron2, or on two machines) need the
same weights, without a file of hundreds of megabytes. Only raw integers of a bit generator and exact scaling
are used, so that every machine gets the same bits.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn

# Suffix of a norm layer's tensor -> (centre, half width) of its uniform values.
_NORM_RANGES: Mapping[str, tuple[float, float]] = {
    "norm.weight": (1.0, 0.1),
    "norm.bias": (0.0, 0.1),
    "norm.running_mean": (0.0, 0.1),
    "norm.running_var": (1.0, 0.2),
}


def uniform(key: str, count: int) -> np.ndarray:
    """Return ``count`` float32 numbers from [-1, 1) that depend only on ``key``, multiples of 2**-15."""
    # Four numbers per raw integer: models have up to a hundred million.
    # Not hash(), which differs from process to process; little-endian on every machine.
    raw = np.random.PCG64(zlib.crc32(key.encode())).random_raw(-(-count // 4))
    return np.asarray(raw, dtype="<u8").view("<i2")[:count].astype(np.float32) / np.float32(32768)


def values(name: str, shape: Sequence[int], seed: int = 0, gain: float = 1.0) -> np.ndarray:
    """Return the float32 values of the tensor called ``name``.

    Before ``gain``, weights of convolutions and linear layers have the variance of He's initialisation; norm
    layers are close to the identity; other biases are small.
    """
    numbers = uniform(f"{seed}:{name}", math.prod(shape)).reshape(shape)
    for ending, (centre, half_width) in _NORM_RANGES.items():
        if name.endswith(ending):
            return gain * (centre + half_width * numbers)
    if len(shape) < 2:
        return np.float32(0.01 * gain) * numbers
    # Uniform within sqrt(6 / fan_in): the variance is 2 / fan_in.
    return np.float32(gain * math.sqrt(6 / math.prod(shape[1:]))) * numbers


@torch.no_grad()
def fill(model: nn.Module, gains: Mapping[str, float], seed: int = 0) -> None:
    """Overwrite all float tensors of ``model.state_dict()`` with :func:`values`.

    Args:
        model: any model with Detectron2's parameter names.
        gains: part of a tensor's name -> factor on its values; all factors that match are multiplied.
        seed: of the values; another seed gives unrelated weights.
    """
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            gain = math.prod(factor for part, factor in gains.items() if part in name)
            tensor.copy_(torch.from_numpy(values(name, tuple(tensor.shape), seed, gain)))
