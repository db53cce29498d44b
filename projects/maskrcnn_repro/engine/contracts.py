"""What foreign code, trainers and models of plug-ins, must not do: return something else, or leave the process."""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from maskrcnn_repro.errors import ConfigError, Ended, UserError

import torch
from detectron2.engine import HookBase
from detectron2.evaluation import DatasetEvaluator
from torch import nn


def _are_hooks(value: object) -> bool:
    return isinstance(value, list | tuple) and all(
        hook is None or isinstance(hook, HookBase) for hook in value
    )


def _are_metrics(value: object) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(tasks, Mapping) and all(isinstance(task, Mapping) for task in tasks.values())
        for tasks in value.values()
    )


RETURNS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "build_model": (lambda value: isinstance(value, nn.Module), "a torch.nn.Module"),
    "build_optimizer": (
        lambda value: isinstance(value, torch.optim.Optimizer),
        "a torch.optim.Optimizer",
    ),
    "build_lr_scheduler": (lambda value: hasattr(value, "step"), "a schedule with a method step"),
    "build_train_mapper": (callable, "what maps a dataset dict to the model's input"),
    "build_train_loader": (lambda value: isinstance(value, Iterable), "what yields batches"),
    "build_test_loader": (lambda value: isinstance(value, Iterable), "what yields batches"),
    "build_evaluator": (
        lambda value: isinstance(value, DatasetEvaluator),
        "a detectron2.evaluation.DatasetEvaluator",
    ),
    "build_hooks": (_are_hooks, "a list of detectron2.engine.HookBase"),
    "test": (_are_metrics, 'metrics as {"data set": {"task": {"metric": 12.3}}}'),
}
"""Method of a trainer: whether a value is what it must return, and what that is in words."""


def check_returns(trainer: type) -> None:
    """Make a subclass of the trainer refuse what its own methods return wrongly.

    The methods raise ConfigError then, which names the class, the method and the value.
    """
    for name in RETURNS.keys() & vars(trainer).keys():
        method = vars(trainer)[name]
        kind = type(method) if isinstance(method, classmethod | staticmethod) else None
        checked = _checked(trainer, name, method.__func__ if kind else method)
        setattr(trainer, name, kind(checked) if kind else checked)


def _checked(trainer: type, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    is_right, words = RETURNS[name]

    @functools.wraps(method)
    def checked(*args: Any, **kwargs: Any) -> Any:
        value = method(*args, **kwargs)
        if not is_right(value):
            raise ConfigError(
                f"{trainer.__module__}.{trainer.__qualname__}.{name} returns {value!r:.80}; it must return {words}."
            )
        return value

    return checked


def check_model(model: nn.Module) -> None:
    """Make a model that is trained refuse, with a ConfigError, wrong batches and wrong losses."""
    model.register_forward_pre_hook(_check_batch)
    model.register_forward_hook(_check_losses)


def _check_batch(model: nn.Module, inputs: tuple[Any, ...]) -> None:
    batch = inputs[0] if inputs else None
    if not (isinstance(batch, list | tuple) and batch and all(isinstance(s, dict) for s in batch)):
        raise ConfigError(
            f"The data loader yields {batch!r:.80}; a batch must be a list of dicts, one for each image."
        )


def _check_losses(model: nn.Module, inputs: object, losses: Any) -> None:
    if not model.training:
        return
    tensors = list(losses.values()) if isinstance(losses, Mapping) else [losses]
    if not (tensors and all(isinstance(t, torch.Tensor) and t.numel() == 1 for t in tensors)):
        raise ConfigError(
            f"Model {type(model).__name__} returns {losses!r:.80} in training; it must return a dict of losses, "
            "each of them a tensor of one number."
        )


@contextmanager
def naming_exits() -> Iterator[None]:
    """Turn an exit within the block that is none of the training's own into a UserError that names its place.

    A ``sys.exit(0)`` in foreign code would otherwise pass for a finished training.
    """
    try:
        yield
    except Ended:
        raise
    except SystemExit as error:
        *_, frame = traceback.extract_tb(error.__traceback__)
        raise UserError(
            f"{frame.name} ({frame.filename}:{frame.lineno}) ends the process by sys.exit({error.code!r}); raise an "
            "exception there, or ask the trainer's step_end to stop."
        ) from None
