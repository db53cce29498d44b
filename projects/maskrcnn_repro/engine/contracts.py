"""What foreign code, trainers and models of plug-ins, must not do: return something else, or leave the process."""

from __future__ import annotations

import functools
import logging
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from maskrcnn_repro.errors import ConfigError, Ended, UserError, listing

import torch
from detectron2.engine import HookBase
from detectron2.evaluation import DatasetEvaluator
from detectron2.modeling import GeneralizedRCNN, ProposalNetwork
from detectron2.structures import Instances
from torch import nn

logger = logging.getLogger(__name__)


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


def check_optimizer(optimizer: torch.optim.Optimizer, model: nn.Module) -> None:
    """Tell which trainable parameters an optimiser leaves as they are.

    Raises:
        ConfigError: it moves none of the model's.
    """
    moved = {id(p) for group in optimizer.param_groups for p in group["params"]}
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    left = [name for name, p in trainable.items() if id(p) not in moved]
    if trainable and len(left) == len(trainable):
        raise ConfigError(
            f"The optimiser {type(optimizer).__name__} has no parameter of the model; build it of the model that "
            "build_optimizer is given."
        )
    if left:
        logger.warning(
            "The optimiser leaves %d of %d trainable parameters as they are: %s",
            len(left),
            len(trainable),
            listing(left, 3),
        )


def check_model(model: nn.Module) -> None:
    """Make a model that is trained refuse, with a ConfigError, wrong batches and wrong losses.

    Raises:
        ConfigError: a mask or keypoint head that it shall have is no module.
    """
    for branch in _branches(model):
        head = getattr(model.roi_heads, f"{branch}_head")
        if not isinstance(head, nn.Module):
            raise ConfigError(
                f"MODEL.ROI_{branch.upper()}_HEAD.NAME builds {head!r:.80}; it must build a torch.nn.Module."
            )
    model.register_forward_pre_hook(_check_batch)
    model.register_forward_hook(_Losses())


def _branches(model: nn.Module) -> list[str]:
    """Return which of Detectron2's two optional branches a model has."""
    heads = getattr(model, "roi_heads", None)
    return [name for name in ("mask", "keypoint") if getattr(heads, f"{name}_on", False)]


def _check_batch(model: nn.Module, inputs: tuple[Any, ...]) -> None:
    batch = inputs[0] if inputs else None
    if not (isinstance(batch, list | tuple) and batch and all(isinstance(s, dict) for s in batch)):
        raise ConfigError(
            f"The data loader yields {batch!r:.80}; a batch must be a list of dicts, one for each image."
        )
    if model.training and isinstance(model, GeneralizedRCNN | ProposalNetwork):
        for sample in batch:
            for problem in _problems(model, sample):
                raise ConfigError(
                    f"Image {sample.get('file_name', '?')!r}: the mapper gives {problem}."
                )


def _problems(model: Any, sample: Mapping[str, Any]) -> Iterator[str]:
    """Yield what Detectron2's models would only fail at, somewhere inside."""
    channels = len(model.pixel_mean)
    image = sample.get("image")
    if not isinstance(image, torch.Tensor):
        yield f"{image!r:.40} as 'image'; it must be a tensor ({channels}, height, width)"
    # Grey images under three means become three equal channels.
    elif image.dim() != 3 or image.size(0) not in (1, channels) or not image.numel():
        yield f"an 'image' of shape {tuple(image.shape)}; it must be ({channels}, height, width)"
    instances = sample.get("instances")
    if not isinstance(instances, Instances):
        yield f"{instances!r:.40} as 'instances'; training needs detectron2.structures.Instances"
        return
    of_branches = [f"gt_{name}s" for name in _branches(model)] if len(instances) else []
    for name in ("gt_boxes", "gt_classes", *of_branches):
        if not instances.has(name):
            yield f"'instances' without {name}"
    classes = getattr(getattr(model, "roi_heads", None), "num_classes", None)
    if classes and len(instances):
        least, most = (int(value) for value in instances.gt_classes.aminmax())
        if least < 0 or most >= classes:
            yield f"gt_classes from {least} to {most}; of {classes} classes they are 0 to {classes - 1}"


class _Losses:
    """Checks the losses of a model in training; tells once of each that nothing is trained by."""

    def __init__(self) -> None:
        self.told: set[str] = set()

    def __call__(self, model: nn.Module, inputs: object, losses: Any) -> None:
        """Raise ConfigError for what is no loss."""
        if not model.training:
            return
        named = losses if isinstance(losses, Mapping) else {"": losses}
        for name, loss in named.items():
            if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
                place = f" for {name!r}" if name else ""
                raise ConfigError(
                    f"Model {type(model).__name__} returns {loss!r:.80}{place} in training; it must return a dict "
                    "of losses, each of them a tensor of one number."
                )
            if not loss.requires_grad and torch.is_grad_enabled() and name not in self.told:
                self.told.add(name)
                logger.warning("%s has no gradient: nothing is trained by it", name or "The loss")
        if not named:
            raise ConfigError(f"Model {type(model).__name__} returns no loss in training.")


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
