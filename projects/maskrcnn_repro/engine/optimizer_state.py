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
_NEEDED = frozenset({"lr", "initial_lr", "weight_decay"})
_MOST = 1e30
_OTHER_MODEL = (
    "it is of another model and cannot go on; a new training, in another OUTPUT_DIR, may begin with the weights that "
    "fit, by MODEL.WEIGHTS FILE"
)


def check_state(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Raise CheckpointError if a state is damaged, or that of another optimiser, or of another model.

    PyTorch would load it, and fail in the next step, or read memory that is not there.
    """
    own, theirs = optimizer.param_groups, state["param_groups"]
    if not isinstance(theirs, list) or not all(_is_group(group) for group in theirs):
        raise CheckpointError(
            "The checkpoint's optimiser is damaged: its groups are no parameter groups."
        )
    sizes = [[len(group["params"]) for group in groups] for groups in (own, theirs)]
    if sizes[0] != sizes[1]:
        raise CheckpointError(
            f"The checkpoint's optimiser has {sum(sizes[1])} parameters in {len(theirs)} groups, that of this "
            f"config {sum(sizes[0])} in {len(own)}: {_OTHER_MODEL}."
        )
    for group, other in zip(own, theirs, strict=True):
        _check_group(group, other)
    parameters = list(itertools.chain.from_iterable(group["params"] for group in own))
    places = list(itertools.chain.from_iterable(group["params"] for group in theirs))
    entries = state["state"]
    if places != list(range(len(places))) or not isinstance(entries, dict):
        raise CheckpointError(
            "The checkpoint's optimiser is damaged: its parameters are not in order."
        )
    kinds = {place: _kinds(entry) for place, entry in entries.items()}
    usual = max(kinds.values(), key=list(kinds.values()).count, default=set())
    for place, entry in entries.items():
        is_whole = isinstance(entry, dict) and kinds[place] in (set(), usual)
        if place not in places or not is_whole:
            raise CheckpointError(
                f"The checkpoint's optimiser is damaged at its parameter {place!r}."
            )
        for name, value in entry.items():
            _check_value(str(name), value, tuple(parameters[place].shape))


def _kinds(entry: Any) -> set[tuple[Any, type]]:
    """Return the names in a parameter's entry with the types of their values, the same for all parameters."""
    items = entry.items() if isinstance(entry, dict) else [("", entry)]
    # SGD may have no momentum yet.
    return {(n, torch.Tensor if (n, v) == ("momentum_buffer", None) else type(v)) for n, v in items}


def _is_group(group: Any) -> bool:
    return isinstance(group, dict) and isinstance(group.get("params"), list)


def _check_group(group: Group, other: Group) -> None:
    kinds = [_TELLING & entries.keys() for entries in (group, other)]
    if kinds[0] != kinds[1]:
        raise CheckpointError(
            f"The checkpoint's optimiser has {_names(kinds[1])}, that of SOLVER.OPTIMIZER "
            f"{_names(kinds[0])}: give the optimiser of the checkpoint, or begin with a new one by "
            "--accept-change SOLVER.OPTIMIZER."
        )
    # Releases of PyTorch add entries; it completes them.
    for name in group.keys() & (_NEEDED | other.keys()) - {"params"}:
        if not _is_like(group[name], other.get(name)):
            raise CheckpointError(
                f"The checkpoint's optimiser is damaged: its {name} is {other.get(name)!r:.80}."
            )


def _is_like(value: Any, other: Any) -> bool:
    """Tell whether a value of a group is of the kind of another: numbers, tuples of them, or switches."""
    if isinstance(value, tuple | list):
        is_tuple = isinstance(other, tuple | list) and len(other) == len(value)
        return is_tuple and all(map(_is_like, value, other))
    if value is None or isinstance(value, bool):
        return other is None or isinstance(other, bool)
    return type(other) in (int, float) and abs(other) < _MOST


def _check_value(name: str, value: Any, expected: tuple[int, ...]) -> None:
    if not isinstance(value, torch.Tensor):
        if value is None or _is_like(0, value):
            return
        raise CheckpointError(
            f"The checkpoint's optimiser is damaged: its {name} is {value!r:.80}."
        )
    if value.shape and tuple(value.shape) != expected:
        raise CheckpointError(
            f"The checkpoint's optimiser has {name} of shape {tuple(value.shape)} for a parameter of shape "
            f"{expected}: {_OTHER_MODEL}."
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
