"""The standard training and inference: everything built from a config, every part replaceable."""

import logging
import weakref
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from fvcore.nn.precise_bn import get_bn_modules
from torch import nn

import detectron2.data.transforms as T
from detectron2 import data, evaluation
from detectron2._absent import module_getattr
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.evaluation import DatasetEvaluator as Evaluator
from detectron2.modeling import build_model
from detectron2.solver import build as solvers
from detectron2.utils import comm
from detectron2.utils.events import EventWriter
from detectron2.utils.logger import setup_logger

from . import hooks
from ._setup import *
from .train_loop import AMPTrainer, HookBase, SimpleTrainer, TrainerBase

__all__ = ["DefaultPredictor", "DefaultTrainer"]

_logger = logging.getLogger(__name__)
_IMAGE_CHANNELS = {"BGR": slice(None), "RGB": slice(None, None, -1)}
"""Channel order of a model to the channels of an image that has blue first."""


class DefaultPredictor:
    """Runs the model of a config, with its weights, on one image at a time.

    Attributes:
        cfg: copy of the config.
        model: in evaluation mode, with the weights ``MODEL.WEIGHTS``.
        metadata: of the first test data set, if there is one.
        aug: resizes an image for the model.
        input_format: channel order of the model, "BGR" or "RGB".

    Raises:
        ValueError: ``INPUT.FORMAT`` is neither "BGR" nor "RGB".
    """

    def __init__(self, cfg: CfgNode):
        image = cfg.INPUT
        if image.FORMAT not in _IMAGE_CHANNELS:
            raise ValueError(f"INPUT.FORMAT must be 'BGR' or 'RGB', got {image.FORMAT!r}")
        self.cfg, self.input_format = cfg.clone(), image.FORMAT
        self.aug = T.ResizeShortestEdge([image.MIN_SIZE_TEST] * 2, image.MAX_SIZE_TEST)
        if cfg.DATASETS.TEST:
            self.metadata = data.MetadataCatalog.get(cfg.DATASETS.TEST[0])
        self.model = build_model(self.cfg).eval()
        DetectionCheckpointer(self.model).load(cfg.MODEL.WEIGHTS)

    @torch.no_grad()
    def __call__(self, original_image: np.ndarray) -> dict[str, Any]:
        """Return the model's output for one image.

        Args:
            original_image: (H, W, 3), blue first, values from 0 to 255.

        Returns:
            For a detector "instances", with boxes and masks in pixels of `original_image`.
        """
        height, width, _ = original_image.shape
        image = original_image[..., _IMAGE_CHANNELS[self.input_format]]
        resized = self.aug.get_transform(image).apply_image(image)
        chw = torch.from_numpy(resized.astype(np.float32).transpose(2, 0, 1))
        (output,) = self.model([{"image": chw, "height": height, "width": width}])
        return output


def _of_wrapped(name: str) -> property:
    """Make an attribute of the wrapped trainer one of the wrapper."""
    return property(
        lambda self: getattr(self._trainer, name),
        lambda self, value: setattr(self._trainer, name, value),
    )


class DefaultTrainer(TrainerBase):
    """Trains and evaluates the model of a config.

    Wraps a `SimpleTrainer`, or an `AMPTrainer` if ``SOLVER.AMP.ENABLED``, and adds schedule,
    checkpoints, evaluation and logs as hooks. Override a ``build_*`` method to replace a part::

        trainer = DefaultTrainer(cfg)
        trainer.resume_or_load(resume=False)
        trainer.train()

    Attributes:
        cfg: config, scaled to the number of processes (see `auto_scale_workers`).
        model: wrapped if training is distributed.
        data_loader: yields the training batches.
        optimizer: updates the model.
        scheduler: learning-rate schedule.
        checkpointer: saves model and training state to ``OUTPUT_DIR``.
    """

    _stateful = ("_trainer",)

    def __init__(self, cfg: CfgNode):
        super().__init__()
        if not logging.getLogger("detectron2").isEnabledFor(logging.INFO):
            setup_logger()  # the script has not done it
        self.cfg = cfg = self.auto_scale_workers(cfg, comm.get_world_size())
        self.max_iter = cfg.SOLVER.MAX_ITER

        # This order is fixed: each of them draws random numbers.
        bare = self.build_model(cfg)
        optimizer, loader = self.build_optimizer(cfg, bare), self.build_train_loader(cfg)

        loop = AMPTrainer if cfg.SOLVER.AMP.ENABLED else SimpleTrainer
        self._trainer = loop(create_ddp_model(bare, broadcast_buffers=False), loader, optimizer)
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        owner = weakref.proxy(self)
        self.checkpointer = DetectionCheckpointer(self.model, cfg.OUTPUT_DIR, trainer=owner)
        self.register_hooks(self.build_hooks())

    model = _of_wrapped("model")
    data_loader = _of_wrapped("data_loader")
    optimizer = _of_wrapped("optimizer")

    def resume_or_load(self, resume: bool = True) -> None:
        """Go on from the last checkpoint in ``OUTPUT_DIR``, or load ``MODEL.WEIGHTS``.

        Args:
            resume: go on, with optimizer, schedule and iteration, if there is a checkpoint.
        """
        resumes = resume and self.checkpointer.has_checkpoint()
        self.checkpointer.resume_or_load(self.cfg.MODEL.WEIGHTS, resume=resumes)
        if resumes:
            self.start_iter = self.iter + 1  # the checkpoint holds the last finished iteration

    def build_hooks(self) -> list[HookBase | None]:
        """Return the hooks in the order that they need.

        Statistics of batch norm come before checkpoint and evaluation, which use them; the
        checkpoint before the evaluation, which may fail; the writers last, to write the metrics of
        the others.
        """
        cfg, is_main = self.cfg, comm.is_main_process()
        period, precise = cfg.TEST.EVAL_PERIOD, cfg.TEST.PRECISE_BN
        chosen: list[HookBase | None] = [hooks.IterationTimer(), hooks.LRScheduler()]
        if precise.ENABLED and get_bn_modules(self.model):
            # Its own loader leaves the training's position alone; rare use needs no processes.
            few = cfg.clone()
            few.defrost()
            few.DATALOADER.NUM_WORKERS = 0
            loader = self.build_train_loader(few)
            chosen.append(hooks.PreciseBN(period, self.model, loader, precise.NUM_ITER))
        if is_main:
            every = cfg.SOLVER.CHECKPOINT_PERIOD
            chosen.append(hooks.PeriodicCheckpointer(self.checkpointer, every))
        chosen.append(hooks.EvalHook(period, self._evaluate))
        if is_main:
            chosen.append(hooks.PeriodicWriter(self.build_writers()))
        return chosen

    def _evaluate(self) -> dict[str, Any]:
        results = self._last_eval_results = self.test(self.cfg, self.model)
        return results

    def build_writers(self) -> list[EventWriter]:
        """Return the writers of the metrics."""
        return default_writers(self.cfg.OUTPUT_DIR, self.max_iter)

    def train(self) -> dict[str, Any] | None:
        """Train from `start_iter` to `max_iter`.

        Returns:
            The last evaluation, on the main process and if ``TEST.EXPECTED_RESULTS`` asks to verify
            it.

        Raises:
            AssertionError: results are expected, but nothing was evaluated.
        """
        super().train(self.start_iter, self.max_iter)
        if not self.cfg.TEST.EXPECTED_RESULTS or not comm.is_main_process():
            return None
        results = getattr(self, "_last_eval_results", None)
        if results is None:
            raise AssertionError("TEST.EXPECTED_RESULTS is set, but nothing was evaluated")
        evaluation.verify_results(self.cfg, results)
        return results

    def run_step(self) -> None:
        """Do an iteration of the wrapped trainer."""
        wrapped = self._trainer
        wrapped.iter = self.iter
        wrapped.run_step()

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        """Build and log the model."""
        model = build_model(cfg)
        _logger.info("Model:\n%s", model)
        return model

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        """Build the optimizer."""
        return solvers.build_optimizer(cfg, model)

    @classmethod
    def build_lr_scheduler(cls, cfg: CfgNode, optimizer: torch.optim.Optimizer) -> Any:
        """Build the learning-rate schedule."""
        return solvers.build_lr_scheduler(cfg, optimizer)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Iterable[Any]:
        """Build the endless loader of training batches."""
        return data.build_detection_train_loader(cfg)

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Iterable[Any]:
        """Build the loader of one test data set."""
        return data.build_detection_test_loader(cfg, dataset_name)

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> Evaluator | None:
        """Build the evaluator of one test data set; there is no default.

        Raises:
            NotImplementedError: the subclass does not override it.
        """
        raise NotImplementedError(f"{cls.__name__} does not implement build_evaluator()")

    @classmethod
    def test(
        cls,
        cfg: CfgNode,
        model: nn.Module,
        evaluators: Evaluator | Sequence[Evaluator] | None = None,
    ) -> dict[str, Any]:
        """Evaluate a model on ``DATASETS.TEST``.

        Args:
            cfg: config.
            model: with its weights.
            evaluators: one per data set; None calls `build_evaluator`.

        Returns:
            Metrics by data set, or those of the only one. A data set without evaluator has none.

        Raises:
            AssertionError: the numbers of evaluators and data sets differ.
        """
        names = cfg.DATASETS.TEST
        given = [evaluators] if isinstance(evaluators, Evaluator) else evaluators
        if given is not None and len(given) != len(names):
            raise AssertionError(f"{len(given)} evaluators for {len(names)} data sets")
        results = {}
        for index, name in enumerate(names):
            loader = cls.build_test_loader(cfg, name)
            try:
                evaluator = given[index] if given else cls.build_evaluator(cfg, name)
            except NotImplementedError as error:
                _logger.warning("No evaluator found for %s: %s", name, error)
                results[name] = {}
                continue
            results[name] = evaluation.inference_on_dataset(model, loader, evaluator)
            if comm.is_main_process():
                _logger.info("Evaluation results for %s in csv format:", name)
                evaluation.print_csv_format(results[name])
        return results[names[0]] if len(names) == 1 else results

    @staticmethod
    def auto_scale_workers(cfg: CfgNode, num_workers: int) -> CfgNode:
        """Adapt a config to another number of processes than it was written for.

        The batch of each process stays: total batch and learning rate grow with the processes,
        iterations, steps, warmup and periods shrink (linear scaling, "Training ImageNet in 1
        hour"). So 16 images and rate 0.1 on 8 processes become 32 and 0.2 on 16, and 5000
        iterations 2500.

        Args:
            cfg: ``SOLVER.REFERENCE_WORLD_SIZE`` is the number it was written for; 0 switches this
                off.
            num_workers: the number there is.

        Returns:
            A new config, frozen if `cfg` is, or `cfg` itself if nothing changes.

        Raises:
            AssertionError: the batch cannot be split evenly among the reference processes.
        """
        reference = cfg.SOLVER.REFERENCE_WORLD_SIZE
        if reference in (0, num_workers):
            return cfg
        scaled, factor = cfg.clone(), num_workers / reference
        scaled.defrost()
        solver = scaled.SOLVER
        if solver.IMS_PER_BATCH % reference:
            raise AssertionError(
                f"SOLVER.IMS_PER_BATCH {solver.IMS_PER_BATCH} is no multiple of "
                f"SOLVER.REFERENCE_WORLD_SIZE {reference}"
            )
        solver.IMS_PER_BATCH = round(solver.IMS_PER_BATCH * factor)
        solver.BASE_LR *= factor
        solver.STEPS = tuple(round(step / factor) for step in solver.STEPS)
        for key in ("MAX_ITER", "WARMUP_ITERS", "CHECKPOINT_PERIOD"):
            solver[key] = round(solver[key] / factor)
        scaled.TEST.EVAL_PERIOD = round(cfg.TEST.EVAL_PERIOD / factor)
        solver.REFERENCE_WORLD_SIZE = num_workers
        _logger.info("Scaled from %d to %d processes:\n%s", reference, num_workers, solver)
        if cfg.is_frozen():
            scaled.freeze()
        return scaled


__getattr__ = module_getattr(__name__)
