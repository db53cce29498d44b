"""The norm of all gradients of an optimiser, computed once a step for all who ask."""

from __future__ import annotations

import weakref
from collections.abc import Iterator

import torch
from torch import nn


class GradientNorm:
    """The norm over all gradients together.

    Args:
        optimizer: its parameters count.
        norm_type: order of the norm.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, norm_type: float = 2.0) -> None:
        self._groups = optimizer.param_groups
        self._type = norm_type
        self._kept: torch.Tensor | None = None

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yield the optimiser's parameters."""
        return (parameter for group in self._groups for parameter in group["params"])

    def measure(self) -> torch.Tensor:
        """Return the norm of the gradients that are there, a scalar, and keep it for :meth:`take`."""
        gradients = [p.grad for p in self.parameters() if p.grad is not None]
        self._kept = nn.utils.get_total_norm(gradients, self._type)
        return self._kept

    def take(self) -> torch.Tensor:
        """Return the norm measured in this step, which the gradients must not have left since, or measure it."""
        norm = self.measure() if self._kept is None else self._kept
        self._kept = None
        return norm


_NORMS: weakref.WeakKeyDictionary[torch.optim.Optimizer, GradientNorm] = weakref.WeakKeyDictionary()


def share_norm(optimizer: torch.optim.Optimizer, norm_type: float) -> GradientNorm:
    """Return the norm of an optimiser that clips by it; :func:`norm_of` returns the same from now on."""
    return _NORMS.setdefault(optimizer, GradientNorm(optimizer, norm_type))


def norm_of(optimizer: torch.optim.Optimizer) -> GradientNorm:
    """Return the norm that the optimiser clips by, or one of its own."""
    return _NORMS.get(optimizer) or GradientNorm(optimizer)
