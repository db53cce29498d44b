"""The training loop: Detectron2's trainer and hooks, put together for one or many processes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from maskrcnn_repro.checkpoint.checkpointer import Checkpointer
from maskrcnn_repro.checkpoint.class_map import mapped_weights
from maskrcnn_repro.data.loader import build_train_loader
from maskrcnn_repro.engine.optimizer import build_optimizer
from maskrcnn_repro.modeling.freezing import freeze_backbone
from maskrcnn_repro.utils.provenance import Progress
from maskrcnn_repro.utils.randomness import Purpose, seed_everything

import torch
import torch.distributed as dist
from detectron2.config import CfgNode
from detectron2.engine import AMPTrainer, HookBase, SimpleTrainer, default_writers, hooks
from detectron2.modeling import build_model
from detectron2.solver import build_lr_scheduler
from detectron2.utils import comm
from torch import nn
from torch.nn.parallel import DistributedDataParallel

logger = logging.getLogger(__name__)
WRITE_PERIOD = 20
"""Iterations between two lines on the console, in metrics.json and in TensorBoard."""


class Clock(HookBase):
    """Seconds spent in iterations (data and step), over all resumptions; evaluation is not counted."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def before_step(self) -> None:
        """Start."""
        self._begin = time.perf_counter()

    def after_step(self) -> None:
        """Stop."""
        self.seconds += time.perf_counter() - self._begin

    def state_dict(self) -> dict[str, float]:
        """Return what a checkpoint keeps."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        """Carry on where a checkpoint stopped."""
        self.seconds = state_dict["seconds"]


class StepSeed(HookBase):
    """Seeds each iteration by itself, so that a resumed run goes on with the numbers of the unbroken one.

    Args:
        seed: of the training, 0 or more.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def before_step(self) -> None:
        """Seed this iteration; its images are seeded one by one in the loader."""
        seed_everything(self.seed, Purpose.STEP, self.trainer.iter, comm.get_rank())


Report = Callable[[nn.Module, Progress], dict[str, Any]]
"""Evaluates a model and returns nested metrics."""


def train(cfg: CfgNode, *, resume: bool, report: Report) -> None:
    """Train as ``cfg`` says and call ``report`` every TEST.EVAL_PERIOD iterations and at the end.

    Args:
        cfg: frozen config.
        resume: continue from the last checkpoint of OUTPUT_DIR, if there is one.
        report: the evaluation; called in every process.

    Raises:
        CheckpointError: the weights to start from cannot be read or do not fit.
    """
    model = laid_out(cfg, build_model(cfg))
    if cfg.MODEL.BACKBONE.FREEZE_ALL:
        freeze_backbone(model)
    logger.debug("Model:\n%s", model)
    optimizer = build_optimizer(cfg, model)
    loop = AMPTrainer if cfg.SOLVER.AMP.ENABLED else SimpleTrainer
    trainer = loop(distributed(model), (), optimizer)
    checkpointer = Checkpointer(model, cfg.OUTPUT_DIR, trainer=trainer)
    clock = Clock()
    last = cfg.SOLVER.MAX_ITER

    def evaluate() -> dict[str, Any]:
        sync_buffers(model)
        return report(model, Progress(min(trainer.iter + 1, last), clock.seconds))

    # Order: what a checkpoint keeps comes before it; a failing evaluation leaves a checkpoint.
    steps = [
        StepSeed(cfg.SEED),
        hooks.IterationTimer(),
        clock,
        hooks.LRScheduler(optimizer, build_lr_scheduler(cfg, optimizer)),
        hooks.PeriodicCheckpointer(checkpointer, cfg.SOLVER.CHECKPOINT_PERIOD),
    ]
    if cfg.DATASETS.TEST:
        steps.append(hooks.EvalHook(cfg.TEST.EVAL_PERIOD, evaluate))
    if comm.is_main_process():
        steps.append(hooks.PeriodicWriter(default_writers(cfg.OUTPUT_DIR, last), WRITE_PERIOD))
    trainer.register_hooks(steps)

    first = 0
    resumes = resume and checkpointer.has_checkpoint()
    if cfg.MODEL.WEIGHTS_DATASET and not resumes:
        model.load_state_dict(mapped_weights(cfg))
    else:
        checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=resume)
    if resumes:
        first = trainer.iter + 1
        logger.info("Resuming at iteration %d of %d", first, last)
    trainer.reset_data_loader(lambda: build_train_loader(cfg, first))
    trainer.train(first, last)


def laid_out(cfg: CfgNode, model: nn.Module) -> nn.Module:
    """Give the weights the memory layout of MODEL.CHANNELS_LAST; numbers stay the same up to rounding."""
    return model.to(memory_format=torch.channels_last) if cfg.MODEL.CHANNELS_LAST else model


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
