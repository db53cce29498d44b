"""Residual stages and heads whose activations are computed again in the backward pass, and not kept until then.

Letters: N images, R RoIs, C channels, P side of a pooled RoI in cells, m that of a mask.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from detectron2.layers import CNNBlockBase
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.utils.checkpoint import checkpoint


class CheckpointedStage(nn.Sequential):
    """The blocks of a stage, of which autograd keeps the input alone.

    An existing stage becomes one by its ``__class__``. In evaluation, and where nothing learns, it is the plain one.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) as the blocks do, one after another."""
        return _checkpointed(self, super().forward, x)


ROIS_AT_ONCE = 32
"""RoIs whose activations in a head are held at the same time: 128 of the paper's mask head take 0.5 GB."""


class CheckpointedLayers(nn.Module):
    """What a mask or keypoint head becomes by its ``__class__``: of its layers, autograd keeps the input alone."""

    def layers(self, *rois: torch.Tensor, **options: Any) -> Any:
        """Map pooled RoIs (R, C, P, P) to logits (R, C, m, m), one or several of each, as the head does."""
        layers = partial(super().layers, **options)  # type: ignore[misc]
        counts_rois = any(isinstance(module, _BatchNorm) for module in self.modules())
        whole = counts_rois or not len(rois[0])
        parts = [rois] if whole else zip(*(x.split(ROIS_AT_ONCE) for x in rois), strict=True)
        logits = [_checkpointed(self, layers, *part) for part in parts]
        if isinstance(logits[0], torch.Tensor):
            return torch.cat(logits)
        return tuple(torch.cat(kind) for kind in zip(*logits, strict=True))


def _checkpointed(module: nn.Module, function: Any, *inputs: torch.Tensor) -> Any:
    """Return ``function(*inputs)``; in evaluation, and where nothing learns, there is nothing to keep."""
    learns = any(parameter.requires_grad for parameter in module.parameters())
    if not (module.training and torch.is_grad_enabled() and learns):
        return function(*inputs)
    return checkpoint(
        function,
        *inputs,
        use_reentrant=False,
        context_fn=lambda: (nullcontext(), _without_statistics(module)),
    )


def checkpoint_stages(model: nn.Module) -> int:
    """Checkpoint in place what is worth it; return the number of parts.

    These are all stages of residual blocks, that of a C4 head included, and mask and keypoint heads with convolutions.
    """
    stages = [
        module
        for module in model.modules()
        if type(module) is nn.Sequential and len(module)
        if all(isinstance(block, CNNBlockBase) for block in module)
    ]
    for stage in stages:
        stage.__class__ = CheckpointedStage
    roi_heads = getattr(model, "roi_heads", None)
    heads = [getattr(roi_heads, f"{name}_head", None) for name in ("mask", "keypoint")]
    with_layers = [head for head in heads if hasattr(head, "layers")]
    for head in with_layers:
        kind = type(head)
        head.__class__ = type(f"Checkpointed{kind.__name__}", (CheckpointedLayers, kind), {})
    return len(stages) + len(with_layers)


def kept_activations(model: nn.Module) -> list[str]:
    """Return the names of heads with convolutions that :func:`checkpoint_stages` leaves as they are."""
    roi_heads = getattr(model, "roi_heads", None) or nn.Module()
    heads = {f"roi_heads.{name}": head for name, head in roi_heads.named_children()}
    heads |= {name: head for name, head in model.named_children() if name == "sem_seg_head"}
    kinds = (CheckpointedStage, CheckpointedLayers)
    return [
        name
        for name, head in heads.items()
        if any(isinstance(module, _ConvNd) for module in head.modules())
        and not any(isinstance(module, kinds) for module in head.modules())
    ]


@contextmanager
def _without_statistics(stage: nn.Module) -> Iterator[None]:
    """Keep batch norm from counting the same maps twice."""
    norms: list[Any] = [
        norm
        for norm in stage.modules()
        if isinstance(norm, _BatchNorm) and norm.track_running_stats
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
