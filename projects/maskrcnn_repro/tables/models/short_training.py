"""A smoke test of an experiment: two training steps of its full-size model, on tiny images."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

from maskrcnn_repro.data import keypoint_names
from maskrcnn_repro.data.loader import build_train_loader
from maskrcnn_repro.engine.optimizer import build_optimizer
from maskrcnn_repro.engine.resolve import resolve_config
from maskrcnn_repro.tables.models.tiny_data import SIDE, write_tiny_data
from maskrcnn_repro.tables.paper.experiments import Experiment, experiment_config

import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import build_model
from detectron2.solver import build_lr_scheduler
from detectron2.utils.events import EventStorage
from torch import nn

ITERATIONS = 2
DATASET = "short_training"
GAIN = 0.25
"""Weight of frozen batch norms; it keeps the sum over all residual blocks near unit variance."""


def train_briefly(experiment: Experiment) -> list[dict[str, float]]:
    """Train an experiment for two iterations of two images; return the losses of each, by name.

    Data, image size, batch size and the initial weights (random, so that nothing is downloaded) replace those of
    its config. All files are temporary.

    Raises:
        FloatingPointError: a loss is not finite.
    """
    with tempfile.TemporaryDirectory() as folder:
        cfg = resolve_config(_tiny_config(experiment, Path(folder)), training=True)
        try:
            return _train(cfg)
        finally:
            DatasetCatalog.remove(DATASET)
            MetadataCatalog.remove(DATASET)


def _tiny_config(experiment: Experiment, folder: Path) -> CfgNode:
    cfg = experiment_config(experiment)
    cfg.defrost()
    json_file, images, store = write_tiny_data(
        folder, cfg.MODEL.ROI_HEADS.NUM_CLASSES, keypoint_names(cfg.DATASETS.TRAIN[0])
    )
    cfg.DATASETS.CUSTOM = ((DATASET, str(json_file), str(images)),)
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (DATASET,), ()
    if cfg.MODEL.LOAD_PROPOSALS:
        cfg.DATASETS.PROPOSAL_FILES_TRAIN = (str(store),)
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING = (SIDE,), "choice"
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.SOLVER.IMS_PER_BATCH = 2
    cfg.MODEL.WEIGHTS, cfg.MODEL.WEIGHTS_DATASET = "", ""
    cfg.MODEL.DEVICE, cfg.SEED = "cpu", 0
    cfg.OUTPUT_DIR = str(folder)
    return cfg


def _train(cfg: CfgNode) -> list[dict[str, float]]:
    torch.manual_seed(0)
    model = build_model(cfg)
    optimizer = build_optimizer(cfg, model)
    # Unused, but building it sets the optimizer's learning rate to the start of the warm-up.
    build_lr_scheduler(cfg, optimizer)
    batches = itertools.islice(iter(build_train_loader(cfg)), 1 + ITERATIONS)
    with EventStorage():
        _fit_norms(model, next(batches))
        return [_train_step(model, optimizer, batch) for batch in batches]


def _train_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, batch: list[dict[str, object]]
) -> dict[str, float]:
    losses = model(batch)
    optimizer.zero_grad()
    sum(losses.values()).backward()
    optimizer.step()
    values = {name: loss.item() for name, loss in losses.items()}
    if not torch.isfinite(torch.tensor(list(values.values()))).all():
        raise FloatingPointError(f"A loss is not finite: {values}.")
    return values


def _fit_norms(model: nn.Module, batch: list[dict[str, object]]) -> None:
    """Set frozen batch norms to the statistics of a batch, in place of those that come with ImageNet weights.

    With random weights and identity norms, each of 50 blocks would double the variance of its input.
    """

    def measure(norm: FrozenBatchNorm2d, inputs: tuple[torch.Tensor, ...]) -> None:
        variance, mean = torch.var_mean(inputs[0].detach(), dim=(0, 2, 3), correction=0)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
        norm.weight.fill_(GAIN)

    norms = [module for module in model.modules() if isinstance(module, FrozenBatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(measure) for norm in norms]
    with torch.no_grad():
        model(batch)
    for hook in hooks:
        hook.remove()
