"""The losses of the first iterations of a training: a refactoring must leave them as they are.

The training is the one that ``train_net.py`` runs (same loader, optimiser and schedule), from a fixed seed,
with small batches of the first images of ``mini_coco_train``, on one thread in fp32.
"""

from __future__ import annotations

from pathlib import Path

from maskrcnn_repro.config import load_config
from maskrcnn_repro.data.loader import build_train_loader
from maskrcnn_repro.data.synthetic.mini_coco import MINI_COCO
from maskrcnn_repro.engine.optimizer import build_optimizer
from maskrcnn_repro.engine.resolve import resolve_config

import torch
from detectron2.engine import HookBase, SimpleTrainer, hooks
from detectron2.modeling import build_model
from detectron2.solver import build_lr_scheduler
from detectron2.utils.env import seed_all_rng

ITERATIONS = 20
# Four times the main job's: after some steps one candidate more or less is foreground on another CPU, and the
# larger the batch, the less it weighs (rounding moves a loss by up to 0.0065 of the total with seed 7, by
# 0.008 to 0.019 with seeds 1 to 6 and 8; with batches of eight, 0.016 to 0.031).
BATCH = 16
IMAGES = 96
CONFIG = "mini/mask_rcnn_fpn.yaml"
TOTAL = "total_loss"
TOLERANCE = 1e-2
"""The :func:`deviation` that another CPU, which sums in another order, may show."""

# Every candidate is sampled: a draw among candidates, whose number may differ by one on another CPU, would
# part two curves for good.
SAMPLE_ALL = {"MODEL.RPN.BATCH_SIZE_PER_IMAGE": 16384, "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 1024}

Curve = dict[str, list[float]]
"""Name of a loss -> its value at each iteration."""


class Recorder(HookBase):
    """Keeps what the trainer logs about losses."""

    def __init__(self) -> None:
        self.curve: Curve = {}

    def after_step(self) -> None:
        """Append this iteration's losses."""
        for name, (value, _) in sorted(self.trainer.storage.latest().items()):
            if "loss" in name:
                self.curve.setdefault(name, []).append(float(value))


def loss_curve(
    folder: Path,
    seed: int,
    config: str = CONFIG,
    disturbance: int = 0,
    iterations: int = ITERATIONS,
) -> Curve:
    """Train for the first steps of the config's schedule and return the losses.

    Args:
        folder: for the images.
        seed: of weights, data order and augmentation.
        config: path or name of a config; its data sets and sampling counts are replaced.
        disturbance: a number other than 0 shifts all weights at the start by up to 1e-6 of their size,
            each number in its own way, as another CPU's rounding would soon do.
        iterations: number of steps.
    """
    data = MINI_COCO.generate(folder, "train", 0, IMAGES)
    name = f"mini_coco_first_{IMAGES}"
    custom = ((name, str(data / "instances.json"), str(data / "images")),)
    cfg = load_config(
        config,
        [
            *("MODEL.DEVICE", "cpu"),
            *("SEED", str(seed)),
            *("SOLVER.AMP.ENABLED", "False"),
            *("SOLVER.IMS_PER_BATCH", str(BATCH)),
            *("DATALOADER.NUM_WORKERS", "0"),
            *(str(word) for pair in SAMPLE_ALL.items() for word in pair),
            *("DATASETS.CUSTOM", repr(custom)),
            *("DATASETS.TRAIN", repr((name,))),
            *("DATASETS.TEST", "()"),
        ],
    )
    cfg = resolve_config(cfg, training=True)
    torch.set_num_threads(1)
    seed_all_rng(seed)
    model = build_model(cfg)
    if disturbance:
        _disturb(model, disturbance)
    optimizer = build_optimizer(cfg, model)
    recorder = Recorder()
    trainer = SimpleTrainer(model, build_train_loader(cfg), optimizer)
    schedule = hooks.LRScheduler(optimizer, build_lr_scheduler(cfg, optimizer))
    trainer.register_hooks([schedule, recorder])
    trainer.train(0, iterations)
    return recorder.curve


def deviation(curve: Curve, reference: Curve) -> float:
    """Return the largest difference of any loss, as a fraction of the total at its iteration.

    Args:
        curve: name -> values.
        reference: the same names; its totals are the measure.

    Raises:
        ValueError: the two have other losses or lengths.
    """
    if curve.keys() != reference.keys():
        raise ValueError(f"Losses {sorted(curve)} are not {sorted(reference)}.")
    return max(
        abs(ours - theirs) / total
        for name in reference
        for ours, theirs, total in zip(curve[name], reference[name], reference[TOTAL], strict=True)
    )


def write_curve(path: Path, seed: int, curve: Curve, comment: str) -> None:
    """Write text: ``#`` and the comment, the seed, the names, then a line for each iteration."""
    lines = [f"# {comment}", f"{seed}", " ".join(curve)]
    lines += [
        " ".join(f"{value:.7g}" for value in row) for row in zip(*curve.values(), strict=True)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_curve(path: Path) -> tuple[int, Curve]:
    """Return the seed and the losses that :func:`write_curve` wrote."""
    _, seed, names, *rows = path.read_text(encoding="utf-8").splitlines()
    columns = zip(*([float(word) for word in row.split()] for row in rows), strict=True)
    return int(seed), {
        name: list(column) for name, column in zip(names.split(), columns, strict=True)
    }


@torch.no_grad()
def _disturb(model: torch.nn.Module, number: int) -> None:
    generator = torch.Generator().manual_seed(number)
    for parameter in model.parameters():
        noise = 2 * torch.rand(parameter.shape, generator=generator) - 1
        parameter.mul_(1 + 1e-6 * noise)
