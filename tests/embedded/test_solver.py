"""Optimizers and schedules of Detectron2's API, against values worked out by hand."""

import math

import maskrcnn_repro  # noqa: F401

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.solver import (
    LRMultiplier,
    build_lr_scheduler,
    build_optimizer,
    get_default_optimizer_params,
)
from detectron2.solver.build import maybe_add_gradient_clipping, reduce_param_groups
from fvcore.common.param_scheduler import ConstantParamScheduler
from torch import nn


def _sgd(*rates):
    groups = [{"params": [nn.Parameter(torch.ones(2))], "lr": rate} for rate in rates]
    return torch.optim.SGD(groups, lr=1.0)


def _rates(optimizer, scheduler, iterations):
    """Learning rate of the first group in each iteration."""
    rates = []
    for _ in range(iterations):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def _cfg(**solver):
    cfg = get_cfg()
    for key, value in solver.items():
        setattr(cfg.SOLVER, key, value)
    return cfg


def _built_rates(**solver):
    cfg = _cfg(**solver)
    optimizer = _sgd(cfg.SOLVER.BASE_LR)
    # The step after the last iteration is outside the schedule.
    return _rates(optimizer, build_lr_scheduler(cfg, optimizer), cfg.SOLVER.MAX_ITER - 1)


STEPS = {"BASE_LR": 1.0, "MAX_ITER": 10, "WARMUP_FACTOR": 0.2, "WARMUP_ITERS": 4, "GAMMA": 0.1}


def test_multi_step_climbs_linearly_and_falls_at_the_steps():
    rates = _built_rates(LR_SCHEDULER_NAME="WarmupMultiStepLR", STEPS=(6, 8), **STEPS)
    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1, 0.1, 0.1, 0.01])


def test_constant_warmup_stays_then_jumps():
    rates = _built_rates(
        LR_SCHEDULER_NAME="WarmupMultiStepLR", STEPS=(6,), WARMUP_METHOD="constant", **STEPS
    )
    assert rates == pytest.approx([0.2] * 4 + [1, 1] + [0.1] * 3)


def test_steps_after_the_end_are_ignored():
    rates = _built_rates(
        LR_SCHEDULER_NAME="WarmupMultiStepLR", STEPS=(6, 99), **(STEPS | {"WARMUP_ITERS": 0})
    )
    assert rates == pytest.approx([1] * 6 + [0.1] * 3)


def test_cosine_joins_the_curve_after_warmup():
    rates = _built_rates(
        LR_SCHEDULER_NAME="WarmupCosineLR",
        BASE_LR=2.0,
        BASE_LR_END=1.0,
        MAX_ITER=8,
        WARMUP_ITERS=2,
        WARMUP_FACTOR=0.5,
    )

    def cosine(iteration):  # from 2 to 1
        return 1.5 + 0.5 * math.cos(math.pi * iteration / 8)

    # The warmup starts at half the initial rate and meets the curve at iteration 2.
    expected = [1.0, (1.0 + cosine(2)) / 2] + [cosine(i) for i in range(2, 7)]
    assert rates == pytest.approx(expected)


def test_fixed_gamma_drops_at_even_distances():
    rates = _built_rates(
        LR_SCHEDULER_NAME="WarmupStepWithFixedGammaLR",
        NUM_DECAYS=2,
        BASE_LR=1.0,
        MAX_ITER=9,
        WARMUP_ITERS=0,
        GAMMA=0.5,
    )
    assert rates == pytest.approx([1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25])


def test_rescaled_schedule_begins_after_the_warmup():
    optimizer = _sgd(1.0)
    cfg = _cfg(
        LR_SCHEDULER_NAME="WarmupCosineLR", RESCALE_INTERVAL=True, BASE_LR=1.0, MAX_ITER=6,
        WARMUP_ITERS=2, WARMUP_FACTOR=0.0,
    )  # fmt: skip
    rates = _rates(optimizer, build_lr_scheduler(cfg, optimizer), 5)
    cosine = [0.5 + 0.5 * math.cos(math.pi * done / 4) for done in range(3)]
    assert rates == pytest.approx([0, 0.5, *cosine])


def test_multiplier_keeps_the_ratio_of_groups_and_its_position():
    optimizer = _sgd(1.0, 0.5)
    scheduler = LRMultiplier(optimizer, ConstantParamScheduler(0.25), max_iter=5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.125]
    optimizer.step()
    scheduler.step()
    assert scheduler.state_dict() == {"base_lrs": [1.0, 0.5], "last_epoch": 1}


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: _built_rates(LR_SCHEDULER_NAME="Sawtooth"), "Unknown LR scheduler.*Sawtooth"),
        (lambda: _built_rates(WARMUP_METHOD="square"), "Unknown warmup method.*square"),
        (lambda: LRMultiplier(_sgd(1.0), lambda where: 1.0, 5), "ParamScheduler"),
        (lambda: get_default_optimizer_params(nn.Linear(1, 1), bias_lr_factor=2.0), "base_lr"),
        (
            lambda: get_default_optimizer_params(nn.Linear(1, 1), lr_factor_func=lambda name: 1.0),
            "base_lr",
        ),
        (
            lambda: get_default_optimizer_params(
                nn.Linear(1, 1), weight_decay_bias=0.0, overrides={"bias": {"lr": 1.0}}
            ),
            "'bias'",
        ),
    ],
)
def test_mistakes_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.embedded_only
def test_final_rate_above_the_first_is_refused():
    with pytest.raises(ValueError, match=r"BASE_LR_END is 2\.0"):
        _built_rates(LR_SCHEDULER_NAME="WarmupCosineLR", BASE_LR=1.0, BASE_LR_END=2.0)


class _Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 1)
        self.norm = nn.GroupNorm(1, 1)
        self.frozen = nn.Linear(1, 1).requires_grad_(False)
        self.again = self.conv  # a shared module


def test_groups_by_kind_of_parameter():
    net = _Net()
    groups = get_default_optimizer_params(
        net,
        base_lr=1.0,
        weight_decay=0.1,
        weight_decay_norm=0.0,
        bias_lr_factor=2.0,
        weight_decay_bias=0.5,
    )
    conv, norm = net.conv, net.norm
    # A bias is a bias, in a norm, too.
    assert groups == [
        {"params": [conv.weight], "lr": 1.0, "weight_decay": 0.1},
        {"params": [conv.bias, norm.bias], "lr": 2.0, "weight_decay": 0.5},
        {"params": [norm.weight], "lr": 1.0, "weight_decay": 0.0},
    ]


def test_groups_by_name():
    net = _Net()
    groups = get_default_optimizer_params(
        net,
        base_lr=1.0,
        lr_factor_func=lambda name: 0.5 if name.startswith("norm.") else 1.0,
        overrides={"bias": {"weight_decay": 7.0}},
    )
    assert groups == [
        {"params": [net.conv.weight], "lr": 1.0},
        {"params": [net.conv.bias], "lr": 1.0, "weight_decay": 7.0},
        {"params": [net.norm.weight], "lr": 0.5},
        {"params": [net.norm.bias], "lr": 0.5, "weight_decay": 7.0},
    ]


def test_groups_of_a_frozen_model_are_empty():
    assert get_default_optimizer_params(_Net().frozen) == []


def test_merging_keeps_names_beside_parameters():
    groups = [
        {"params": ["a", "b"], "param_names": ["A", "B"], "lr": 1.0},
        {"params": ["c"], "param_names": ["C"], "lr": 2.0},
        {"params": ["a"], "param_names": ["A"], "lr": 2.0},
    ]
    assert reduce_param_groups(groups) == [
        {"params": ["a", "c"], "param_names": ["A", "C"], "lr": 2.0},
        {"params": ["b"], "param_names": ["B"], "lr": 1.0},
    ]


def test_build_optimizer_reads_the_config():
    cfg = _cfg(BASE_LR=0.5, MOMENTUM=0.8, WEIGHT_DECAY=0.1, WEIGHT_DECAY_NORM=0.0, NESTEROV=True)
    optimizer = build_optimizer(cfg, _Net())
    assert type(optimizer) is torch.optim.SGD
    assert [len(group["params"]) for group in optimizer.param_groups] == [2, 2]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]
    assert all(
        (group["lr"], group["momentum"], group["nesterov"]) == (0.5, 0.8, True)
        for group in optimizer.param_groups
    )


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    # Gradient (3, -4): by value each component is cut, by norm its length 5 becomes 1.
    [("value", 2.0, (2.0, -2.0)), ("norm", 1.0, (0.6, -0.8))],
)
def test_clipping_changes_the_step(kind, value, expected):
    cfg = _cfg()
    options = cfg.SOLVER.CLIP_GRADIENTS
    options.ENABLED, options.CLIP_TYPE, options.CLIP_VALUE = True, kind, value
    parameter, other = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1))
    cls = maybe_add_gradient_clipping(cfg, torch.optim.SGD)
    assert cls.__name__ == "SGDWithGradientClip"
    instance = maybe_add_gradient_clipping(cfg, torch.optim.SGD([parameter, other], lr=1.0))
    assert isinstance(instance, torch.optim.SGD)
    for optimizer in (instance, cls([parameter, other], lr=1.0)):
        parameter.data.zero_()
        parameter.grad, other.grad = torch.tensor([3.0, -4.0]), torch.tensor([0.5])
        optimizer.step()
        assert parameter.tolist() == pytest.approx([-expected[0], -expected[1]])
    assert other.tolist() == [-1.0]  # clipped by itself: 0.5 is below both bounds


def test_without_clipping_nothing_changes():
    optimizer = _sgd(1.0)
    assert maybe_add_gradient_clipping(_cfg(), optimizer) is optimizer
    assert type(optimizer) is torch.optim.SGD
