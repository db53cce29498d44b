"""Gradients of one update gathered over several parts of a batch, so that few devices train as many do.

A part of a process stands for a process of its own: W processes with A parts each read the images, draw the
random numbers and average the gradients of W * A processes. Part j of process r is process r + j * W there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

from maskrcnn_repro.engine.precision import Bfloat16, scales_losses
from maskrcnn_repro.errors import ConfigError
from maskrcnn_repro.utils.precision import training_precision

import torch
from detectron2.config import CfgNode
from detectron2.engine import AMPTrainer, SimpleTrainer
from torch import nn
from torch.nn.parallel import DistributedDataParallel

logger = logging.getLogger(__name__)


class AccumulatingModel(nn.Module):
    """A model whose losses and gradients are the means over equal parts of its batch.

    The gradients of all parts but the last are there when it returns; those of the last follow with the
    backward pass of the returned losses. Gradients must therefore be cleared before the forward pass.

    Args:
        model: maps images to a dict of scalar losses; perhaps in DistributedDataParallel, which then
            averages over the processes once, with the last part.
        parts: their number, 2 or more.
        seed_part: seeds the random numbers of a part, which is counted from 0.
        scale: multiplies a loss before its backward pass, as a ``GradScaler`` does.
    """

    def __init__(
        self,
        model: nn.Module,
        parts: int,
        *,
        seed_part: Callable[[int], None],
        scale: Callable[[torch.Tensor], torch.Tensor],
    ) -> None:
        super().__init__()
        self.model, self.parts = model, parts
        self.seed_part, self.scale = seed_part, scale

    def forward(self, batch: Sequence[Any]) -> dict[str, torch.Tensor]:
        """Return the mean of each loss over the parts.

        Args:
            batch: the images of all parts, a multiple of their number.
        """
        size = len(batch) // self.parts
        sums: dict[str, torch.Tensor] = {}
        for part in range(self.parts):
            losses = self._losses(part, batch[part * size : (part + 1) * size])
            sums = {name: loss + sums.get(name, 0) for name, loss in losses.items()}
        return sums

    def _losses(self, part: int, images: Sequence[Any]) -> dict[str, torch.Tensor]:
        """Return a part's share of the losses, without a graph if its gradients are done."""
        self.seed_part(part)
        last = part == self.parts - 1
        inner = self.model.model if isinstance(self.model, Bfloat16) else self.model
        distributed = isinstance(inner, DistributedDataParallel)
        with inner.no_sync() if distributed and not last else nullcontext():  # type: ignore[operator]
            losses = {name: loss / self.parts for name, loss in self.model(images).items()}
            if last:
                return losses
            self.scale(torch.stack(list(losses.values())).sum()).backward()
        return {name: loss.detach() for name, loss in losses.items()}


def whole_model(
    cfg: CfgNode,
    model: nn.Module,
    seed_part: Callable[[int], None],
    scale: Callable[[torch.Tensor], torch.Tensor],
) -> nn.Module:
    """Return what maps a whole batch to losses: the model in its precision, by parts if there are several.

    Args:
        cfg: a checked config.
        model: perhaps in DistributedDataParallel.
        seed_part: see :class:`AccumulatingModel`.
        scale: see there.
    """
    if training_precision(cfg) == "bfloat16":
        model = Bfloat16(model, cfg.MODEL.DEVICE)
    parts = cfg.SOLVER.ACCUMULATE
    return AccumulatingModel(model, parts, seed_part=seed_part, scale=scale) if parts > 1 else model


def build_step(
    cfg: CfgNode,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    seed_part: Callable[[int], None],
) -> SimpleTrainer:
    """Return what does an iteration: Detectron2's, in mixed precision if ``SOLVER.AMP.ENABLED``.

    Args:
        cfg: a checked config.
        model: perhaps in DistributedDataParallel.
        optimizer: of its parameters.
        seed_part: see :class:`AccumulatingModel`.
    """
    parts = cfg.SOLVER.ACCUMULATE
    scaler = torch.amp.GradScaler("cuda", enabled=scales_losses(cfg))
    model = whole_model(cfg, model, seed_part, scaler.scale)
    options: dict[str, Any] = {"zero_grad_before_forward": parts > 1}
    if scales_losses(cfg):
        return AMPTrainer(model, (), optimizer, grad_scaler=scaler, **options)
    return SimpleTrainer(model, (), optimizer, **options)


def parts_of(cfg: CfgNode, world_size: int) -> int:
    """Return into how many parts each process divides its share of a batch.

    Args:
        cfg: ``SOLVER.ACCUMULATE`` is the number; with 0 there are as many as make
            ``SOLVER.REFERENCE_WORLD_SIZE`` processes.
        world_size: number of processes.

    Raises:
        ConfigError: the number is 0, and the reference is not set or no multiple of
            ``world_size``.
    """
    parts, reference = cfg.SOLVER.ACCUMULATE, cfg.SOLVER.REFERENCE_WORLD_SIZE
    if parts:
        return int(parts)
    if not reference:
        raise ConfigError(
            "SOLVER.ACCUMULATE 0 needs SOLVER.REFERENCE_WORLD_SIZE, the number of processes that the parts stand for; "
            "set it, or name the number of parts with SOLVER.ACCUMULATE."
        )
    if reference % world_size:
        raise ConfigError(
            f"SOLVER.ACCUMULATE 0 makes SOLVER.REFERENCE_WORLD_SIZE {reference} processes of {world_size}, "
            "which must divide it; name the number of parts with SOLVER.ACCUMULATE."
        )
    return int(reference // world_size)


def say_division(cfg: CfgNode, world_size: int) -> None:
    """Log how the images of one update are divided.

    Args:
        cfg: a checked config.
        world_size: number of processes.
    """
    total, parts = cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.ACCUMULATE
    logger.info(
        "One update averages the gradients of %d images: %d process(es), %d part(s) each, %d image(s) in a part",
        total,
        world_size,
        parts,
        total // (world_size * parts),
    )
