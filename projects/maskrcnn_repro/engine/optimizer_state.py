"""The state of an optimiser that a checkpoint holds: whether it fits, and what of it today's config replaces."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from maskrcnn_repro.errors import CheckpointError

import torch
from detectron2.solver import LRMultiplier

Group = dict[str, Any]
_TELLING = frozenset({"momentum", "betas"})
"""Entries of a parameter group that SGD alone has, or AdamW alone."""


def check_state(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Raise CheckpointError if a state is that of another optimiser, or of another model.

    PyTorch would load it, and fail in the next step, or read memory that is not there.
    """
    own, theirs = optimizer.param_groups, state["param_groups"]
    sizes = [[len(group["params"]) for group in groups] for groups in (own, theirs)]
    if sizes[0] != sizes[1]:
        raise CheckpointError(
            f"The checkpoint's optimiser has {sum(sizes[1])} parameters in {len(theirs)} groups, that of this "
            f"config {sum(sizes[0])} in {len(own)}: it is of another model."
        )
    for group, other in zip(own, theirs, strict=True):
        kinds = [_TELLING & entries.keys() for entries in (group, other)]
        if kinds[0] != kinds[1]:
            raise CheckpointError(
                f"The checkpoint's optimiser has {_names(kinds[1])}, that of SOLVER.OPTIMIZER "
                f"{_names(kinds[0])}: give the optimiser of the checkpoint, or begin with a new one by "
                "--accept-change SOLVER.OPTIMIZER."
            )
    parameters = list(itertools.chain.from_iterable(group["params"] for group in own))
    places = itertools.chain.from_iterable(group["params"] for group in theirs)
    for parameter, place in zip(parameters, places, strict=True):
        for name, value in state["state"].get(place, {}).items():
            shape = tuple(getattr(value, "shape", ()))
            if shape and shape != tuple(parameter.shape):
                raise CheckpointError(
                    f"The checkpoint's optimiser has {name} of shape {shape} for a parameter of shape "
                    f"{tuple(parameter.shape)}: it is of another model."
                )


def hyperparameters(optimizer: torch.optim.Optimizer) -> list[Group]:
    """Return what the config says of each parameter group: rates, momentum, decay."""
    return [
        {name: value for name, value in group.items() if name != "params"}
        for group in optimizer.param_groups
    ]


def renew(
    optimizer: torch.optim.Optimizer, scheduler: Any, configured: Sequence[Group] | None
) -> None:
    """Let the schedule of today's config give the learning rates, after a checkpoint has been loaded.

    Args:
        optimizer: with the checkpoint's values.
        scheduler: of the learning rate; only Detectron2's own is a function of the iteration alone.
        configured: of :func:`hyperparameters`, before it was loaded; None to keep the checkpoint's.
    """
    if not isinstance(scheduler, LRMultiplier):
        return
    for group, values in zip(optimizer.param_groups, configured or (), strict=False):
        group.update(values)
    if configured:
        scheduler.base_lrs = [group["initial_lr"] for group in configured]
    for group, rate in zip(optimizer.param_groups, scheduler.get_lr(), strict=True):
        group["lr"] = rate


def _names(entries: frozenset[str]) -> str:
    return " and ".join(sorted(entries)) or "no momentum"
