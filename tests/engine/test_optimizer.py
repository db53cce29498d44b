"""Optimisers: groups of parameters and single steps, worked out by hand."""

from maskrcnn_repro.config import get_config
from maskrcnn_repro.engine.optimizer import build_optimizer

import pytest
import torch
from torch import nn


def solver(**keys):
    cfg = get_config()
    for key, value in keys.items():
        cfg.SOLVER[key] = value
    return cfg


def norm_net():
    return nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))


@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_weight_decay_and_bias_rate_act_on_their_groups(name):
    cfg = solver(
        OPTIMIZER=name, BASE_LR=0.1, WEIGHT_DECAY=0.5, WEIGHT_DECAY_NORM=0.0, BIAS_LR_FACTOR=2.0
    )
    net = norm_net()
    optimizer = build_optimizer(cfg, net)
    found = {
        id(p): (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for p in group["params"]
    }
    conv, norm = net
    assert found[id(conv.weight)] == (0.1, 0.5)
    assert found[id(conv.bias)] == (0.2, 0.5)
    assert found[id(norm.weight)] == (0.1, 0.0)
    assert found[id(norm.bias)] == (0.2, 0.0)


def test_adamw_makes_the_step_worked_out_by_hand():
    cfg = solver(OPTIMIZER="AdamW", BASE_LR=0.1, WEIGHT_DECAY=0.5)
    net = nn.Linear(1, 1, bias=False)
    net.weight.data.fill_(2.0)
    net.weight.grad = torch.full_like(net.weight, 3.0)
    build_optimizer(cfg, net).step()
    # Decay: 2 - 0.1 · 0.5 · 2 = 1.9; the first step's bias-corrected m / sqrt(v) is the gradient's sign.
    assert net.weight.item() == pytest.approx(1.9 - 0.1, abs=1e-6)


def test_sgd_makes_the_step_worked_out_by_hand():
    cfg = solver(BASE_LR=0.1, WEIGHT_DECAY=0.5, MOMENTUM=0.0)
    net = nn.Linear(1, 1, bias=False)
    net.weight.data.fill_(2.0)
    net.weight.grad = torch.full_like(net.weight, 3.0)
    build_optimizer(cfg, net).step()
    assert net.weight.item() == pytest.approx(2 - 0.1 * (3 + 0.5 * 2))


@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_clipping_of_the_whole_model_bounds_the_common_norm(name):
    cfg = solver(OPTIMIZER=name)
    cfg.SOLVER.CLIP_GRADIENTS.update(ENABLED=True, CLIP_TYPE="full_model", CLIP_VALUE=1.0)
    net = nn.Linear(1, 1)
    net.weight.grad, net.bias.grad = torch.tensor([[3.0]]), torch.tensor([4.0])
    build_optimizer(cfg, net).step()
    assert net.weight.grad.item() == pytest.approx(0.6, abs=1e-5)
    assert net.bias.grad.item() == pytest.approx(0.8, abs=1e-5)
