"""Data parallelism: gradients that all processes share in training, and buffers before an evaluation."""

from __future__ import annotations

import torch.distributed as dist
from detectron2.utils import comm
from torch import nn
from torch.nn.parallel import DistributedDataParallel


def distributed(model: nn.Module) -> nn.Module:
    """Wrap ``model`` if there are several processes; Detectron2's own wrapper cannot use the CPU."""
    if comm.get_world_size() == 1:
        return model
    device = next(model.parameters()).device
    return DistributedDataParallel(model, device_ids=[device] if device.type == "cuda" else None)


def sync_buffers(model: nn.Module) -> None:
    """Give all processes the main one's buffers (batch-norm statistics), which a checkpoint holds.

    Each has gathered its own since the last step began, and an evaluation by several would mix them.
    """
    if comm.get_world_size() > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)
