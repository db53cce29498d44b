"""Optimizer, parameter groups, gradient clipping and schedule from the ``SOLVER`` section of a config."""

import logging
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any

import torch
from fvcore.common.param_scheduler import (
    CosineParamScheduler,
    MultiStepParamScheduler,
    ParamScheduler,
    StepWithFixedGammaParamScheduler,
)
from torch import nn

from detectron2._absent import module_getattr
from detectron2.config import CfgNode

from .lr_scheduler import LRMultiplier, LRScheduler, WarmupParamScheduler

ParamGroup = dict[str, Any]
"""A parameter group as torch's optimizers take it: "params", perhaps "param_names", and options."""

NORM_LAYERS = (
    nn.modules.batchnorm._BatchNorm,  # 1d, 2d, 3d and synchronised
    nn.modules.instancenorm._InstanceNorm,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.LocalResponseNorm,
)


class GradientClipType(Enum):
    """Values of ``SOLVER.CLIP_GRADIENTS.CLIP_TYPE``."""

    VALUE = "value"
    NORM = "norm"


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """Build SGD with the parameter groups and the gradient clipping that the config asks for."""
    solver = cfg.SOLVER
    groups = get_default_optimizer_params(
        model,
        base_lr=solver.BASE_LR,
        weight_decay_norm=solver.WEIGHT_DECAY_NORM,
        bias_lr_factor=solver.BIAS_LR_FACTOR,
        weight_decay_bias=solver.WEIGHT_DECAY_BIAS,
    )
    sgd = torch.optim.SGD(
        groups,
        solver.BASE_LR,
        momentum=solver.MOMENTUM,
        weight_decay=solver.WEIGHT_DECAY,
        nesterov=solver.NESTEROV,
        foreach=True,  # one kernel for many tensors
    )
    return maybe_add_gradient_clipping(cfg, sgd)


def maybe_add_gradient_clipping(
    cfg: CfgNode, optimizer: torch.optim.Optimizer | type[torch.optim.Optimizer]
) -> torch.optim.Optimizer | type[torch.optim.Optimizer]:
    """Let `optimizer` clip the gradient of each parameter by itself before every step.

    Args:
        cfg: reads ``SOLVER.CLIP_GRADIENTS``.
        optimizer: an optimizer, changed in place, or an optimizer class.

    Returns:
        The same object if clipping is disabled or an optimizer was given, else a subclass.
    """
    options = cfg.SOLVER.CLIP_GRADIENTS
    if not options.ENABLED:
        return optimizer
    if isinstance(optimizer, type):
        return _clipping_subclass(optimizer, _gradient_clipper(options))
    optimizer.__class__ = _clipping_subclass(type(optimizer), _gradient_clipper(options))
    return optimizer


def _gradient_clipper(options: CfgNode) -> Callable[[torch.Tensor], Any]:
    bound, order = options.CLIP_VALUE, options.NORM_TYPE
    if GradientClipType(options.CLIP_TYPE) is GradientClipType.VALUE:
        return lambda parameter: nn.utils.clip_grad_value_(parameter, bound)
    return lambda parameter: nn.utils.clip_grad_norm_(parameter, bound, order)


def _clipping_subclass(
    base: type[torch.optim.Optimizer], clip: Callable[[torch.Tensor], Any]
) -> type[torch.optim.Optimizer]:
    def step(self: torch.optim.Optimizer, closure: Callable | None = None) -> Any:
        for group in self.param_groups:
            for parameter in group["params"]:
                clip(parameter)
        return base.step(self, closure)

    return type(f"{base.__name__}WithGradientClip", (base,), {"step": step})


def get_default_optimizer_params(
    model: nn.Module,
    base_lr: float | None = None,
    weight_decay: float | None = None,
    weight_decay_norm: float | None = None,
    bias_lr_factor: float | None = 1.0,
    weight_decay_bias: float | None = None,
    lr_factor_func: Callable[[str], float] | None = None,
    overrides: dict[str, dict[str, float]] | None = None,
) -> list[ParamGroup]:
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
        ValueError: a factor on the rate without `base_lr`, or "bias" both in `overrides` and in an argument.
    """
    overrides = dict(overrides or {})
    scales_bias = bias_lr_factor not in (None, 1.0)
    for argument, is_set in (
        ("bias_lr_factor", scales_bias),
        ("lr_factor_func", lr_factor_func is not None),
    ):
        if is_set and base_lr is None:
            raise ValueError(f"{argument} requires base_lr")
    bias_options = _given(
        lr=base_lr * bias_lr_factor if scales_bias else None, weight_decay=weight_decay_bias
    )
    if bias_options:
        if "bias" in overrides:
            raise ValueError("'bias' stands in overrides and in an argument of its own; give one")
        overrides["bias"] = bias_options

    groups = []
    for module_name, name, parameter, is_norm in _trainable_parameters(model):
        options = _given(lr=base_lr, weight_decay=weight_decay)
        if is_norm:
            options |= _given(weight_decay=weight_decay_norm)
        if lr_factor_func is not None:
            options["lr"] *= lr_factor_func(f"{module_name}.{name}")
        groups.append({"params": [parameter]} | options | overrides.get(name, {}))
    return reduce_param_groups(groups)


def _given(**options: float | None) -> dict[str, float]:
    return {name: value for name, value in options.items() if value is not None}


def _trainable_parameters(model: nn.Module) -> Iterable[tuple[str, str, nn.Parameter, bool]]:
    """Yield module name, own name, parameter, and whether its module normalises."""
    seen = set()
    for module_name, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad and parameter not in seen:
                seen.add(parameter)
                yield module_name, name, parameter, isinstance(module, NORM_LAYERS)


def _options(group: ParamGroup) -> dict[str, Any]:
    return {key: value for key, value in group.items() if key not in ("params", "param_names")}


def _expand_param_groups(params: list[ParamGroup]) -> list[ParamGroup]:
    """Give every parameter a group of its own; a later group's options win."""
    by_param: dict[Any, ParamGroup] = {}
    for group in params:
        for index, param in enumerate(group["params"]):
            single = by_param.setdefault(param, {"params": [param]})
            single.update(_options(group))
            if "param_names" in group:
                single["param_names"] = [group["param_names"][index]]
    return list(by_param.values())


def reduce_param_groups(params: list[ParamGroup]) -> list[ParamGroup]:
    """Merge groups with equal options, in order of first appearance.

    Fewer groups mean fewer launches of the optimizer's multi-tensor kernels.
    """
    merged: dict[tuple, ParamGroup] = {}
    for single in _expand_param_groups(params):
        options = _options(single)
        group = merged.setdefault(tuple(options.items()), options | {"params": []})
        group["params"] += single["params"]
        if "param_names" in single:
            group.setdefault("param_names", []).extend(single["param_names"])
    return list(merged.values())


def build_lr_scheduler(cfg: CfgNode, optimizer: torch.optim.Optimizer) -> LRScheduler:
    """Build the schedule ``SOLVER.LR_SCHEDULER_NAME`` with its warmup.

    Raises:
        ValueError: unknown name, or a final rate outside [0, ``SOLVER.BASE_LR``].
    """
    solver = cfg.SOLVER
    if solver.LR_SCHEDULER_NAME not in _SCHEDULES:
        raise ValueError(
            f"Unknown LR scheduler: {solver.LR_SCHEDULER_NAME!r}; SOLVER.LR_SCHEDULER_NAME must be "
            f"one of {sorted(_SCHEDULES)}"
        )
    schedule = WarmupParamScheduler(
        _SCHEDULES[solver.LR_SCHEDULER_NAME](solver),
        warmup_factor=solver.WARMUP_FACTOR,
        warmup_length=min(1.0, solver.WARMUP_ITERS / solver.MAX_ITER),
        warmup_method=solver.WARMUP_METHOD,
        rescale_interval=solver.RESCALE_INTERVAL,
    )
    return LRMultiplier(optimizer, schedule, solver.MAX_ITER)


def _multi_step(solver: CfgNode) -> ParamScheduler:
    milestones = [step for step in solver.STEPS if step <= solver.MAX_ITER]
    if len(milestones) < len(solver.STEPS):
        logging.getLogger(__name__).warning(
            "SOLVER.STEPS %s: steps after SOLVER.MAX_ITER %d are ignored",
            solver.STEPS,
            solver.MAX_ITER,
        )
    factors = [solver.GAMMA**drops for drops in range(len(milestones) + 1)]
    return MultiStepParamScheduler(factors, solver.MAX_ITER, milestones)


def _cosine(solver: CfgNode) -> ParamScheduler:
    if not 0.0 <= solver.BASE_LR_END <= solver.BASE_LR:
        raise ValueError(
            f"SOLVER.BASE_LR_END is {solver.BASE_LR_END}; it must lie between 0 and SOLVER.BASE_LR, "
            f"{solver.BASE_LR}"
        )
    return CosineParamScheduler(1.0, solver.BASE_LR_END / solver.BASE_LR)


def _step_with_fixed_gamma(solver: CfgNode) -> ParamScheduler:
    return StepWithFixedGammaParamScheduler(
        1.0, solver.NUM_DECAYS, solver.GAMMA, num_updates=solver.MAX_ITER
    )


_SCHEDULES: dict[str, Callable[[CfgNode], ParamScheduler]] = {
    "WarmupMultiStepLR": _multi_step,
    "WarmupCosineLR": _cosine,
    "WarmupStepWithFixedGammaLR": _step_with_fixed_gamma,
}

__getattr__ = module_getattr(__name__)
