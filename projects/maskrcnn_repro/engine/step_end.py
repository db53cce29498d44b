"""The one place that decides, at the end of a step, whether a training goes on, saves, stops or fails.

Whoever wants a say asks (:meth:`StepEnd.ask`); nobody else ends a training. Signals, the guard of numbers and
early stopping differ in what they ask for alone. Only processes that hang, and never come to the end of a
step, are ended elsewhere (:mod:`maskrcnn_repro.engine.stall`).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import IntEnum

from maskrcnn_repro.errors import ConfigError, Ended

import torch
import torch.distributed as dist
from detectron2.engine import HookBase
from detectron2.utils import comm

logger = logging.getLogger(__name__)
STATUSES = 256
"""Exit statuses are below."""


class Action(IntEnum):
    """What happens at the end of a step; of several that are asked for, the greatest."""

    GO_ON = 0
    SAVE = 1
    """Write a checkpoint and go on."""
    STOP = 2
    """Write a checkpoint and leave the loop."""
    FAIL = 3
    """Leave the loop; no checkpoint is written."""


@dataclass(frozen=True)
class Request:
    """What one process asks for."""

    action: Action
    status: int = 0
    """Exit status of STOP and FAIL, 0 to 255; of equal actions the greater one counts. 0 with STOP ends the
    training as if it had reached ``SOLVER.MAX_ITER``, with ``model_final.pth`` and the last evaluation."""
    reason: str = ""
    """For the line that is logged: a clause such as "SIGTERM" or "the losses are not finite"."""

    def __post_init__(self) -> None:
        """Raise ConfigError for what would be taken for another request."""
        if not isinstance(self.action, Action) or self.status not in range(STATUSES):
            raise ConfigError(
                f"{self} cannot be asked for: its action must be one of {', '.join(map(str, Action.__members__))} of "
                f"Action, its status a whole number from 0 to {STATUSES - 1}."
            )


class StepEnd(HookBase):
    """Hook that agrees over all processes on what happens after a step, and does it.

    It stands behind the hooks whose state a checkpoint keeps, those of ``Trainer.build_hooks`` among them,
    and in front of the periodic checkpoint. What is asked for before that, in ``run_step``, in
    ``after_backward`` or in ``after_step`` of an earlier hook, is decided in the same step, so that a FAIL
    keeps this step's weights out of every file. What is asked for later, such as by an evaluation, is decided
    at the end of the next step; a hook that runs in all processes alike may call :meth:`decide` instead of
    waiting.

    With several processes a step costs one ``all_reduce`` of one int; with one process nothing.

    The trainer has two methods, called in every process, which raise in all of them or in none: ``save``
    writes the checkpoint of the current iteration, ``finish`` what a completed training leaves.

    Args:
        device: of the flag: that of the model, which the default process group can send.
    """

    def __init__(self, device: torch.device | str) -> None:
        self._device = device
        self._asked: list[Request] = []

    def ask(self, request: Request) -> None:
        """Ask for an action at the end of the step; from any process, also from a signal handler.

        Raises:
            ConfigError: it is no request.
        """
        if not isinstance(request, Request):
            raise ConfigError(
                f"step_end.ask takes a maskrcnn_repro.engine.step_end.Request, not {request!r:.80}."
            )
        # One append: a signal handler may run between any two instructions of another call.
        self._asked.append(request)

    def after_step(self) -> None:
        """Decide about this step."""
        self.decide()

    def decide(self) -> None:
        """Agree on what was asked for, and do it; called in every process.

        Raises:
            Ended: the training stops or fails, with that exit status.
        """
        asked, self._asked = self._asked, []
        own = max((_code(request) for request in asked), default=0)
        code = self._greatest(own)
        if code == 0:
            return
        action, status = Action(code // STATUSES), code % STATUSES
        reasons = comm.all_gather([r.reason for r in asked if r.reason and _code(r) == code])
        reason = next((text for texts in reasons for text in texts), "asked for")
        self._act(action, status, reason)

    def _greatest(self, code: int) -> int:
        if comm.get_world_size() == 1:
            return code
        flag = torch.tensor([code], dtype=torch.int32, device=self._device)
        dist.all_reduce(flag, op=dist.ReduceOp.MAX)
        return int(flag.item())

    def _act(self, action: Action, status: int, reason: str) -> None:
        done = self.trainer.iter + 1
        if action is Action.FAIL:
            logger.error("Failed in iteration %d, nothing is saved: %s", done - 1, reason)
            raise Ended(status)
        if action is Action.STOP and status == 0:
            logger.info("Stopped after %d iterations: %s", done, reason)
            self.trainer.finish()
            raise Ended(0)
        self.trainer.save()
        if action is Action.STOP:
            logger.warning(
                "Saved after %d iterations and stopped: %s; --resume goes on from here (status %d)",
                done,
                reason,
                status,
            )
            raise Ended(status)
        logger.info("Saved after %d iterations: %s", done, reason)


def _code(request: Request) -> int:
    return int(request.action) * STATUSES + request.status
