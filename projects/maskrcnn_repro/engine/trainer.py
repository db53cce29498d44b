"""The trainer: Detectron2's loop, with the method names of its ``DefaultTrainer``, made to be subclassed.

docs/trainer.md shows a subclass with a hook, a mapper and an evaluator of its own.
"""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from maskrcnn_repro.checkpoint.checkpointer import Checkpointer
from maskrcnn_repro.checkpoint.class_map import load_mapped
from maskrcnn_repro.checkpoint.folder import FINAL
from maskrcnn_repro.data.loader import Mapper, build_test_loader, build_train_loader
from maskrcnn_repro.data.mapper import TrainMapper
from maskrcnn_repro.engine.accumulation import build_step
from maskrcnn_repro.engine.backbone_file import backbone_writer
from maskrcnn_repro.engine.contracts import check_model, check_optimizer, check_returns
from maskrcnn_repro.engine.data_parallel import distributed, sync_buffers
from maskrcnn_repro.engine.fixed_hooks import WRITE_PERIOD, Clock, Evaluations, StepSeed
from maskrcnn_repro.engine.guard.guard import NumbersGuard
from maskrcnn_repro.engine.launch import run_agreed
from maskrcnn_repro.engine.optimizer import build_optimizer
from maskrcnn_repro.engine.optimizer_state import check_state, hyperparameters, renew
from maskrcnn_repro.engine.phases import Phase, Phases
from maskrcnn_repro.engine.precision import scales_losses
from maskrcnn_repro.engine.preparation import prepare
from maskrcnn_repro.engine.report import check_expected, evaluation_folder, write_report
from maskrcnn_repro.engine.resume import accepted_since, facts_of
from maskrcnn_repro.engine.run_log import cut_back
from maskrcnn_repro.engine.saving import PeriodicCheckpointer, best_model
from maskrcnn_repro.engine.signals import SignalRequests
from maskrcnn_repro.engine.step_end import StepEnd
from maskrcnn_repro.engine.trackers import build_trackers
from maskrcnn_repro.errors import CheckpointError, ConfigError, Ended
from maskrcnn_repro.evaluation.coco import Metrics, build_evaluator, evaluate
from maskrcnn_repro.utils.provenance import Progress

import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase, TrainerBase, default_writers, hooks
from detectron2.evaluation import DatasetEvaluator
from detectron2.modeling import build_model
from detectron2.solver import build_lr_scheduler
from detectron2.utils import comm
from torch import nn

logger = logging.getLogger(__name__)


class Trainer(TrainerBase):
    """Trains and evaluates the model of a config; override a ``build_*`` method to replace a part.

    As Detectron2's ``DefaultTrainer``, with an exact resume and the same numbers for any number of
    data-loader workers. :meth:`build_hooks` names additional hooks alone: clock, seeds, schedule,
    checkpoints, evaluation and writers stand around them and cannot be lost.

    Args:
        cfg: of :func:`maskrcnn_repro.engine.resolve.resolve_config`, with ``SEED`` 0 or more.

    Attributes:
        cfg: the config.
        model: the model, in DistributedDataParallel if there are several processes.
        optimizer: the optimiser.
        scheduler: of the learning rate.
        checkpointer: writes and reads ``OUTPUT_DIR``.
        clock: seconds spent in iterations.
        phases: what this process is doing.
        step_end: decides at the end of a step; ask it to save, to stop or to fail.
        guard: fails a step whose numbers are not finite.
        best: keeps the best weights; None without ``TEST.BEST_METRIC``.
        evaluates: whether an evaluation is under way.

    Raises:
        ConfigError: ``SEED`` is negative; a run draws one before it builds its trainer.
    """

    iter: int

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        check_returns(cls)

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        if cfg.SEED < 0:
            raise ConfigError(f"SEED {cfg.SEED} is no seed of a Trainer; give it one of 0 or more.")
        self.cfg = cfg
        self.max_iter = cfg.SOLVER.MAX_ITER
        self._bare_model = self.build_model(cfg)
        prepare(self._bare_model, cfg)
        logger.debug("Model:\n%s", self._bare_model)
        self.optimizer = self.build_optimizer(cfg, self._bare_model)
        check_optimizer(self.optimizer, self._bare_model)
        self.scheduler = self.build_lr_scheduler(cfg, self.optimizer)
        self.model = distributed(self._bare_model)
        self._step_seed = StepSeed(cfg.SEED)
        self._step = build_step(cfg, self.model, self.optimizer, self._step_seed.seed_part)
        self._step.after_backward = self.after_backward
        self.checkpointer = Checkpointer(
            self.model,
            cfg.OUTPUT_DIR,
            facts=facts_of(cfg),
            least=cfg.MODEL.WEIGHTS_MIN_COVERAGE,
            trainer=weakref.proxy(self),
        )
        self.clock = Clock()
        check_model(self._bare_model)  # before the phases, which read the images of a batch
        self.phases = Phases(self._bare_model)
        self.step_end = StepEnd(cfg.MODEL.DEVICE)
        self.guard = NumbersGuard(
            self._step.model,
            self._bare_model,
            self.optimizer,
            Path(cfg.OUTPUT_DIR),
            self._step.grad_scaler if scales_losses(cfg) else None,
        )
        self.best = best_model(cfg)
        self.evaluates = False
        self._results: dict[str, Any] = {}
        self.register_hooks(self._all_hooks())

    # --- parts to replace

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        """Return the model with random weights, in the memory layout of ``MODEL.CHANNELS_LAST``."""
        model = build_model(cfg)
        return model.to(memory_format=torch.channels_last) if cfg.MODEL.CHANNELS_LAST else model

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        """Return the optimiser of ``SOLVER.OPTIMIZER`` over the parameters of ``model``."""
        return build_optimizer(cfg, model)

    @classmethod
    def build_lr_scheduler(cls, cfg: CfgNode, optimizer: torch.optim.Optimizer) -> Any:
        """Return the schedule of ``SOLVER.LR_SCHEDULER_NAME``, called once an iteration."""
        return build_lr_scheduler(cfg, optimizer)

    @classmethod
    def build_train_mapper(cls, cfg: CfgNode) -> Mapper:
        """Return what makes the model's input of a dataset dict in training.

        ``DATALOADER.CACHE_IMAGES`` and stored proposals work with every mapper that reads its image with
        ``detectron2.data.detection_utils.read_image``, as subclasses of ``DatasetMapper`` do.
        """
        return TrainMapper(cfg, True)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode, first: int = 0) -> Iterable[list[dict[str, Any]]]:
        """Return the endless loader of training batches.

        Args:
            cfg: the config.
            first: the iteration whose batch comes first; a resumed training is exact if this is heeded.
        """
        return build_train_loader(cfg, first, cls.build_train_mapper(cfg))

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, name: str) -> Iterable[list[dict[str, Any]]]:
        """Return the loader of all images of a data set, for evaluation."""
        return build_test_loader(cfg, name)

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, name: str, folder: Path) -> DatasetEvaluator:
        """Return the evaluator of a data set; several go into Detectron2's ``DatasetEvaluators``.

        Args:
            cfg: the config.
            name: of the data set.
            folder: for its predictions; reports and pictures read what the default one writes there.
        """
        return build_evaluator(cfg, name, folder)

    def build_hooks(self) -> list[HookBase | None]:
        """Return additional hooks, none by default.

        They run after the update and the schedule of an iteration and before its checkpoint, which keeps
        the state of those that have a ``state_dict``.
        """
        return []

    # --- what they are put together to

    def resume_or_load(self, resume: bool = True) -> None:
        """Continue from the last checkpoint of OUTPUT_DIR, or load ``MODEL.WEIGHTS``.

        Args:
            resume: False, or no checkpoint: start with ``MODEL.WEIGHTS``, if ``MODEL.WEIGHTS_DATASET`` is
                set with its last layers mapped to other classes.

        Raises:
            CheckpointError: the weights cannot be read or do not fit.
        """
        resumes = run_agreed(lambda: resume and self.checkpointer.has_checkpoint())
        if self.cfg.MODEL.WEIGHTS_DATASET and not resumes:
            load_mapped(self._bare_model, self.cfg)
        else:
            self.checkpointer.resume_or_load(self.cfg.MODEL.WEIGHTS, resume=resume)
        if resumes:
            self.start_iter = self.iter + 1
            logger.info("Resuming at iteration %d of %d", self.start_iter, self.max_iter)
        elif resume:
            logger.info("No checkpoint in %s: starting at iteration 0", self.cfg.OUTPUT_DIR)

    def train(self) -> None:
        """Train up to ``SOLVER.MAX_ITER``, or until ``step_end`` ends it; called in every process.

        Raises:
            Ended: it ended early with a status that is not 0.
            UserError: in the main process, the last evaluation does not give ``TEST.EXPECTED_RESULTS``.
        """
        first = self.start_iter
        if self.best:
            self.best.resume(first)
            if self.best.exhausted:
                self.max_iter = min(self.max_iter, first)
        if comm.is_main_process():
            cut_back(Path(self.cfg.OUTPUT_DIR), first, repeats=first >= self.max_iter)
        if first >= self.max_iter:
            logger.warning("%d iterations are done, so nothing is left to train", first)
            # A run that was killed after its last iteration may lack it; the main process looks for all.
            if not comm.all_gather(self.checkpointer.folder.holds(FINAL, self.iter))[0]:
                self.save(FINAL)
        self._step.reset_data_loader(
            lambda: self.guard.watched(self.build_train_loader(self.cfg, first))
        )
        try:
            super().train(first, self.max_iter)
        except Ended as ended:
            if ended.code:
                raise
        finally:
            # Its workers end now: at the exit of the process they would be terminated, which a forked worker does
            # not heed, and which PyTorch takes for a failure of a spawned one.
            self._step.reset_data_loader(lambda: ())
        if self.cfg.DATASETS.TEST:
            check_expected(self.cfg, self._results)

    def save(self, name: str = "") -> None:
        """Write a checkpoint, by default that of the current iteration; called in every process.

        Raises:
            Ended: in every process, if the weights are not finite.
            AgreedError: in every process, if the main one cannot write it.
        """
        self.guard.check_weights()
        self.step_end.decide()
        self.phases.enter(Phase.SAVE)
        last = self.done - 1
        run_agreed(lambda: self.checkpointer.save(name or f"model_{last:07d}", iteration=last))

    @property
    def done(self) -> int:
        """Iterations that are done at the end of a step; before and after the training, all that are done."""
        # Detectron2 counts on after the last iteration, also if there was none.
        return min(self.iter + 1, max(self.max_iter, self.start_iter))

    @property
    def is_complete(self) -> bool:
        """Whether the training is done, be it early; ``after_train`` of hooks also follows on a stop and on a failure."""
        return self.iter >= self.max_iter

    def run_step(self) -> None:
        """Do one iteration: a batch, losses, gradients, an update."""
        self._step.iter = self.iter
        try:
            self._step.run_step()
        except FloatingPointError as error:
            # Of the main process alone, behind the last thing that processes do together: all end the step.
            logger.debug("Failed: %s", error)
            self.guard.fail()

    def finish(self) -> None:
        """Make the current iteration the last one: what runs after a completed training runs after it."""
        self.max_iter = self.iter + 1
        self.save(FINAL)
        self.iter = self.max_iter  # as behind the end of Detectron2's loop

    @classmethod
    def test(cls, cfg: CfgNode, model: nn.Module, folder: Path | None = None) -> Metrics:
        """Evaluate ``model`` on all sets of ``DATASETS.TEST``; called in every process.

        Args:
            cfg: the config.
            model: not in DistributedDataParallel.
            folder: for predictions, one folder for each set; by default ``OUTPUT_DIR/inference``.

        Returns:
            Data set, task, metric: points, 0 to 100; in the main process alone.
        """
        return evaluate(
            cfg,
            model,
            folder or evaluation_folder(cfg),
            loader_of=cls.build_test_loader,
            evaluator_of=cls.build_evaluator,
        )

    @classmethod
    def report(
        cls, cfg: CfgNode, model: nn.Module, folder: Path, progress: Progress
    ) -> dict[str, Any]:
        """Evaluate, and write table, ``results.json`` and picture into ``folder``.

        Returns:
            Metrics by task, or by data set and task if there are several sets; empty in other processes
            than the main one.
        """
        begin = time.perf_counter()
        metrics = cls.test(cfg, model)
        seconds = time.perf_counter() - begin
        if not comm.is_main_process():
            return {}
        return write_report(cfg, metrics, folder, progress, seconds, model)

    # --- what a subclass keeps

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps beside the model: iteration, hooks, optimiser, loss scale."""
        return {**self._step.state_dict(), **super().state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Carry on where a checkpoint stopped.

        Raises:
            CheckpointError: its optimiser is another one, or of another model.
        """
        # A loss scale, where mixed precision is on, may be new: SOLVER.AMP.ENABLED can be accepted.
        state = {"grad_scaler": self._step.state_dict().get("grad_scaler"), **state_dict}
        accepted = accepted_since(self.checkpointer.loaded, self.cfg)
        if "SOLVER.OPTIMIZER" in accepted:
            state["optimizer"] = self.optimizer.state_dict()
        check_state(self.optimizer, state["optimizer"])
        configured = hyperparameters(self.optimizer)
        try:
            super().load_state_dict(state)
            self._step.load_state_dict({k: v for k, v in state.items() if k != "hooks"})
        except (
            ArithmeticError,
            AttributeError,
            LookupError,
            RuntimeError,
            TypeError,
            ValueError,
        ) as error:
            raise CheckpointError(
                f"The checkpoint's state of the training is damaged: {error!r:.200}."
            ) from error
        changed = any(key.startswith("SOLVER.") for key in accepted)
        if self.iter + 1 < self.max_iter:  # behind its end a schedule has no rate
            renew(self.optimizer, self.scheduler, configured if changed else None)

    def _all_hooks(self) -> list[HookBase | None]:
        """Return the hooks in their order.

        What a checkpoint keeps comes before it, and a failing evaluation leaves a checkpoint. The seeds come
        last before a step, so that no hook moves the numbers that it draws.
        """
        before: list[HookBase | None] = [
            self.phases,
            SignalRequests(self.step_end),
            hooks.IterationTimer(),
            self.clock,
            hooks.LRScheduler(self.optimizer, self.scheduler),
        ]
        after: list[HookBase | None] = [
            self._step_seed,
            self.guard,
            self.step_end,
            PeriodicCheckpointer(
                self.cfg.SOLVER.CHECKPOINT_PERIOD, self.cfg.SOLVER.CHECKPOINT_KEEP
            ),
            backbone_writer(self._bare_model, self.cfg),
        ]
        if self.cfg.DATASETS.TEST:
            after += [Evaluations(self.cfg.TEST.EVAL_PERIOD, self._evaluate), self.best]
        if comm.is_main_process():
            writers = default_writers(self.cfg.OUTPUT_DIR, self.max_iter)
            writers += build_trackers(self.cfg)
            after.append(hooks.PeriodicWriter(writers, WRITE_PERIOD))
        return [*before, *self.build_hooks(), *after]

    def _evaluate(self) -> dict[str, Any]:
        self.phases.enter(Phase.EVALUATION)
        sync_buffers(self._bare_model)
        progress = Progress(self.done, self.clock.seconds)
        self.evaluates = True
        try:
            folder = Path(self.cfg.OUTPUT_DIR)
            self._results = self.report(self.cfg, self._bare_model, folder, progress)
        finally:
            self.evaluates = False
        return self._results
