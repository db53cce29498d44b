"""What a process of a training is doing: the phase of its iteration, and the images of its batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any

from detectron2.engine import HookBase
from torch import nn


class Phase(StrEnum):
    """A part of an iteration, or what comes before, between and after iterations."""

    START = "start"
    DATA = "data"
    FORWARD = "forward"
    BACKWARD = "backward"
    UPDATE = "update"
    STEP_END = "end of the step"
    SAVE = "save"
    EVALUATION = "evaluation"

    @property
    def is_even(self) -> bool:
        """Whether it takes about the same time in every iteration and in every process."""
        return self not in (Phase.START, Phase.SAVE, Phase.EVALUATION)


class Phases(HookBase):
    """Hook that follows a training through its phases; register it first.

    Args:
        model: as it is trained and evaluated, not in DistributedDataParallel.

    Attributes:
        phase: the present one.
        images: ids of the images of the last batch that the model was given.
        steps: iterations that this process has done, those before a resumption not counted.
        changed: called when a phase begins, and with every batch of an evaluation.
    """

    def __init__(self, model: nn.Module) -> None:
        self.phase = Phase.START
        self.images: list[str] = []
        self.steps = 0
        self.changed: Callable[[], None] = lambda: None
        model.register_forward_pre_hook(self._before_forward)
        model.register_forward_hook(self._after_forward)

    @property
    def iteration(self) -> int:
        """The present one of the training; 0 in an evaluation alone."""
        return getattr(self.trainer, "iter", 0)

    def enter(self, phase: Phase) -> None:
        """Note the phase that begins."""
        self.phase = phase
        self.changed()

    def before_step(self) -> None:
        """The iteration begins with its data."""
        self.enter(Phase.DATA)

    def after_backward(self) -> None:
        """The update follows."""
        self.enter(Phase.UPDATE)

    def after_step(self) -> None:
        """Other hooks follow."""
        self.steps += 1
        self.enter(Phase.STEP_END)

    def _before_forward(self, model: nn.Module, inputs: Sequence[Any]) -> None:
        self.images = [image_id(sample) for sample in inputs[0]]
        self.enter(Phase.FORWARD if model.training else self.phase)

    def _after_forward(self, model: nn.Module, inputs: object, outputs: object) -> None:
        self.enter(Phase.BACKWARD if model.training else self.phase)


def image_id(sample: Any) -> str:
    """Return the id of an image in a batch, else its file, else "?"."""
    fields = sample if isinstance(sample, dict) else {}
    return str(fields.get("image_id", fields.get("file_name", "?")))
