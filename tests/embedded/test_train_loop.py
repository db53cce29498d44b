"""Training loop of Detectron2's API: steps by hand, order of the hooks, failures, resuming."""

import math

import maskrcnn_repro  # noqa: F401

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.engine import AMPTrainer, HookBase, SimpleTrainer, hooks
from detectron2.solver import LRMultiplier
from fvcore.common.param_scheduler import LinearParamScheduler
from torch import nn

from tests.helpers.quadratic import Quadratic, metrics, quadratic_trainer

POINTS = ("before_train", "before_step", "after_backward", "after_step", "after_train")


class _Recorder(HookBase):
    """Writes each of its calls, with the iteration, into a list."""

    def __init__(self, name, calls):
        for point in POINTS:
            setattr(self, point, lambda p=point: calls.append((name, p, self.trainer.iter)))


def test_two_steps_by_hand():
    trainer = quadratic_trainer([1.0, 3.0])
    trainer.train(0, 2)
    # w: 0 -> 0 + (1 - 0) / 2 = 0.5 -> 0.5 + (3 - 0.5) / 2 = 1.75; losses 1 / 2 and 2.5 ** 2 / 2.
    assert trainer.model.w.item() == 1.75
    assert metrics(trainer, "total_loss") == [(0.5, 0), (3.125, 1)]
    assert trainer.iter == trainer.max_iter == 2


def test_hooks_are_called_in_order():
    calls = []
    trainer = quadratic_trainer([1.0] * 9)
    trainer.register_hooks([_Recorder("a", calls), None, _Recorder("b", calls)])
    trainer.train(5, 7)
    expected = [("before_train", 5)]
    for iteration in (5, 6):
        expected += [(point, iteration) for point in POINTS[1:4]]
    expected.append(("after_train", 7))
    assert calls == [(name, point, i) for point, i in expected for name in "ab"]


def test_after_train_is_called_after_a_failure(log):
    calls = []
    trainer = quadratic_trainer([1.0, math.nan])
    trainer.register_hooks([_Recorder("a", calls)])
    with pytest.raises(FloatingPointError, match=r"iteration=1[\s\S]*loss"):
        trainer.train(0, 5)
    assert calls[-1] == ("a", "after_train", 1)
    assert "Exception during training" in log.text
    assert trainer.model.w.item() == 0.5  # the bad step was not made


def test_a_model_in_eval_mode_is_not_trained():
    trainer = quadratic_trainer([1.0])
    trainer.model.eval()
    with pytest.raises(AssertionError, match="eval mode"):
        trainer.train(0, 1)


def test_several_losses_are_summed_and_stored():
    class Two(Quadratic):
        def forward(self, x):
            return {"a": self.w * 0 + 1, "b": self.w * 0 + 2}

    model = Two()
    trainer = SimpleTrainer(model, [0.0], torch.optim.SGD(model.parameters(), lr=1.0))
    trainer.train(0, 1)
    values = {name: metrics(trainer, name)[0][0] for name in ("a", "b", "total_loss")}
    assert values == {"a": 1, "b": 2, "total_loss": 3}


def test_a_bare_tensor_is_the_total_loss():
    class Bare(Quadratic):
        def forward(self, x):
            return super().forward(x)["loss"]

    model = Bare()
    trainer = SimpleTrainer(model, [2.0], torch.optim.SGD(model.parameters(), lr=1.0))
    trainer.train(0, 1)
    assert metrics(trainer, "total_loss") == [(2.0, 0)]


@pytest.mark.parametrize(
    "options", [{"zero_grad_before_forward": True}, {"async_write_metrics": True}]
)
def test_options_do_not_change_the_result(options):
    data = [float(x) for x in range(10)]
    plain, other = quadratic_trainer(data), quadratic_trainer(data, **options)
    for trainer in (plain, other):
        trainer.train(0, 10)
    assert other.model.w.item() == plain.model.w.item()
    assert metrics(other, "total_loss") == metrics(plain, "total_loss")


def test_metrics_are_gathered_periodically():
    trainer = quadratic_trainer([1.0] * 7, gather_metric_period=3)
    trainer.train(0, 7)
    assert [iteration for _, iteration in metrics(trainer, "total_loss")] == [2, 5]


def test_reset_data_loader():
    trainer = quadratic_trainer([1.0])
    trainer.train(0, 1)
    trainer.reset_data_loader(lambda: [3.0])
    trainer.train(1, 2)
    assert trainer.model.w.item() == 1.75


@pytest.mark.skipif(torch.cuda.is_available(), reason="about machines without CUDA")
@pytest.mark.filterwarnings("ignore")
def test_mixed_precision_needs_cuda():
    trainer = quadratic_trainer([1.0], cls=AMPTrainer)
    with pytest.raises(AssertionError, match="CUDA is required"):
        trainer.train(0, 1)


@pytest.mark.filterwarnings("ignore")
def test_mixed_precision_refuses_several_devices():
    model = nn.DataParallel(Quadratic())
    with pytest.raises(AssertionError, match="does not support"):
        AMPTrainer(model, [], torch.optim.SGD(model.parameters(), lr=1.0))


def test_resume_continues_the_same_curve(tmp_path):
    data = [math.sin(x) for x in range(8)]

    def run(start, stop, resume):
        trainer = quadratic_trainer(data[start:], momentum=0.9)
        schedule = LRMultiplier(trainer.optimizer, LinearParamScheduler(1.0, 0.0), max_iter=8)
        checkpointer = DetectionCheckpointer(trainer.model, str(tmp_path), trainer=trainer)
        # The hook that steps comes first, so that its state is the one after the iteration.
        saving = hooks.PeriodicCheckpointer(checkpointer, period=4)
        trainer.register_hooks([hooks.LRScheduler(scheduler=schedule), saving])
        if resume:
            checkpointer.resume_or_load("", resume=True)
            assert trainer.iter == start - 1
        trainer.train(start, stop)
        return trainer

    whole = run(0, 8, resume=False)
    expected = whole.model.w.item(), whole.optimizer.param_groups[0]["lr"]
    run(0, 4, resume=False)
    resumed = run(4, 8, resume=True)
    assert (resumed.model.w.item(), resumed.optimizer.param_groups[0]["lr"]) == expected
    assert metrics(resumed, "lr") == metrics(whole, "lr")[4:]


def test_state_of_an_unknown_hook_is_skipped(log):
    trainer = quadratic_trainer([1.0])
    state = trainer.state_dict() | {"iteration": 7, "hooks": {"Gone": {}}}
    trainer.load_state_dict(state)
    assert trainer.iter == 7
    assert "Gone" in log.text
