"""Default set-up, trainer and predictor of Detectron2's API."""

import maskrcnn_repro  # noqa: F401

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.engine import (
    DefaultPredictor,
    DefaultTrainer,
    default_argument_parser,
    default_setup,
)
from detectron2.evaluation import DatasetEvaluator
from detectron2.modeling import META_ARCH_REGISTRY
from torch import nn

from tests.helpers.quadratic import Quadratic


def test_default_setup_saves_the_config_and_seeds(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    cfg = get_cfg()
    cfg.OUTPUT_DIR, cfg.SEED, cfg.CUDNN_BENCHMARK = str(tmp_path / "out"), 3, True
    draws = []
    for _ in range(2):
        default_setup(cfg, default_argument_parser().parse_args([]))
        draws.append((torch.rand(1).item(), np.random.rand()))
    assert draws[0] == draws[1]
    assert torch.backends.cudnn.benchmark
    file = tmp_path / "out" / "config.yaml"
    assert file.read_text() == cfg.dump()
    saved = get_cfg()
    saved.merge_from_file(str(file))
    assert (saved.SEED, saved.CUDNN_BENCHMARK) == (3, True)


@META_ARCH_REGISTRY.register()
class _TestEngineNet(nn.Module):
    """Loss as `Quadratic`; inference returns its input."""

    def __init__(self, cfg):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(0.0))

    def forward(self, batch):
        return {"loss": (self.w - batch) ** 2 / 2} if self.training else batch


class _Count(DatasetEvaluator):
    def reset(self):
        self.images = 0

    def process(self, inputs, outputs):
        self.images += len(outputs)

    def evaluate(self):
        return {"count": {"images": float(self.images)}}


class _TestTrainer(DefaultTrainer):
    @classmethod
    def build_train_loader(cls, cfg):
        return [1.0] * cfg.SOLVER.MAX_ITER

    @classmethod
    def build_test_loader(cls, cfg, dataset_name):
        return [["image"] * 2, ["image"]]

    @classmethod
    def build_evaluator(cls, cfg, dataset_name):
        return _Count()


def _tiny_cfg(tmp_path):
    cfg = get_cfg()
    cfg.MODEL.DEVICE, cfg.MODEL.META_ARCHITECTURE = "cpu", "_TestEngineNet"
    cfg.MODEL.WEIGHTS, cfg.OUTPUT_DIR = "", str(tmp_path)
    cfg.DATASETS.TEST = ("some",)
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS, cfg.SOLVER.WARMUP_ITERS = 4, (), 0
    cfg.SOLVER.BASE_LR, cfg.SOLVER.MOMENTUM = 0.5, 0.0
    cfg.SOLVER.WEIGHT_DECAY = 0.0
    return cfg


def test_default_trainer_trains_evaluates_and_resumes(tmp_path):
    cfg = _tiny_cfg(tmp_path)
    cfg.TEST.EXPECTED_RESULTS = [["count", "images", 3.0, 0.0]]
    trainer = _TestTrainer(cfg)
    trainer.resume_or_load(resume=True)
    assert trainer.train() == {"count": {"images": 3.0}}
    assert trainer.model.w.item() == 1 - 0.5**4
    assert {"model_final.pth", "last_checkpoint", "metrics.json"} <= {
        path.name for path in tmp_path.iterdir()
    }

    cfg.SOLVER.MAX_ITER = 6
    resumed = _TestTrainer(cfg)
    resumed.resume_or_load(resume=True)
    assert resumed.start_iter == 4
    resumed.train()
    assert resumed.model.w.item() == 1 - 0.5**6


def test_default_trainer_shares_the_parts_of_the_wrapped_one(tmp_path):
    trainer = _TestTrainer(_tiny_cfg(tmp_path))
    assert trainer.model is trainer._trainer.model
    trainer.model = replacement = Quadratic()
    assert trainer._trainer.model is replacement
    assert trainer.optimizer is trainer._trainer.optimizer


def test_evaluation_of_several_data_sets(tmp_path, log):
    cfg = _tiny_cfg(tmp_path)
    cfg.DATASETS.TEST = ("one", "two")
    model = _TestEngineNet(cfg)
    both = _TestTrainer.test(cfg, model, [_Count(), _Count()])
    assert both == {"one": {"count": {"images": 3.0}}, "two": {"count": {"images": 3.0}}}
    with pytest.raises(AssertionError, match="1"):
        _TestTrainer.test(cfg, model, _Count())

    class NoEvaluator(_TestTrainer):
        build_evaluator = DefaultTrainer.build_evaluator

    assert NoEvaluator.test(cfg, model) == {"one": {}, "two": {}}
    assert "No evaluator found" in log.text


def test_default_trainer_has_no_evaluator():
    with pytest.raises(NotImplementedError, match="build_evaluator"):
        DefaultTrainer.build_evaluator(get_cfg(), "some")


def test_scaling_to_twice_the_processes():
    cfg = get_cfg()
    solver = cfg.SOLVER
    solver.REFERENCE_WORLD_SIZE, solver.IMS_PER_BATCH, solver.BASE_LR = 8, 16, 0.1
    solver.MAX_ITER, solver.STEPS, solver.WARMUP_ITERS = 5000, (4000, 4500), 1000
    solver.CHECKPOINT_PERIOD, cfg.TEST.EVAL_PERIOD = 1000, 500
    cfg.freeze()
    scaled = DefaultTrainer.auto_scale_workers(cfg, 16)
    new = scaled.SOLVER
    assert (new.IMS_PER_BATCH, new.BASE_LR, new.REFERENCE_WORLD_SIZE) == (32, 0.2, 16)
    assert (new.MAX_ITER, new.STEPS, new.WARMUP_ITERS) == (2500, (2000, 2250), 500)
    assert (new.CHECKPOINT_PERIOD, scaled.TEST.EVAL_PERIOD) == (500, 250)
    assert scaled.is_frozen()
    assert cfg.SOLVER.MAX_ITER == 5000
    assert DefaultTrainer.auto_scale_workers(cfg, 8) is cfg


def test_scaling_needs_an_even_batch():
    cfg = get_cfg()
    cfg.SOLVER.REFERENCE_WORLD_SIZE, cfg.SOLVER.IMS_PER_BATCH = 3, 16
    with pytest.raises(AssertionError, match="REFERENCE_WORLD_SIZE"):
        DefaultTrainer.auto_scale_workers(cfg, 2)


@META_ARCH_REGISTRY.register()
class _TestEngineEcho(nn.Module):
    """Returns its inputs."""

    def __init__(self, cfg):
        super().__init__()

    def forward(self, batch):
        return batch


@pytest.mark.parametrize("channels", ["BGR", "RGB"])
def test_predictor_prepares_the_image(channels):
    cfg = get_cfg()
    cfg.MODEL.DEVICE, cfg.MODEL.META_ARCHITECTURE = "cpu", "_TestEngineEcho"
    cfg.MODEL.WEIGHTS, cfg.INPUT.FORMAT = "", channels
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = 8, 100
    image = np.zeros((4, 6, 3), np.uint8)
    image[..., 0] = 255  # blue
    output = DefaultPredictor(cfg)(image)
    assert (output["height"], output["width"]) == (4, 6)
    assert output["image"].shape == (3, 8, 12)
    assert output["image"].dtype == torch.float32
    blue = channels.index("B")
    assert output["image"].mean(dim=(1, 2)).tolist() == [255.0 * (c == blue) for c in range(3)]


@pytest.mark.embedded_only
def test_predictor_refuses_other_channels():
    cfg = get_cfg()
    cfg.INPUT.FORMAT = "YUV"
    with pytest.raises(ValueError, match=r"INPUT\.FORMAT.*YUV"):
        DefaultPredictor(cfg)
