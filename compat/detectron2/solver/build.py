"""Optimizer, parameter groups, gradient clipping and schedule from a config's ``SOLVER``."""

import functools
import logging
from collections.abc import Callable
from typing import Any

import fvcore.common.param_scheduler as schedules
import torch
from torch import nn
from torch.optim import SGD, Optimizer

from detectron2._absent import module_getattr
from detectron2.config import CfgNode

from .lr_scheduler import LRMultiplier, LRScheduler, WarmupParamScheduler

__all__ = ["build_lr_scheduler", "build_optimizer", "get_default_optimizer_params"]

_ParamGroup = dict[str, Any]
"""A parameter group as torch's optimizers take it: "params", perhaps "param_names", and options."""

_NORM_LAYERS = (
    nn.modules.batchnorm._BatchNorm,  # 1d, 2d, 3d and synchronised
    nn.modules.instancenorm._InstanceNorm,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.LocalResponseNorm,
)


def build_optimizer(cfg: CfgNode, model: nn.Module) -> Optimizer:
    """Build SGD with the parameter groups and the gradient clipping that the config asks for."""
    solver = cfg.SOLVER
    groups = get_default_optimizer_params(
        model,
        base_lr=solver.BASE_LR,
        weight_decay_norm=solver.WEIGHT_DECAY_NORM,
        bias_lr_factor=solver.BIAS_LR_FACTOR,
        weight_decay_bias=solver.WEIGHT_DECAY_BIAS,
    )
    sgd = SGD(
        groups,
        solver.BASE_LR,
        momentum=solver.MOMENTUM,
        weight_decay=solver.WEIGHT_DECAY,
        nesterov=solver.NESTEROV,
        foreach=True,  # one kernel for many tensors
    )
    return maybe_add_gradient_clipping(cfg, sgd)


def maybe_add_gradient_clipping(
    cfg: CfgNode, optimizer: Optimizer | type[Optimizer]
) -> Optimizer | type[Optimizer]:
    """Let `optimizer` clip the gradient of each parameter by itself before every step.

    Args:
        cfg: reads ``SOLVER.CLIP_GRADIENTS``.
        optimizer: an optimizer, changed in place, or an optimizer class.

    Returns:
        The same object if clipping is disabled or an optimizer was given, else a subclass.

    Raises:
        ValueError: unknown ``CLIP_TYPE``.
    """
    if not cfg.SOLVER.CLIP_GRADIENTS.ENABLED:
        return optimizer
    is_class = isinstance(optimizer, type)
    base = optimizer if is_class else type(optimizer)
    clip = _gradient_clipper(cfg.SOLVER.CLIP_GRADIENTS)

    def step(self: Optimizer, closure: Callable | None = None) -> Any:
        for group in self.param_groups:
            for parameter in group["params"]:
                clip(parameter)
        return base.step(self, closure)

    clipping = type(f"{base.__name__}WithGradientClip", (base,), {"step": step})
    if is_class:
        return clipping
    optimizer.__class__ = clipping
    return optimizer


def _gradient_clipper(options: CfgNode) -> Callable[[torch.Tensor], Any]:
    kind, bound = options.CLIP_TYPE, options.CLIP_VALUE
    if kind == "value":
        return functools.partial(nn.utils.clip_grad_value_, clip_value=bound)
    if kind == "norm":
        order = options.NORM_TYPE
        return functools.partial(nn.utils.clip_grad_norm_, max_norm=bound, norm_type=order)
    raise ValueError(f"SOLVER.CLIP_GRADIENTS.CLIP_TYPE must be 'value' or 'norm', got {kind!r}")


def get_default_optimizer_params(
    model: nn.Module,
    base_lr: float | None = None,
    weight_decay: float | None = None,
    weight_decay_norm: float | None = None,
    bias_lr_factor: float | None = 1.0,
    weight_decay_bias: float | None = None,
    lr_factor_func: Callable[[str], float] | None = None,
    overrides: dict[str, dict[str, float]] | None = None,
) -> list[_ParamGroup]:
    """Sort the trainable parameters of a model into groups with equal options.

    Args:
        model: each of its parameters is listed once, under the first module that holds it.
        base_lr: rate of every group; None leaves it to the optimizer.
        weight_decay: decay of every group; None leaves it to the optimizer.
        weight_decay_norm: decay of parameters of normalisation layers.
        bias_lr_factor: factor on the rate of parameters called "bias".
        weight_decay_bias: decay of parameters called "bias".
        lr_factor_func: maps a parameter's full name to a factor on its rate.
        overrides: options by the parameter's own name (its last part); they win over all others.

    Raises:
        ValueError: a factor on the rate without `base_lr`, or "bias" both in `overrides` and in an
            argument.
    """
    scales_bias = bias_lr_factor not in (None, 1.0)
    if base_lr is None and (scales_bias or lr_factor_func):
        raise ValueError("bias_lr_factor and lr_factor_func require base_lr")
    bias_rate = base_lr * bias_lr_factor if scales_bias else None
    of_bias = _given(bias_rate, weight_decay_bias)
    by_name = {"bias": of_bias} | (overrides or {})
    if of_bias and by_name["bias"] is not of_bias:
        raise ValueError("'bias' stands in overrides and in an argument of its own; give one")

    groups = []
    for full_name, parameter in model.named_parameters():
        if parameter.requires_grad:
            module_name, _, name = full_name.rpartition(".")
            options = _given(base_lr, weight_decay)
            if isinstance(model.get_submodule(module_name), _NORM_LAYERS):
                options |= _given(None, weight_decay_norm)
            if lr_factor_func:
                options["lr"] *= lr_factor_func(full_name)
            groups.append({"params": [parameter]} | options | by_name.get(name, {}))
    return reduce_param_groups(groups)


def _given(lr: float | None, weight_decay: float | None) -> dict[str, float]:
    options = {"lr": lr, "weight_decay": weight_decay}
    return {name: value for name, value in options.items() if value is not None}


def _expand_param_groups(params: list[_ParamGroup]) -> list[_ParamGroup]:
    """Give every parameter a group of its own; a later group's options win."""
    by_param: dict[Any, _ParamGroup] = {}
    for group in params:
        columns = {key: group[key] for key in ("params", "param_names") if key in group}
        for cells in zip(*columns.values(), strict=True):
            own = {key: [cell] for key, cell in zip(columns, cells, strict=True)}
            by_param.setdefault(cells[0], {}).update(group | own)
    return list(by_param.values())


def reduce_param_groups(params: list[_ParamGroup]) -> list[_ParamGroup]:
    """Merge groups with equal options, in order of first appearance.

    Fewer groups mean fewer launches of the optimizer's multi-tensor kernels.
    """
    merged: dict[tuple, _ParamGroup] = {}
    for single in _expand_param_groups(params):
        lists = {key: single.pop(key) for key in ("params", "param_names") if key in single}
        group = merged.setdefault(tuple(single.items()), single)
        for key, own in lists.items():
            group[key] = group.get(key, []) + own
    return list(merged.values())


def build_lr_scheduler(cfg: CfgNode, optimizer: Optimizer) -> LRScheduler:
    """Build the schedule ``SOLVER.LR_SCHEDULER_NAME`` with its warmup.

    Raises:
        ValueError: unknown name, or a final rate outside [0, ``SOLVER.BASE_LR``].
    """
    options = cfg.SOLVER
    name, length = options.LR_SCHEDULER_NAME, options.MAX_ITER
    if name not in _SCHEDULES:
        raise ValueError(f"Unknown LR scheduler: {name!r}; choose one of {sorted(_SCHEDULES)}")
    schedule = WarmupParamScheduler(
        _SCHEDULES[name](options),
        options.WARMUP_FACTOR,
        min(1.0, options.WARMUP_ITERS / length),
        options.WARMUP_METHOD,
        options.RESCALE_INTERVAL,
    )
    return LRMultiplier(optimizer, schedule, length)


def _multi_step(options: CfgNode) -> schedules.ParamScheduler:
    length = options.MAX_ITER
    milestones = [step for step in options.STEPS if step <= length]
    if len(milestones) < len(options.STEPS):
        logging.getLogger(__name__).warning(
            "SOLVER.STEPS %s after SOLVER.MAX_ITER %d are ignored", options.STEPS, length
        )
    factors = [options.GAMMA**drops for drops in range(len(milestones) + 1)]
    return schedules.MultiStepParamScheduler(factors, length, milestones)


def _cosine(options: CfgNode) -> schedules.ParamScheduler:
    first, last = options.BASE_LR, options.BASE_LR_END
    if not 0.0 <= last <= first:
        raise ValueError(f"SOLVER.BASE_LR_END is {last}, not from 0 to SOLVER.BASE_LR, {first}")
    return schedules.CosineParamScheduler(1.0, last / first)


def _fixed_gamma(options: CfgNode) -> schedules.ParamScheduler:
    drops, length = options.NUM_DECAYS, options.MAX_ITER
    return schedules.StepWithFixedGammaParamScheduler(1.0, drops, options.GAMMA, length)


_SCHEDULES: dict[str, Callable[[CfgNode], schedules.ParamScheduler]] = {
    "WarmupMultiStepLR": _multi_step,
    "WarmupCosineLR": _cosine,
    "WarmupStepWithFixedGammaLR": _fixed_gamma,
}

__getattr__ = module_getattr(__name__)
