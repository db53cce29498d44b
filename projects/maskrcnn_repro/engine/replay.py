"""A failed step once more: the same tensors, and the first module whose output is not finite."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from maskrcnn_repro.config import load_config
from maskrcnn_repro.engine.accumulation import whole_model
from maskrcnn_repro.engine.guard.dump import read_step, set_generator_states
from maskrcnn_repro.engine.precision import scales_losses
from maskrcnn_repro.engine.preparation import prepare
from maskrcnn_repro.engine.resolve import resolve_device
from maskrcnn_repro.engine.trainer_name import trainer_of
from maskrcnn_repro.errors import ConfigError
from maskrcnn_repro.utils.finite import not_finite
from maskrcnn_repro.utils.randomness import Purpose, seed_everything

import torch
from detectron2.config import CfgNode
from detectron2.utils.events import EventStorage
from torch import nn


@dataclass(frozen=True)
class Replay:
    """What a failed step computed this time."""

    what: str
    """Why it failed."""
    losses: Mapping[str, torch.Tensor]
    equal: bool
    """Whether all losses are those of the failed step to the last bit."""
    module: str
    """The first module, in the order of their computation, with an output that is not finite; or empty."""
    module_class: str
    gradients: tuple[str, ...]
    """Parameters whose gradients are not finite."""


def replay(file: Path, device: str = "cpu") -> Replay:
    """Do a failed step again: forward and backward pass with the weights and random numbers of then.

    Args:
        file: ``failure/rankN.pth`` of a training.
        device: to compute on; another one than the training's may round otherwise.

    Raises:
        CheckpointError: the file cannot be read, or is no failed step.
        ConfigError: its config does not fit this version; or there is no such device, or it does not compute in the
            training's precision.
    """
    step = read_step(file)
    cfg = _config(step["config"])
    cfg.MODEL.DEVICE = resolve_device(device)
    if scales_losses(cfg) and not cfg.MODEL.DEVICE.startswith("cuda"):
        raise ConfigError(
            f"{file} is a step in float16, which needs a GPU: replay it with --device cuda in place of {device}."
        )
    model = trainer_of(cfg).build_model(cfg)
    prepare(model, cfg)
    model.load_state_dict(step["model"])
    model.train()
    modules = _watch(model)
    set_generator_states(step["generators"])
    # As Detectron2's trainer of float16 does, around the forward pass alone.
    float16 = torch.autocast("cuda", torch.float16, enabled=scales_losses(cfg))
    with float16, EventStorage(step["iteration"]):  # heads count their samples into it
        losses = _wrap_whole_batch(cfg, model, step)(step["batch"])
    sum(losses.values()).backward()
    gradients = [(name, p.grad) for name, p in model.named_parameters() if p.grad is not None]
    name, kind = next(iter(modules), ("", ""))
    return Replay(
        what=step["what"],
        losses={name: loss.detach().cpu() for name, loss in losses.items()},
        equal=_are_same(losses, step["losses"]),
        module=name,
        module_class=kind,
        gradients=tuple(not_finite(gradients)),
    )


def _config(text: str) -> CfgNode:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "config.yaml"
        file.write_text(text, encoding="utf-8")
        return load_config(file)


def _wrap_whole_batch(cfg: CfgNode, model: nn.Module, step: Mapping[str, Any]) -> nn.Module:
    """Return the model for a whole batch, which may have parts (SOLVER.ACCUMULATE)."""
    seed = partial(seed_everything, cfg.SEED, Purpose.STEP, step["iteration"])
    return whole_model(
        cfg,
        model,
        seed_part=lambda part: seed(step["rank"] + part * step["processes"]),
        scale=lambda loss: loss,
    )


def _watch(model: nn.Module) -> list[tuple[str, str]]:
    """Return a list that will hold name and class of each module with an output that is not finite."""
    wrong: list[tuple[str, str]] = []

    def look(module: nn.Module, _: Any, output: Any, *, name: str) -> None:
        if not_finite(("", tensor) for tensor in _tensors(output)):
            wrong.append((name, f"{type(module).__module__}.{type(module).__qualname__}"))

    for name, module in model.named_modules():
        module.register_forward_hook(partial(look, name=name))
    return wrong


def _tensors(output: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors of a module's output, which may be nested."""
    if isinstance(output, torch.Tensor):
        yield output
    elif isinstance(output, Mapping):
        yield from (tensor for value in output.values() for tensor in _tensors(value))
    elif isinstance(output, list | tuple):
        yield from (tensor for value in output for tensor in _tensors(value))


def _are_same(losses: Mapping[str, torch.Tensor], stored: Mapping[str, torch.Tensor]) -> bool:
    """Tell whether losses are equal to the last bit; NaN equals NaN."""
    if losses.keys() != stored.keys():
        return False
    pairs = [(loss.detach().cpu(), stored[name]) for name, loss in losses.items()]
    return all(torch.equal(own, other) or bool(own.isnan() & other.isnan()) for own, other in pairs)
