"""The standard training and inference: everything built from a config, every part replaceable."""

import logging
import weakref
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from fvcore.nn.precise_bn import get_bn_modules
from torch import nn

import detectron2.data.transforms as T
from detectron2._absent import module_getattr
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.data import (
    MetadataCatalog,
    build_detection_test_loader,
    build_detection_train_loader,
)
from detectron2.evaluation import (
    DatasetEvaluator,
    inference_on_dataset,
    print_csv_format,
    verify_results,
)
from detectron2.modeling import build_model
from detectron2.solver import build_lr_scheduler, build_optimizer
from detectron2.utils import comm
from detectron2.utils.events import EventWriter
from detectron2.utils.logger import setup_logger

from . import hooks
from ._setup import create_ddp_model, default_argument_parser, default_setup, default_writers
from .train_loop import AMPTrainer, HookBase, SimpleTrainer, TrainerBase

__all__ = [
    "DefaultPredictor",
    "DefaultTrainer",
    "create_ddp_model",
    "default_argument_parser",
    "default_setup",
    "default_writers",
]


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
        self.cfg = cfg.clone()
        self.input_format = cfg.INPUT.FORMAT
        if self.input_format not in ("BGR", "RGB"):
            raise ValueError(f"INPUT.FORMAT must be 'BGR' or 'RGB', got {self.input_format!r}")
        if cfg.DATASETS.TEST:
            self.metadata = MetadataCatalog.get(cfg.DATASETS.TEST[0])
        shortest = cfg.INPUT.MIN_SIZE_TEST
        self.aug = T.ResizeShortestEdge([shortest, shortest], cfg.INPUT.MAX_SIZE_TEST)
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
        image = original_image if self.input_format == "BGR" else original_image[:, :, ::-1]
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

    Wraps a `SimpleTrainer`, or an `AMPTrainer` if ``SOLVER.AMP.ENABLED``, and adds schedule, checkpoints,
    evaluation and logs as hooks. Override a ``build_*`` method to replace a part::

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

    def __init__(self, cfg: CfgNode):
        super().__init__()
        if not logging.getLogger("detectron2").isEnabledFor(logging.INFO):
            setup_logger()  # the script has not done it
        cfg = self.auto_scale_workers(cfg, comm.get_world_size())

        # This order is fixed: each of them draws random numbers.
        model = self.build_model(cfg)
        optimizer, loader = self.build_optimizer(cfg, model), self.build_train_loader(cfg)

        loop = AMPTrainer if cfg.SOLVER.AMP.ENABLED else SimpleTrainer
        self._trainer = loop(create_ddp_model(model, broadcast_buffers=False), loader, optimizer)
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        trainer = weakref.proxy(self)  # which owns the checkpointer
        self.checkpointer = DetectionCheckpointer(self.model, cfg.OUTPUT_DIR, trainer=trainer)
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.cfg = cfg
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

        Statistics of batch norm come before checkpoint and evaluation, which use them; the checkpoint before
        the evaluation, which may fail; the writers last, to write the metrics of the others.
        """
        cfg, is_main = self.cfg, comm.is_main_process()

        def evaluate() -> dict[str, Any]:
            self._last_eval_results = self.test(self.cfg, self.model)
            return self._last_eval_results

        result = [hooks.IterationTimer(), hooks.LRScheduler(), self._build_precise_bn()]
        if is_main:
            period = cfg.SOLVER.CHECKPOINT_PERIOD
            result.append(hooks.PeriodicCheckpointer(self.checkpointer, period))
        result.append(hooks.EvalHook(cfg.TEST.EVAL_PERIOD, evaluate))
        if is_main:
            result.append(hooks.PeriodicWriter(self.build_writers(), period=20))
        return result

    def _build_precise_bn(self) -> HookBase | None:
        if not (self.cfg.TEST.PRECISE_BN.ENABLED and get_bn_modules(self.model)):
            return None
        cfg = self.cfg.clone()
        cfg.defrost()
        cfg.DATALOADER.NUM_WORKERS = 0  # rarely used: no processes of its own
        loader = self.build_train_loader(cfg)  # leaves the training's own position alone
        test = cfg.TEST
        return hooks.PreciseBN(test.EVAL_PERIOD, self.model, loader, test.PRECISE_BN.NUM_ITER)

    def build_writers(self) -> list[EventWriter]:
        """Return the writers of the metrics."""
        return default_writers(self.cfg.OUTPUT_DIR, self.max_iter)

    def train(self) -> dict[str, Any] | None:
        """Train from `start_iter` to `max_iter`.

        Returns:
            The last evaluation, on the main process and if ``TEST.EXPECTED_RESULTS`` asks to verify it.

        Raises:
            AssertionError: results are expected, but nothing was evaluated.
        """
        super().train(self.start_iter, self.max_iter)
        if not self.cfg.TEST.EXPECTED_RESULTS or not comm.is_main_process():
            return None
        if not hasattr(self, "_last_eval_results"):
            raise AssertionError("TEST.EXPECTED_RESULTS is set, but nothing was evaluated")
        verify_results(self.cfg, self._last_eval_results)
        return self._last_eval_results

    def run_step(self) -> None:
        """Do an iteration of the wrapped trainer."""
        self._trainer.iter = self.iter
        self._trainer.run_step()

    def state_dict(self) -> dict[str, Any]:
        """Return the state of loop, hooks and wrapped trainer."""
        return super().state_dict() | {"_trainer": self._trainer.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        super().load_state_dict(state_dict)
        self._trainer.load_state_dict(state_dict["_trainer"])

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        """Build and log the model."""
        model = build_model(cfg)
        logging.getLogger(__name__).info("Model:\n%s", model)
        return model

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        """Build the optimizer."""
        return build_optimizer(cfg, model)

    @classmethod
    def build_lr_scheduler(cls, cfg: CfgNode, optimizer: torch.optim.Optimizer) -> Any:
        """Build the learning-rate schedule."""
        return build_lr_scheduler(cfg, optimizer)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Iterable[Any]:
        """Build the endless loader of training batches."""
        return build_detection_train_loader(cfg)

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Iterable[Any]:
        """Build the loader of one test data set."""
        return build_detection_test_loader(cfg, dataset_name)

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> DatasetEvaluator | None:
        """Build the evaluator of one test data set; there is no default.

        Raises:
            NotImplementedError: the subclass does not override it.
        """
        raise NotImplementedError(
            "DefaultTrainer evaluates only if a subclass implements build_evaluator(); otherwise "
            "call test(cfg, model, evaluators) yourself."
        )

    @classmethod
    def test(
        cls,
        cfg: CfgNode,
        model: nn.Module,
        evaluators: DatasetEvaluator | Sequence[DatasetEvaluator] | None = None,
    ) -> dict[str, Any]:
        """Evaluate a model on ``DATASETS.TEST``.

        Args:
            cfg: config.
            model: with its weights.
            evaluators: one per data set; None calls `build_evaluator`.

        Returns:
            Metrics by data set, or those of the only one.

        Raises:
            AssertionError: the numbers of evaluators and data sets differ.
        """
        names = cfg.DATASETS.TEST
        if isinstance(evaluators, DatasetEvaluator):
            evaluators = [evaluators]
        if evaluators is not None and len(evaluators) != len(names):
            raise AssertionError(f"{len(evaluators)} evaluators for {len(names)} data sets")
        results: dict[str, Any] = OrderedDict()
        for index, name in enumerate(names):
            loader = cls.build_test_loader(cfg, name)
            try:
                evaluator = evaluators[index] if evaluators else cls.build_evaluator(cfg, name)
            except NotImplementedError:
                logging.getLogger(__name__).warning(
                    "No evaluator found for %s: implement build_evaluator() or pass evaluators",
                    name,
                )
                results[name] = {}
                continue
            results[name] = inference_on_dataset(model, loader, evaluator)
            if comm.is_main_process():
                _log_results(name, results[name])
        return next(iter(results.values())) if len(results) == 1 else results

    @staticmethod
    def auto_scale_workers(cfg: CfgNode, num_workers: int) -> CfgNode:
        """Adapt a config to another number of processes than it was written for.

        The batch of each process stays: total batch and learning rate grow with the processes, iterations,
        steps, warmup and periods shrink (linear scaling, "Training ImageNet in 1 hour"). So 16 images and
        rate 0.1 on 8 processes become 32 and 0.2 on 16, and 5000 iterations 2500.

        Args:
            cfg: ``SOLVER.REFERENCE_WORLD_SIZE`` is the number it was written for; 0 switches this off.
            num_workers: the number there is.

        Returns:
            A new config, frozen if `cfg` is, or `cfg` itself if nothing changes.

        Raises:
            AssertionError: the batch cannot be split evenly among the reference processes.
        """
        reference = cfg.SOLVER.REFERENCE_WORLD_SIZE
        if reference in (0, num_workers):
            return cfg
        if cfg.SOLVER.IMS_PER_BATCH % reference:
            raise AssertionError(
                f"SOLVER.IMS_PER_BATCH {cfg.SOLVER.IMS_PER_BATCH} is no multiple of "
                f"SOLVER.REFERENCE_WORLD_SIZE {reference}"
            )
        was_frozen = cfg.is_frozen()
        cfg = cfg.clone()
        cfg.defrost()
        solver, scale = cfg.SOLVER, num_workers / reference
        solver.IMS_PER_BATCH = round(solver.IMS_PER_BATCH * scale)
        solver.BASE_LR *= scale
        solver.STEPS = tuple(round(step / scale) for step in solver.STEPS)
        for key in ("MAX_ITER", "WARMUP_ITERS", "CHECKPOINT_PERIOD"):
            solver[key] = round(solver[key] / scale)
        cfg.TEST.EVAL_PERIOD = round(cfg.TEST.EVAL_PERIOD / scale)
        solver.REFERENCE_WORLD_SIZE = num_workers
        logging.getLogger(__name__).info(
            "Auto-scaling the config to batch_size=%d, learning_rate=%g, max_iter=%d, warmup=%d.",
            *(solver.IMS_PER_BATCH, solver.BASE_LR, solver.MAX_ITER, solver.WARMUP_ITERS),
        )
        if was_frozen:
            cfg.freeze()
        return cfg


def _log_results(dataset_name: str, results: Any) -> None:
    assert isinstance(results, dict), f"The evaluator of {dataset_name} returned {results!r}"
    logging.getLogger(__name__).info("Evaluation results for %s in csv format:", dataset_name)
    print_csv_format(results)


__getattr__ = module_getattr(__name__)
