"""Anchors, learning rates and sampler orders: what a model and its loop are made of, as plain numbers."""

import itertools

from maskrcnn_repro.benchmark import models

import torch
from detectron2.config import get_cfg
from detectron2.data.samplers import (
    GroupedBatchSampler,
    InferenceSampler,
    RepeatFactorTrainingSampler,
    TrainingSampler,
)
from detectron2.layers import ShapeSpec
from detectron2.modeling.anchor_generator import build_anchor_generator
from detectron2.solver import build_lr_scheduler, build_optimizer

from tests.helpers.parity.store import rounded

# Height and width in cells; strides follow from the levels.
GRIDS = {"R50-C4": [(2, 3)], "R50-FPN": [(4, 5), (2, 3), (2, 2), (1, 2), (1, 1)]}
STRIDES = {"R50-C4": [16], "R50-FPN": [4, 8, 16, 32, 64]}

SCHEDULES = {
    "steps": {"LR_SCHEDULER_NAME": "WarmupMultiStepLR"},
    "steps, constant warm-up": {"WARMUP_METHOD": "constant"},
    "steps beyond the end": {"STEPS": (40, 200)},
    "cosine": {"LR_SCHEDULER_NAME": "WarmupCosineLR", "BASE_LR_END": 0.001},
    "cosine, rescaled": {"LR_SCHEDULER_NAME": "WarmupCosineLR", "RESCALE_INTERVAL": True},
    "fixed gamma": {
        "LR_SCHEDULER_NAME": "WarmupStepWithFixedGammaLR",
        "NUM_DECAYS": 4,
        "GAMMA": 0.5,
    },
}
ITERATIONS = 90


def anchors():
    """Return, for each model and anchor offset, the anchors of every level: (x1, y1, x2, y2) in pixels."""
    by_case = {}
    for name, offset in itertools.product(GRIDS, (0.0, 0.5)):
        cfg = models.config(name, {"MODEL.ANCHOR_GENERATOR.OFFSET": offset})
        specs = [ShapeSpec(channels=1, stride=stride) for stride in STRIDES[name]]
        features = [torch.zeros(1, 1, *grid) for grid in GRIDS[name]]
        levels = build_anchor_generator(cfg, specs)(features)
        by_case[f"{name}, offset {offset}"] = [rounded(level.tensor, 4) for level in levels]
    return by_case


def learning_rates():
    """Return, for each schedule, the learning rate that every iteration uses."""
    return {name: _rates(settings) for name, settings in SCHEDULES.items()}


def _rates(settings):
    cfg = get_cfg()
    solver = {
        "BASE_LR": 0.02,
        "MAX_ITER": ITERATIONS,
        "STEPS": (50, 75),
        "WARMUP_ITERS": 10,
        **settings,
    }
    cfg.merge_from_list(
        [word for key, value in solver.items() for word in (f"SOLVER.{key}", value)]
    )
    optimizer = build_optimizer(cfg, torch.nn.Linear(1, 1))
    scheduler = build_lr_scheduler(cfg, optimizer)
    rates = []
    for iteration in range(ITERATIONS):
        if iteration:
            optimizer.step()
            scheduler.step()
        rates.append(float(f"{optimizer.param_groups[0]['lr']:.12g}"))
    return rates


def sampler_orders():
    """Return the first indices that each sampler yields."""
    frequent = [{"category_id": 0}]
    images = [
        {"annotations": frequent if k % 5 else [*frequent, {"category_id": 1}]} for k in range(15)
    ]
    factors = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(images, 0.6)
    grouped = GroupedBatchSampler(TrainingSampler(12, seed=4), [k % 3 == 0 for k in range(12)], 3)
    return {
        "training": _first(TrainingSampler(11, seed=3), 30),
        "training, unshuffled": _first(TrainingSampler(4, shuffle=False, seed=3), 10),
        "repeat factors": rounded(factors, 6),
        "repeat factor": _first(RepeatFactorTrainingSampler(factors, seed=5), 50),
        "inference": _first(InferenceSampler(7), 10),
        "grouped": _first(grouped, 8),
    }


def _first(sampler, count):
    return list(itertools.islice(sampler, count))
