"""Residual stages whose activations are computed again in the backward pass, and not kept until then."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from detectron2.layers import CNNBlockBase
from torch import nn
from torch.utils.checkpoint import checkpoint


class CheckpointedStage(nn.Sequential):
    """The blocks of a stage, of which autograd keeps the input alone.

    An existing stage becomes one by its ``__class__``. In evaluation, and where nothing learns, it is the plain one.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) as the blocks do, one after another."""
        learns = any(parameter.requires_grad for parameter in self.parameters())
        if not (self.training and torch.is_grad_enabled() and learns):
            return super().forward(x)
        return checkpoint(
            super().forward,
            x,
            use_reentrant=False,
            preserve_rng_state=False,
            context_fn=lambda: (nullcontext(), _without_statistics(self)),
        )


def checkpoint_stages(model: nn.Module) -> int:
    """Checkpoint, in place, every stage of residual blocks, that of a C4 head included; return their number."""
    stages = [
        module
        for module in model.modules()
        if type(module) is nn.Sequential and len(module)
        if all(isinstance(block, CNNBlockBase) for block in module)
    ]
    for stage in stages:
        stage.__class__ = CheckpointedStage
    return len(stages)


@contextmanager
def _without_statistics(stage: nn.Module) -> Iterator[None]:
    """Keep batch norm from counting the same maps twice."""
    norms: list[Any] = [
        norm
        for norm in stage.modules()
        if isinstance(norm, nn.BatchNorm2d | nn.SyncBatchNorm) and norm.track_running_stats
    ]
    kept = [(norm.momentum, norm.num_batches_tracked.clone()) for norm in norms]
    try:
        for norm in norms:
            norm.momentum = 0.0
        yield
    finally:
        for norm, (momentum, count) in zip(norms, kept, strict=True):
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(count)
