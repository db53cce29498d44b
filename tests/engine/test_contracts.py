"""Foreign code that returns something else than it must, or leaves the process, is named."""

import sys

from maskrcnn_repro.engine.contracts import naming_exits
from maskrcnn_repro.engine.main import main
from maskrcnn_repro.engine.trainer import Trainer
from maskrcnn_repro.errors import Ended, UserError

import pytest
import torch
from detectron2.evaluation import DatasetEvaluator
from torch import nn

from tests.helpers.tiny_coco import command_line, write_tiny_coco


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_tiny_coco(tmp_path_factory.mktemp("data"))


class Empty(DatasetEvaluator):
    def evaluate(self):
        return {"objects": 3}


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
        ("build_hooks", lambda self: ["hook"], "build_hooks returns ['hook']; it must return a list"),
        ("build_evaluator", lambda cls, cfg, name, folder: {}, "build_evaluator returns {}; "),
        ("build_evaluator", lambda cls, *_: Empty(), "Empty.evaluate returns {'objects': 3}; "),
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


def test_a_trainings_own_end_is_none_of_it():
    with pytest.raises(Ended), naming_exits():
        raise Ended(75)
    place = r"test_contracts.py:\d+\) ends the process by sys.exit\('x'\)"
    with pytest.raises(UserError, match=place), naming_exits():
        sys.exit("x")
