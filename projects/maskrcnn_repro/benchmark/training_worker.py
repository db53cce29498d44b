"""Worker process of the training benchmark: builds one contestant and times steps on request.

Run as ``python -m maskrcnn_repro.benchmark.training_worker``. The protocol is that of
:mod:`maskrcnn_repro.benchmark.worker`, with the fields of :class:`ContestantTask` in the first line.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from maskrcnn_repro.benchmark import models, scenes
from maskrcnn_repro.benchmark.worker import ContestantTask, serve
from maskrcnn_repro.engine.precision import Bfloat16
from maskrcnn_repro.engine.preparation import prepare
from maskrcnn_repro.utils.freed_memory import keep_freed_memory
from maskrcnn_repro.utils.provenance import code_origin

import torch
from detectron2.solver import build_optimizer
from detectron2.utils.events import EventStorage
from torch import nn

REQUESTS = ("train",)
SAMPLES = (
    "rpn/num_pos_anchors",
    "rpn/num_neg_anchors",
    "roi_head/num_fg_samples",
    "roi_head/num_bg_samples",
)
"""What Detectron2's heads count in a step, per image."""


class Bench:
    """A model with the recipe's weights, its optimiser, and a batch of one image."""

    def __init__(self, task: ContestantTask) -> None:
        torch.set_num_threads(task.threads)
        scene = scenes.scene(0, task.height, task.width, objects=8)
        self.batch = [scenes.model_input(scene, num_classes=80)]
        model, self.losses_of = CONTESTANTS[task.contestant](task.model)
        # With a learning rate of 0 all steps start from the same weights, and take as long as usual.
        cfg = models.config(task.model, {"SOLVER.BASE_LR": 0.0})
        self.optimizer = build_optimizer(cfg, model)
        self.first = self._step()

    def train(self) -> dict[str, float]:
        """Return the seconds of a step, forward, backward and update: wall time, and that of all the CPU's threads."""
        begin, cpu = time.perf_counter(), time.process_time()
        self._step()
        return {"wall": time.perf_counter() - begin, "cpu": time.process_time() - cpu}

    def _step(self) -> dict[str, Any]:
        torch.manual_seed(0)  # every step samples the same anchors and RoIs
        with EventStorage() as storage:
            losses = self.losses_of(self.batch)
            total = torch.stack([*losses.values()]).sum()
        self.optimizer.zero_grad()
        total.backward()
        self.optimizer.step()
        counts = {name: float(storage.latest()[name][0]) for name in SAMPLES}
        return {"loss": float(total.detach()), "samples": counts}

    def describe(self) -> dict[str, Any]:
        """Return the loss, what was sampled, and the origin of the code."""
        return {**self.first, "origin": code_origin()}


Contestant = tuple[nn.Module, Callable[[Any], dict[str, torch.Tensor]]]
"""The model, and what maps a batch to its losses."""


def _ours(**keys: Any) -> Callable[[str], Contestant]:
    def build(name: str) -> Contestant:
        overrides = {key.replace("__", "."): value for key, value in keys.items()}
        cfg = models.own_config(name, overrides)
        model = models.build(cfg).train()
        prepare(model, cfg)
        keep_freed_memory(huge=False)  # as a training on a CPU does
        return model, Bfloat16(model, "cpu") if cfg.SOLVER.AMP.ENABLED else model

    return build


def _detectron2(name: str) -> Contestant:
    model = models.build(models.config(name)).train()
    return model, model


def _detectron2_best(name: str) -> Contestant:
    model = _detectron2(name)[0].to(memory_format=torch.channels_last)

    def losses_of(batch: Any) -> dict[str, torch.Tensor]:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            losses: dict[str, torch.Tensor] = model(batch)
        return losses

    return model, losses_of


_BFLOAT16 = {"SOLVER__AMP__ENABLED": True, "SOLVER__AMP__DTYPE": "bfloat16"}
CONTESTANTS: dict[str, Callable[[str], Contestant]] = {
    "Detectron2": _detectron2,
    "Detectron2, bfloat16": _detectron2_best,
    "ours, plain": _ours(),
    "ours": _ours(MODEL__FAST_TRAINING=True),
    "ours, checkpointed": _ours(MODEL__FAST_TRAINING=True, MODEL__CHECKPOINT_STAGES=True),
    "ours, bfloat16": _ours(MODEL__FAST_TRAINING=True, **_BFLOAT16),
}
"""Name of a contestant -> what builds it from a key of :data:`maskrcnn_repro.benchmark.models.SETTINGS`."""


def main() -> None:
    """Serve requests until the end of input."""
    serve(lambda task: Bench(ContestantTask(**task)), REQUESTS)


if __name__ == "__main__":
    main()
