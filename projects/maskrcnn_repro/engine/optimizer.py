"""Optimisers by SOLVER.OPTIMIZER, with Detectron2's parameter groups and gradient clipping."""

from __future__ import annotations

from typing import Any

from maskrcnn_repro.engine.gradient_norm import share_norm
from maskrcnn_repro.engine.precision import scales_losses

import torch
from detectron2.config import CfgNode
from detectron2.solver import build_optimizer as build_sgd
from detectron2.solver import get_default_optimizer_params
from detectron2.solver.build import maybe_add_gradient_clipping
from torch import nn

WHOLE_MODEL = "full_model"
"""SOLVER.CLIP_GRADIENTS.CLIP_TYPE: CLIP_VALUE bounds the norm (NORM_TYPE) of all gradients together.

Detectron2's "norm" bounds each parameter's alone; projects built on it use this name for the other.
"""


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """Return Detectron2's SGD (Sec. 3.1) or an AdamW over the same parameter groups."""
    clip = cfg.SOLVER.CLIP_GRADIENTS
    whole = clip.ENABLED and clip.CLIP_TYPE == WHOLE_MODEL
    if whole:
        cfg = cfg.clone()
        cfg.defrost()
        cfg.SOLVER.CLIP_GRADIENTS.ENABLED = False
    if cfg.SOLVER.OPTIMIZER == "SGD":
        optimizer = build_sgd(cfg, model)
    else:
        # A fused step takes the loss scale away itself, so that clipping would see scaled gradients.
        fused = not (scales_losses(cfg) and clip.ENABLED)
        optimizer = maybe_add_gradient_clipping(cfg, _adamw(cfg, model, fused=fused))
    if whole:
        _clip_before_step(optimizer, clip.CLIP_VALUE, clip.NORM_TYPE)
    return optimizer


def _adamw(cfg: CfgNode, model: nn.Module, *, fused: bool) -> torch.optim.AdamW:
    solver = cfg.SOLVER
    groups = get_default_optimizer_params(
        model,
        base_lr=solver.BASE_LR,
        weight_decay_norm=solver.WEIGHT_DECAY_NORM,
        bias_lr_factor=solver.BIAS_LR_FACTOR,
        weight_decay_bias=solver.WEIGHT_DECAY_BIAS,
    )
    implementation: dict[str, Any] = {"fused": True} if fused else {"foreach": True}
    return torch.optim.AdamW(
        groups,
        lr=solver.BASE_LR,
        betas=tuple(solver.BETAS),
        weight_decay=solver.WEIGHT_DECAY,
        **implementation,
    )


def _clip_before_step(optimizer: torch.optim.Optimizer, bound: float, norm_type: float) -> None:
    norm = share_norm(optimizer, norm_type)

    def clip(*_: Any) -> None:
        total = norm.take()
        if not torch.isfinite(total):
            # Scaling by it would make every gradient NaN.
            raise FloatingPointError(f"the gradients' norm is {total.item()} and cannot be clipped")
        nn.utils.clip_grads_with_norm_(norm.parameters(), bound, total)

    optimizer.register_step_pre_hook(clip)
