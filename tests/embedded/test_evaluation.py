"""Evaluation of Detectron2's API: the loop over a data set, and what is done with its results."""

import logging
import math

import maskrcnn_repro  # noqa: F401

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.evaluation import (
    DatasetEvaluator,
    DatasetEvaluators,
    inference_context,
    inference_on_dataset,
    print_csv_format,
    verify_results,
)
from detectron2.evaluation.testing import flatten_results_dict
from torch import nn

# --- loop ----------------------------------------------------------------------------------------


class _Recorder(DatasetEvaluator):
    def __init__(self, result):
        self.result, self.seen = result, ["not reset"]

    def reset(self):
        self.seen = []

    def process(self, inputs, outputs):
        self.seen.append((inputs, outputs, torch.is_grad_enabled()))

    def evaluate(self):
        return self.result


class _Double(nn.Module):
    def forward(self, batch):
        assert not self.training
        return [2 * value for value in batch]


def test_inference_feeds_the_evaluators():
    calls = []
    points = ("on_start", "before_inference", "after_inference", "on_end")
    callbacks = {point: lambda point=point: calls.append(point) for point in points}
    first, second = _Recorder({"a": 1}), _Recorder(None)
    model = _Double().train()
    assert inference_on_dataset(model, [[1], [2]], [first, second], callbacks) == {"a": 1}
    assert first.seen == second.seen == [([1], [2], False), ([2], [4], False)]
    assert calls == ["on_start", *points[1:3], *points[1:3], "on_end"]
    assert model.training


@pytest.mark.parametrize("evaluator", [None, _Recorder(None)])
def test_inference_without_results_returns_an_empty_dict(evaluator):
    assert inference_on_dataset(lambda batch: batch, [[1]] * 12, evaluator) == {}


@pytest.mark.embedded_only
def test_inference_on_nothing():
    assert inference_on_dataset(lambda batch: batch, [], None) == {}


@pytest.mark.embedded_only
def test_the_mode_is_restored_after_a_failure():
    model = _Double().train()
    with pytest.raises(RuntimeError), inference_context(model):
        raise RuntimeError
    assert model.training


def test_two_results_with_one_key():
    evaluators = DatasetEvaluators([_Recorder({"bbox": 1}), _Recorder({"bbox": 2})])
    with pytest.raises(AssertionError, match=r"same key.*bbox"):
        evaluators.evaluate()


# --- results -------------------------------------------------------------------------------------


def test_flatten():
    assert flatten_results_dict({"a": {"b": 1, "c": {"d": 2}}, "e": 3}) == {
        "a/b": 1,
        "a/c/d": 2,
        "e": 3,
    }


def test_csv_lines_leave_out_single_classes(caplog):
    logger = logging.getLogger("detectron2.evaluation.testing")
    logger.addHandler(caplog.handler)
    level = logger.level
    logger.setLevel(logging.INFO)
    print_csv_format({"bbox": {"AP": 40.25, "AP50": 60.0, "AP-cat": 1.0}, "loss": 0.5})
    logger.removeHandler(caplog.handler)
    logger.setLevel(level)
    messages = list(dict.fromkeys(record.getMessage() for record in caplog.records))
    assert messages == [
        "copypaste: Task: bbox",
        "copypaste: AP,AP50",
        "copypaste: 40.2500,60.0000",
        "copypaste: loss=0.5",
    ]


@pytest.mark.parametrize("value", [39.4, 40.6, math.nan, None])
def test_unexpected_results_end_the_process(value):
    cfg = get_cfg()
    cfg.TEST.EXPECTED_RESULTS = [["bbox", "AP", 40.0, 0.5]]
    with pytest.raises(SystemExit) as ended:
        verify_results(cfg, {"bbox": {} if value is None else {"AP": value}})
    assert ended.value.code == 1
    assert verify_results(cfg, {"bbox": {"AP": 40.5}})
    assert verify_results(get_cfg(), {})
