"""A classifier's training on four images: accuracy and the backbone that it leaves."""

import json

from maskrcnn_repro.checkpoint.backbone import BACKBONE_FILE
from maskrcnn_repro.checkpoint.weight_file import read_pickle
from maskrcnn_repro.engine.main import main
from maskrcnn_repro.engine.step_end import Action, Request
from maskrcnn_repro.engine.trainer import Trainer

import numpy as np
import pytest
import torch
from detectron2.engine import HookBase

from tests.helpers.tiny_coco import write_tiny_coco

KEYS = {
    "MODEL.DEVICE": "cpu",
    "MODEL.RESNETS.STEM_OUT_CHANNELS": "4",
    "MODEL.RESNETS.RES2_OUT_CHANNELS": "8",
    "MODEL.RESNETS.WIDTH_PER_GROUP": "2",
    "MODEL.ROI_HEADS.NUM_CLASSES": "2",
    "DATASETS.TRAIN": "('tiny',)",
    "DATASETS.TEST": "('tiny',)",
    "SOLVER.IMS_PER_BATCH": "2",
    "SOLVER.MAX_ITER": "2",
}


def train(data, output, *options, trainer=None, **keys):
    json_file, pictures = data
    words = ["--config-file", "configs/backbone/r50.yaml"]
    words += ["--dataset", "tiny", str(json_file), str(pictures), *options]
    pairs = KEYS | {"OUTPUT_DIR": str(output)} | keys
    return main([*words, *(word for pair in pairs.items() for word in pair)], trainer)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The data, and the folder of a finished training."""
    folder = tmp_path_factory.mktemp("trained")
    data = write_tiny_coco(folder / "data")
    assert train(data, folder / "run") == 0
    return data, folder / "run"


@pytest.mark.slow
def test_a_training_leaves_accuracy_and_backbone(trained):
    _, output = trained
    metrics = json.loads((output / "results.json").read_text())["metrics"]["tiny"]["classification"]
    assert set(metrics) == {"top1", "top1-disc", "top1-bar"}
    # A disc of radius 12 has the larger box, 625 cells to 300, in all four images.
    assert metrics["top1"] == metrics["top1-disc"]
    assert metrics["top1-bar"] is None
    content = read_pickle(output / BACKBONE_FILE)
    assert content["origin"]["iterations"] == 2
    state = torch.load(output / "model_final.pth")["model"]
    wanted = {name for name in state if name.startswith("backbone.") and "num_batches" not in name}
    assert {f"backbone.{name}" for name in content["model"]} == wanted
    for name, array in content["model"].items():
        np.testing.assert_array_equal(array, state[f"backbone.{name}"].numpy())


@pytest.mark.slow
def test_the_best_checkpoint_is_evaluated_alone(trained):
    data, output = trained
    assert train(data, output, "--eval-only") == 0
    first, second = (
        json.loads((folder / "results.json").read_text())["metrics"]
        for folder in (output, output / "inference")
    )
    assert first == second


@pytest.mark.slow
def test_an_unfinished_training_leaves_no_backbone(trained, tmp_path, capsys):
    data, _ = trained
    (tmp_path / "run").mkdir()
    assert (
        train(data, tmp_path / "run", **{"SOLVER.BASE_LR": "1e30", "SOLVER.WARMUP_ITERS": "0"}) != 0
    )
    assert not (tmp_path / "run" / BACKBONE_FILE).exists()


class Finishing(Trainer):
    """Ends after its first iteration as if it were the last."""

    def build_hooks(self):
        return [Ask()]


class Ask(HookBase):
    def after_step(self):
        self.trainer.step_end.ask(Request(Action.STOP, 0, "it is enough"))


@pytest.mark.slow
def test_a_training_that_finishes_early_leaves_the_backbone(trained, tmp_path):
    data, _ = trained
    assert train(data, tmp_path / "run", trainer=Finishing) == 0
    assert read_pickle(tmp_path / "run" / BACKBONE_FILE)["origin"]["iterations"] == 1
