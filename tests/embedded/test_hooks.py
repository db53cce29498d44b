"""Training hooks of Detectron2's API: evaluation, best checkpoint, rates, writers, timer, PreciseBN."""

import json
import math

import maskrcnn_repro  # noqa: F401

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.engine import hooks
from detectron2.utils.events import JSONWriter
from fvcore.common.param_scheduler import LinearParamScheduler
from torch import nn

from tests.helpers.quadratic import metrics, quadratic_trainer


def test_eval_hook_evaluates_at_the_period_and_at_the_end():
    iterations = []
    trainer = quadratic_trainer([1.0] * 5)

    def evaluate():
        iterations.append(trainer.iter)
        return {"bbox": {"AP": 3.0}}

    trainer.register_hooks([hooks.EvalHook(2, evaluate)])
    trainer.train(0, 5)
    assert iterations == [1, 3, 5]
    assert metrics(trainer, "bbox/AP") == [(3.0, 1), (3.0, 3), (3.0, 5)]


def test_eval_hook_does_not_evaluate_a_failed_training():
    calls = []
    trainer = quadratic_trainer([1.0, math.nan])
    trainer.register_hooks([hooks.EvalHook(0, lambda: calls.append(1))])
    with pytest.raises(FloatingPointError):
        trainer.train(0, 9)
    assert calls == []


def test_eval_hook_wants_numbers():
    trainer = quadratic_trainer([1.0])
    trainer.register_hooks([hooks.EvalHook(0, lambda: {"bbox": {"AP": "high"}})])
    with pytest.raises(ValueError, match="bbox/AP: high"):
        trainer.train(0, 1)


@pytest.mark.parametrize(
    ("mode", "values", "saved"),
    [("max", [0.3, math.nan, 0.5, 0.4], [1, 5]), ("min", [0.3, 0.4, 0.2, 0.2], [1, 5])],
)
def test_best_checkpointer_saves_improvements(tmp_path, mode, values, saved):
    remaining = iter(values)
    trainer = quadratic_trainer([1.0] * 8)
    checkpointer = DetectionCheckpointer(trainer.model, str(tmp_path))
    iterations = []
    checkpointer.save = lambda name, iteration: iterations.append(iteration)
    evaluating = hooks.EvalHook(2, lambda: {"AP": next(remaining)})
    trainer.register_hooks([evaluating, hooks.BestCheckpointer(2, checkpointer, "AP", mode)])
    trainer.train(0, 8)
    assert iterations == saved


def test_best_checkpointer_without_its_metric(tmp_path, log):
    trainer = quadratic_trainer([1.0])
    checkpointer = DetectionCheckpointer(trainer.model, str(tmp_path))
    trainer.register_hooks([hooks.BestCheckpointer(0, checkpointer, "AP")])
    trainer.train(0, 1)
    assert "AP" in log.text
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(AssertionError, match="best"):
        hooks.BestCheckpointer(0, checkpointer, "AP", mode="best")


def test_lr_hook_takes_an_fvcore_schedule():
    trainer = quadratic_trainer([1.0] * 4, rate=2.0)
    trainer.register_hooks([hooks.LRScheduler(scheduler=LinearParamScheduler(1.0, 0.0))])
    trainer.train(0, 4)
    assert metrics(trainer, "lr") == [(2.0, 0), (1.5, 1), (1.0, 2), (0.5, 3)]


def test_lr_hook_shows_the_rate_of_most_parameters():
    first, second, third = (nn.Parameter(torch.zeros(1)) for _ in range(3))
    best = hooks.LRScheduler.get_best_param_group_id
    large = [{"params": [first], "lr": 1.0}, {"params": [second, third], "lr": 2.0}]
    assert best(torch.optim.SGD(large)) == 1
    single = [{"params": [p], "lr": lr} for p, lr in ((first, 1.0), (second, 2.0), (third, 2.0))]
    assert best(torch.optim.SGD(single)) == 1


def test_writer_writes_at_the_period_and_at_the_end(tmp_path):
    trainer = quadratic_trainer([1.0] * 5)
    writing = hooks.PeriodicWriter([JSONWriter(str(tmp_path / "metrics.json"))], period=2)
    trainer.register_hooks([hooks.EvalHook(0, lambda: {"AP": 1.0}), writing])
    trainer.train(0, 5)
    lines = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == [1, 3, 4, 5]
    assert lines[-1]["AP"] == 1.0


def test_timer_counts_after_its_warmup(log):
    trainer = quadratic_trainer([1.0] * 10)
    trainer.register_hooks([hooks.IterationTimer(warmup_iter=3)])
    trainer.train(0, 10)
    assert [iteration for _, iteration in metrics(trainer, "time")] == list(range(2, 10))
    assert "Overall training speed: 8 iterations in 0:00:00" in log.text
    assert "Total training time: 0:00:00 (0:00:00 on hooks)" in log.text


def test_precise_bn_averages_over_batches():
    model = nn.BatchNorm1d(1)
    batches = [torch.tensor([[0.0], [2.0]]), torch.tensor([[4.0], [6.0]])]
    trainer = quadratic_trainer([1.0])
    trainer.register_hooks([hooks.PreciseBN(0, model, batches, num_iter=2)])
    trainer.train(0, 1)
    # Values 0, 2, 4, 6: mean 3, variance 5.
    assert model.running_mean.tolist() == [3.0]
    assert model.running_var.item() == pytest.approx(5.0)


def test_precise_bn_leaves_a_frozen_model_alone(log):
    model = nn.BatchNorm1d(1).eval()
    hooks.PreciseBN(0, model, [], num_iter=2).update_stats()
    assert model.running_mean.tolist() == [0.0]
    assert "PreciseBN is disabled" in log.text
