"""Foreign code that returns something else than it must, or leaves the process, is named."""

import sys
from contextlib import nullcontext
from pathlib import Path

from maskrcnn_repro.config import get_config
from maskrcnn_repro.data.mapper import TrainMapper
from maskrcnn_repro.engine.contracts import check_model, check_optimizer, naming_exits
from maskrcnn_repro.engine.main import main
from maskrcnn_repro.engine.report import check_expected
from maskrcnn_repro.engine.trainer import Trainer
from maskrcnn_repro.errors import Ended, UserError
from maskrcnn_repro.evaluation.coco import evaluate
from maskrcnn_repro.utils.memory import memory_needed

import numpy as np
import pytest
import torch
from detectron2.evaluation import DatasetEvaluator
from torch import nn
from torch.optim import SGD

from tests.helpers.tiny_coco import command_line, write_tiny_coco


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_tiny_coco(tmp_path_factory.mktemp("data"))


class Empty(DatasetEvaluator):
    def evaluate(self):
        return {"objects": 3}


class Numbers(DatasetEvaluator):
    """Gives numbers of other libraries."""

    def evaluate(self):
        return {"task": {"a": np.float32(1.5), "b": np.int64(2), "c": torch.tensor(3.5), "d": 4}}


class Wordy(DatasetEvaluator):
    def evaluate(self):
        return {"bbox": {"AP": 1.0}, "task": {"a": "high"}}


def mapped(change):
    """A trainer's mapper whose samples are changed."""

    def build(cls, cfg):
        mapper = TrainMapper(cfg, True)
        return lambda record: change(mapper(record))

    return build


def with_image(change):
    return mapped(lambda sample: {**sample, "image": change(sample["image"])})


def without_masks(sample):
    sample["instances"].remove("gt_masks")
    return sample


def headless(cls, cfg):
    model = Trainer.build_model(cfg)
    model.roi_heads.mask_head = None
    return model


def with_classes(shift):
    def change(sample):
        sample["instances"].gt_classes += shift
        return sample

    return mapped(change)


class Silent(nn.Module):
    def forward(self, batch):
        return None


def without_losses(cls, cfg):
    model = Silent()
    model.weight = nn.Parameter(torch.zeros(1))
    return model


def leaves(cls, cfg):
    sys.exit(0)


@pytest.mark.parametrize(
    ("method", "function", "words"),
    [
        ("build_model", lambda cls, cfg: None, "Mine.build_model returns None; it must return a torch."),
        ("build_optimizer", lambda cls, cfg, model: 5, "build_optimizer returns 5; "),
        ("build_train_loader", lambda cls, cfg, first: None, "build_train_loader returns None; "),
        ("build_train_loader", lambda cls, cfg, first: iter([[]]), "The data loader yields []; "),
        ("build_train_loader", lambda cls, cfg, first: iter([None]), "The data loader yields None; "),
        ("build_train_loader", lambda cls, cfg, first: [], "The training loader ends after 0 batches"),
        ("build_train_mapper", mapped(lambda sample: None), "The mapper returns None; it must"),
        ("build_train_mapper", with_image(lambda image: image.numpy()), "as 'image'; it must be a tensor (3, "),
        ("build_train_mapper", with_image(lambda image: image.permute(1, 2, 0)), "'image' of shape (64, 64, 3)"),
        ("build_train_mapper", mapped(lambda s: {"image": s["image"]}), "gives None as 'instances'"),
        ("build_train_mapper", mapped(without_masks), "gives 'instances' without gt_masks"),
        ("build_model", headless, "MODEL.ROI_MASK_HEAD.NAME builds None; it must"),
        ("build_train_mapper", with_classes(9), "gt_classes from 9 to 10; of 2 classes they are 0 to 1"),
        ("build_train_mapper", with_classes(-1), "gt_classes from -1 to 0; "),
        ("build_optimizer", lambda *_: SGD([nn.Parameter(torch.zeros(1))]), "no parameter of the model"),
        ("build_hooks", lambda self: ["hook"], "build_hooks returns ['hook']; it must return a list"),
        ("build_evaluator", lambda cls, cfg, name, folder: {}, "build_evaluator returns {}; "),
        ("build_evaluator", lambda cls, *_: Empty(), "Empty.evaluate returns 3 for 'objects'; "),
        ("build_evaluator", lambda cls, *_: Wordy(), "evaluate returns 'high' for 'task', 'a'; "),
        ("test", lambda cls, *_: {"bbox": {"AP": 1.0}}, "test returns {'bbox': {'AP': 1.0}}; "),
        ("build_model", without_losses, "Model Silent returns None in training; "),
        ("build_model", leaves, "leaves ("),
        ("build_hooks", lambda self: sys.exit(0), "ends the process by sys.exit(0); "),
    ],
)  # fmt: skip
def test_a_trainer_that_breaks_its_contract_is_named(
    data, tmp_path, capsys, monkeypatch, method, function, words
):
    own = function if method == "build_hooks" else classmethod(function)
    trainer = type("Mine", (Trainer,), {method: own, "__module__": __name__})
    monkeypatch.setitem(globals(), "Mine", trainer)
    assert main(command_line(data, tmp_path / "run", opts=[]), trainer) == 2
    errors = capsys.readouterr().err.splitlines()
    assert words in errors[-1]
    assert errors[-1].startswith("Error: ")


def test_what_trains_nothing_is_told_once(caplog):
    model = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    check_optimizer(SGD(model[1].parameters()), model)
    assert "leaves 2 of 4 trainable parameters as they are: '0.weight', '0.bias'" in caplog.text
    model[0].requires_grad_(False)
    caplog.clear()
    check_optimizer(SGD(model[1].parameters()), model)
    assert not caplog.text
    model.forward = lambda batch: {"a": torch.ones(1), "b": model[1].weight.sum()}
    check_model(model)
    for _ in range(2):
        model([{}])
    assert [record.getMessage() for record in caplog.records] == [
        "a has no gradient: nothing is trained by it"
    ]


def out_of_memory():
    torch.empty(1 << 60, dtype=torch.int8)


def no_memory():
    raise MemoryError


def on_the_gpu():
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nDetails")


@pytest.mark.parametrize(
    ("lack", "words"),
    [
        (out_of_memory, "DefaultCPUAllocator"),
        (no_memory, "no details"),
        (on_the_gpu, r"CUDA out of memory. Tried to allocate 2.00 GiB.\); checkpoints"),
    ],
)
def test_a_lack_of_memory_is_a_sentence(caplog, lack, words):
    caplog.set_level("DEBUG")
    message = rf"^Out of memory \(.*{words}.*SOLVER.ACCUMULATE 2"
    with pytest.raises(UserError, match=message), memory_needed():
        lack()
    assert lack.__name__ in caplog.text  # the place
    with pytest.raises(RuntimeError, match=r"^shape$"), memory_needed():
        raise RuntimeError("shape")


def test_numbers_of_other_libraries_become_plain_ones():
    cfg = get_config()
    cfg.DATASETS.TEST = ("a",)
    metrics = evaluate(
        cfg, Silent(), Path(), loader_of=lambda *_: [], evaluator_of=lambda *_: Numbers()
    )
    assert metrics == {"a": {"task": {"a": 1.5, "b": 2.0, "c": 3.5, "d": 4}}}
    assert {type(value) for value in metrics["a"]["task"].values()} == {float, int}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (["bbox", "AP", 40.0, 0.5], None),
        (["bbox", "AP", 40.0, 0.4], r"bbox/AP is 40.5, but TEST.EXPECTED_RESULTS has 40 ± 0.4\."),
        (["bbox", "AP75", 40.0, 0.4], "bbox/AP75 is nan, but"),
        (["bbox", "APP", 40.0, 0.4], r"has bbox/APP, .* not give\. Did you mean 'bbox/AP'"),
    ],
)
def test_results_that_were_not_expected_are_told(row, words):
    cfg = get_config()
    cfg.TEST.EXPECTED_RESULTS = [row]
    results = {"bbox": {"AP": 40.5, "AP75": float("nan")}}
    with pytest.raises(UserError, match=words) if words else nullcontext():
        check_expected(cfg, results)


def test_a_trainings_own_end_is_none_of_it():
    with pytest.raises(Ended), naming_exits():
        raise Ended(75)
    place = r"test_contracts.py:\d+\) ends the process by sys.exit\('x'\)"
    with pytest.raises(UserError, match=place), naming_exits():
        sys.exit("x")
