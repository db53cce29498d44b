"""One full-size model of each family learns four images by heart: wrong targets do not get there.

Heads, backbones and losses are those of the experiments' configs. What random weights and small images
need differs: frozen batch norm takes its statistics from the four images, all layers are trained, anchors
are small, RoIs few, the optimiser is AdamW, and an RPN is trained jointly.
"""

import os

from maskrcnn_repro.config import load_config
from maskrcnn_repro.data.loader import build_train_loader
from maskrcnn_repro.engine.optimizer import build_optimizer
from maskrcnn_repro.engine.resolve import resolve_config
from maskrcnn_repro.evaluation.coco import evaluate
from maskrcnn_repro.tables.paper.experiments import find_experiment

import pytest
import torch
from detectron2.engine import SimpleTrainer, hooks
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import build_model
from detectron2.solver import build_lr_scheduler
from detectron2.utils.env import seed_all_rng
from detectron2.utils.events import EventStorage

from tests.helpers.four_images import SHAPES, write_four

SETTINGS = {
    "MODEL.DEVICE": "cpu",
    "MODEL.WEIGHTS": "",
    "MODEL.LOAD_PROPOSALS": False,
    "MODEL.PROPOSAL_GENERATOR.NAME": "RPN",
    "MODEL.BACKBONE.FREEZE_AT": 0,
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": 64,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 50,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 30,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 8,
    "MODEL.ROI_HEADS.POSITIVE_FRACTION": 0.5,
    "INPUT.MIN_SIZE_TRAIN_SAMPLING": "choice",
    "INPUT.RANDOM_FLIP": "none",
    "DATALOADER.NUM_WORKERS": 0,
    "SOLVER.OPTIMIZER": "AdamW",
    "SOLVER.IMS_PER_BATCH": 2,
    "SOLVER.BETAS": (0.9, 0.99),
    "SOLVER.LR_SCHEDULER_NAME": "WarmupCosineLR",
    "SOLVER.WARMUP_ITERS": 10,
    "SOLVER.WARMUP_FACTOR": 0.1,
    "SOLVER.STEPS": (),
    "SOLVER.CLIP_GRADIENTS.ENABLED": True,
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": "full_model",
    "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": 5.0,
    "SEED": 1,
}
# Sides of anchors as fractions of the image's; the second fits the objects.
ANCHORS = (3 / 16, 3 / 8, 3 / 4, 3 / 2, 3)
# Experiment -> iterations of two images, their side in pixels (strides of 16 and 32 need larger ones),
# and the learning rate (heads with own layers before the output want a lower one). Classes that compete learn
# more slowly.
FAMILIES = {
    "r50_c4": (100, 192, 1e-3),
    "r50_c4_softmax": (140, 192, 1e-3),
    "r50_c5_roialign": (100, 256, 5e-4),
    "r50_fpn": (70, 128, 4e-4),
    "r50_fpn_mlp2": (70, 128, 4e-4),
    "keypoints_r50_fpn": (80, 128, 4e-4),
}


def config(experiment, data):
    entry = find_experiment(experiment)
    cfg = load_config(entry.config, [str(word) for word in entry.overrides])
    iterations, side, rate = FAMILIES[experiment]
    anchors = [[side * fraction for fraction in ANCHORS]]
    if len(cfg.MODEL.ANCHOR_GENERATOR.SIZES) > 1:
        anchors = [[size] for size in anchors[0]]
    settings = SETTINGS | {
        "MODEL.ANCHOR_GENERATOR.SIZES": anchors,
        "DATASETS.CUSTOM": (data,),
        "DATASETS.TRAIN": (data[0],),
        "DATASETS.TEST": (data[0],),
        "INPUT.MIN_SIZE_TRAIN": (side,),
        "INPUT.MIN_SIZE_TEST": side,
        "SOLVER.MAX_ITER": iterations,
        "SOLVER.BASE_LR": rate,
    }
    cfg.merge_from_list([word for pair in settings.items() for word in pair])
    return resolve_config(cfg, training=True)


def trained(cfg):
    seed_all_rng(cfg.SEED)
    model = build_model(cfg)
    loader = build_train_loader(cfg)
    calibrate(model, next(iter(loader)))
    optimizer = build_optimizer(cfg, model)
    trainer = SimpleTrainer(model, loader, optimizer)
    trainer.register_hooks([hooks.LRScheduler(optimizer, build_lr_scheduler(cfg, optimizer))])
    trainer.train(0, cfg.SOLVER.MAX_ITER)
    return model


@torch.no_grad()
def calibrate(model, batch):
    """Give each frozen batch norm the statistics of what it receives, from the first layer to the last."""

    def take(norm, args):
        norm.running_mean.copy_(args[0].mean((0, 2, 3)))
        norm.running_var.copy_(args[0].var((0, 2, 3)))

    norms = [module for module in model.modules() if isinstance(module, FrozenBatchNorm2d)]
    handles = [norm.register_forward_pre_hook(take) for norm in norms]
    with EventStorage():
        model.train()(batch)
    for handle in handles:
        handle.remove()


@pytest.fixture
def all_cores():
    torch.set_num_threads(os.cpu_count())
    yield
    torch.set_num_threads(1)


def test_a_filled_box_is_no_match():
    for shape in SHAPES:
        x, y = torch.tensor(shape).T
        doubled = (x * y.roll(-1) - y * x.roll(-1)).sum().abs()
        assert (x.min(), y.min(), x.max(), y.max()) == (0, 0, 1, 1)
        assert doubled / 2 < 0.45


@pytest.mark.slow
@pytest.mark.parametrize("experiment", FAMILIES)
def test_a_full_size_model_overfits_four_images(experiment, tmp_path, catalog, all_cores):
    data = write_four(tmp_path / "data", people=experiment.startswith("keypoints"))
    cfg = config(experiment, data)
    metrics = evaluate(cfg, trained(cfg), tmp_path)[data[0]]
    print(experiment, {task: round(values["AP50"], 1) for task, values in metrics.items()})
    assert set(metrics) == {"bbox", "keypoints" if cfg.MODEL.KEYPOINT_ON else "segm"}
    assert min(values["AP50"] for values in metrics.values()) > 80
