"""The guard of numbers: stops a training whose losses, gradients or weights are not finite, and says why."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from maskrcnn_repro.engine.gradient_norm import norm_of
from maskrcnn_repro.engine.guard.causes import cause_of
from maskrcnn_repro.engine.guard.dump import generator_states, write_step
from maskrcnn_repro.engine.guard.evidence import Evidence, classes_of, image_name
from maskrcnn_repro.engine.step_end import Action, Request
from maskrcnn_repro.errors import ConfigError, listing
from maskrcnn_repro.utils.finite import not_finite

import torch
from detectron2.engine import HookBase
from detectron2.utils import comm
from torch import nn

logger = logging.getLogger(__name__)
STATUS = 3
"""Exit status of a training whose numbers are not finite."""
HISTORY = 50


class NumbersGuard(HookBase):
    """Hook that fails a step whose losses or gradients are not finite, and keeps such weights out of files.

    It stands in front of the hook that decides (``StepEnd``) and asks it. Losses and the norm of all gradients
    are looked at in every step, weights and buffers before they are saved. A failing step does not move the
    weights of its process: its gradients are dropped. All that is needed to do it again is written to
    ``failure/rankN.pth``, for ``maskrcnn replay``.

    In mixed precision the gradients are the loss scale's affair: a step with infinite ones is skipped, and
    the scale halved, until it is at most 1.

    Args:
        model: called with a batch in training, returns losses.
        bare: the model whose weights are saved.
        optimizer: of its parameters.
        folder: OUTPUT_DIR.
        scaler: of the losses in mixed precision.
    """

    def __init__(
        self,
        model: nn.Module,
        bare: nn.Module,
        optimizer: torch.optim.Optimizer,
        folder: Path,
        scaler: torch.amp.GradScaler | None = None,
    ) -> None:
        self._bare, self._optimizer, self._folder, self._scaler = bare, optimizer, folder, scaler
        self._norm = norm_of(optimizer)
        self._batch: list[dict[str, Any]] = []
        self._generators: dict[str, Any] = {}
        self._losses: Mapping[str, torch.Tensor] = {}
        self._history: deque[float] = deque(maxlen=HISTORY)
        self._failed = False
        model.register_forward_hook(self._keep_losses)

    def watched(self, loader: Iterable[list[dict[str, Any]]]) -> Iterator[list[dict[str, Any]]]:
        """Yield the batches of a loader; the last one is kept, with the generators' states as they are then.

        Raises:
            ConfigError: the loader ends.
        """
        count = 0
        for batch in loader:
            self._batch, self._generators = batch, generator_states()
            yield batch
            count += 1
        raise ConfigError(
            f"The training loader ends after {count} batches; it must be endless, so that each iteration has one."
        )

    def after_backward(self) -> None:
        """Look at the losses and at the gradients of this step."""
        total = torch.stack([loss.detach().float().sum() for loss in self._losses.values()]).sum()
        norm = torch.zeros_like(total) if self._scaler else self._norm.measure()
        loss, gradient = torch.stack([total, norm.to(total)]).tolist()
        if math.isfinite(loss) and math.isfinite(gradient) and not self._scale_is_lost():
            self._history.append(loss)
        else:
            self.fail(gradient)

    def fail(self, norm: float = 0.0) -> None:
        """Ask for this step to fail, once; it is written to a file in the processes whose numbers are wrong.

        Args:
            norm: of all gradients, if it was computed.
        """
        if self._failed:
            return
        self._failed = True
        evidence = self._evidence(norm)
        if evidence.is_empty:
            self.trainer.step_end.ask(Request(Action.FAIL, STATUS))
            return
        cause = cause_of(evidence)
        what = _describe(evidence)
        file = self._write(evidence, what)
        images = listing((Path(image_name(image)).name for image in self._batch), 8)
        reason = (
            f"{what}. Images: {images}. Likely cause: {cause.sentence}. Remedy: {cause.remedy}. To do the step "
            f"again: maskrcnn replay {file}"
        )
        if not self._scaler:
            # Without gradients the optimiser moves nothing: the weights stay those from before this step.
            self._optimizer.zero_grad(set_to_none=True)
        self.trainer.step_end.ask(Request(Action.FAIL, STATUS, reason))

    def check_weights(self) -> None:
        """Fail this step if a weight or a buffer is not finite; before every save, in any process."""
        if not_finite([*self._bare.named_parameters(), *self._bare.named_buffers()]):
            self.fail()

    def _keep_losses(self, _: nn.Module, __: Any, losses: Any) -> None:
        self._losses = losses if isinstance(losses, Mapping) else {"total_loss": losses}

    def _scale_is_lost(self) -> bool:
        return self._scaler is not None and self._scaler.get_scale() <= 1

    def _evidence(self, norm: float) -> Evidence:
        parameters = list(self._bare.named_parameters())
        gradients = [(name, p.grad) for name, p in parameters if p.grad is not None]
        return Evidence(
            cfg=self.trainer.cfg,
            iteration=self.trainer.iter,
            first=self.trainer.iter == self.trainer.start_iter,
            images=self._batch,
            losses={name: float(loss.detach()) for name, loss in self._losses.items()},
            gradients=not_finite(gradients),
            norm=norm,
            weights=not_finite(parameters),
            buffers=not_finite(self._bare.named_buffers()),
            history=list(self._history),
            scale=self._scaler.get_scale() if self._scaler else None,
            classes=classes_of(self._bare),
        )

    def _write(self, evidence: Evidence, what: str) -> Path:
        """Write this step and return its file."""
        file = self._folder / "failure" / f"rank{comm.get_rank()}.pth"
        step = {
            "what": what,
            "config": evidence.cfg.dump(),
            "iteration": evidence.iteration,
            "rank": comm.get_rank(),
            "processes": comm.get_world_size(),
            "model": self._bare.state_dict(),
            "batch": self._batch,
            "generators": self._generators,
            "losses": {name: loss.detach().cpu() for name, loss in self._losses.items()},
            "norm": evidence.norm,
        }
        try:
            write_step(file, step)
        except (
            OSError,
            RuntimeError,
        ) as error:  # PyTorch's writer raises the latter on a full disk
            logger.warning("The failed step could not be kept in %s: %s", file, error)
        return file


def _describe(evidence: Evidence) -> str:
    if wrong := evidence.wrong_losses:
        return ", ".join(f"{name} is {evidence.losses[name]}" for name in wrong)
    if evidence.gradients or not math.isfinite(evidence.norm):
        return (
            f"gradients of {listing(evidence.gradients, 3)} are not finite (norm {evidence.norm:g})"
        )
    if names := [*evidence.weights, *evidence.buffers]:
        return f"weights {listing(names, 3)} are not finite and are not saved"
    return f"the losses' scale fell to {evidence.scale}"
