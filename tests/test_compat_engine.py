"""Training loop and hooks of Detectron2's API."""

import json
import logging
import math

import maskrcnn_repro  # noqa: F401

import numpy as np
import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import get_cfg
from detectron2.engine import (
    AMPTrainer,
    DefaultPredictor,
    DefaultTrainer,
    HookBase,
    SimpleTrainer,
    create_ddp_model,
    default_argument_parser,
    default_setup,
    hooks,
    launch,
)
from detectron2.evaluation import DatasetEvaluator
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.solver import LRMultiplier
from detectron2.utils import comm
from detectron2.utils.events import JSONWriter
from fvcore.common.param_scheduler import LinearParamScheduler
from torch import nn

POINTS = ("before_train", "before_step", "after_backward", "after_step", "after_train")


class _Recorder(HookBase):
    """Writes each of its calls, with the iteration, into a list."""

    def __init__(self, name, calls):
        for point in POINTS:
            setattr(self, point, lambda p=point: calls.append((name, p, self.trainer.iter)))


class _Quadratic(nn.Module):
    """Loss (w - x)^2 / 2, so the gradient is w - x."""

    def __init__(self, start=0.0):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(start))

    def forward(self, x):
        return {"loss": (self.w - x) ** 2 / 2}


def _trainer(data, rate=0.5, momentum=0.0, cls=SimpleTrainer, **kwargs):
    model = _Quadratic()
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=momentum)
    return cls(model, data, optimizer, **kwargs)


def _metrics(trainer, name):
    return trainer.storage.history(name).values()


@pytest.fixture
def log(caplog):
    """What is logged below "detectron2", wherever its records go otherwise."""
    logger = logging.getLogger("detectron2")
    level = logger.level
    logger.addHandler(caplog.handler)
    logger.setLevel(logging.INFO)
    yield caplog
    logger.removeHandler(caplog.handler)
    logger.setLevel(level)


# --- loop --------------------------------------------------------------------------------------


def test_two_steps_by_hand():
    trainer = _trainer([1.0, 3.0])
    trainer.train(0, 2)
    # w: 0 -> 0 + (1 - 0) / 2 = 0.5 -> 0.5 + (3 - 0.5) / 2 = 1.75; losses 1 / 2 and 2.5 ** 2 / 2.
    assert trainer.model.w.item() == 1.75
    assert _metrics(trainer, "total_loss") == [(0.5, 0), (3.125, 1)]
    assert trainer.iter == trainer.max_iter == 2


def test_hooks_are_called_in_order():
    calls = []
    trainer = _trainer([1.0] * 9)
    trainer.register_hooks([_Recorder("a", calls), None, _Recorder("b", calls)])
    trainer.train(5, 7)
    expected = [("before_train", 5)]
    for iteration in (5, 6):
        expected += [(point, iteration) for point in POINTS[1:4]]
    expected.append(("after_train", 7))
    assert calls == [(name, point, i) for point, i in expected for name in "ab"]


def test_after_train_is_called_after_a_failure(log):
    calls = []
    trainer = _trainer([1.0, math.nan])
    trainer.register_hooks([_Recorder("a", calls)])
    with pytest.raises(FloatingPointError, match=r"iteration=1[\s\S]*loss"):
        trainer.train(0, 5)
    assert calls[-1] == ("a", "after_train", 1)
    assert "Exception during training" in log.text
    assert trainer.model.w.item() == 0.5  # the bad step was not made


def test_a_model_in_eval_mode_is_not_trained():
    trainer = _trainer([1.0])
    trainer.model.eval()
    with pytest.raises(AssertionError, match="eval mode"):
        trainer.train(0, 1)


def test_several_losses_are_summed_and_stored():
    class Two(_Quadratic):
        def forward(self, x):
            return {"a": self.w * 0 + 1, "b": self.w * 0 + 2}

    model = Two()
    trainer = SimpleTrainer(model, [0.0], torch.optim.SGD(model.parameters(), lr=1.0))
    trainer.train(0, 1)
    values = {name: _metrics(trainer, name)[0][0] for name in ("a", "b", "total_loss")}
    assert values == {"a": 1, "b": 2, "total_loss": 3}


def test_a_bare_tensor_is_the_total_loss():
    class Bare(_Quadratic):
        def forward(self, x):
            return super().forward(x)["loss"]

    model = Bare()
    trainer = SimpleTrainer(model, [2.0], torch.optim.SGD(model.parameters(), lr=1.0))
    trainer.train(0, 1)
    assert _metrics(trainer, "total_loss") == [(2.0, 0)]


@pytest.mark.parametrize(
    "options", [{"zero_grad_before_forward": True}, {"async_write_metrics": True}]
)
def test_options_do_not_change_the_result(options):
    data = [float(x) for x in range(10)]
    plain, other = _trainer(data), _trainer(data, **options)
    for trainer in (plain, other):
        trainer.train(0, 10)
    assert other.model.w.item() == plain.model.w.item()
    assert _metrics(other, "total_loss") == _metrics(plain, "total_loss")


def test_metrics_are_gathered_periodically():
    trainer = _trainer([1.0] * 7, gather_metric_period=3)
    trainer.train(0, 7)
    assert [iteration for _, iteration in _metrics(trainer, "total_loss")] == [2, 5]


def test_reset_data_loader():
    trainer = _trainer([1.0])
    trainer.train(0, 1)
    trainer.reset_data_loader(lambda: [3.0])
    trainer.train(1, 2)
    assert trainer.model.w.item() == 1.75


@pytest.mark.skipif(torch.cuda.is_available(), reason="about machines without CUDA")
@pytest.mark.filterwarnings("ignore")
def test_mixed_precision_needs_cuda():
    trainer = _trainer([1.0], cls=AMPTrainer)
    with pytest.raises(AssertionError, match="CUDA is required"):
        trainer.train(0, 1)


@pytest.mark.filterwarnings("ignore")
def test_mixed_precision_refuses_several_devices():
    model = nn.DataParallel(_Quadratic())
    with pytest.raises(AssertionError, match="does not support"):
        AMPTrainer(model, [], torch.optim.SGD(model.parameters(), lr=1.0))


def test_resume_continues_the_same_curve(tmp_path):
    data = [math.sin(x) for x in range(8)]

    def run(start, stop, resume):
        trainer = _trainer(data[start:], momentum=0.9)
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
    assert _metrics(resumed, "lr") == _metrics(whole, "lr")[4:]


def test_state_of_an_unknown_hook_is_skipped(log):
    trainer = _trainer([1.0])
    state = trainer.state_dict() | {"iteration": 7, "hooks": {"Gone": {}}}
    trainer.load_state_dict(state)
    assert trainer.iter == 7
    assert "Gone" in log.text


# --- hooks -------------------------------------------------------------------------------------


def test_eval_hook_evaluates_at_the_period_and_at_the_end():
    iterations = []
    trainer = _trainer([1.0] * 5)

    def evaluate():
        iterations.append(trainer.iter)
        return {"bbox": {"AP": 3.0}}

    trainer.register_hooks([hooks.EvalHook(2, evaluate)])
    trainer.train(0, 5)
    assert iterations == [1, 3, 5]
    assert _metrics(trainer, "bbox/AP") == [(3.0, 1), (3.0, 3), (3.0, 5)]


def test_eval_hook_does_not_evaluate_a_failed_training():
    calls = []
    trainer = _trainer([1.0, math.nan])
    trainer.register_hooks([hooks.EvalHook(0, lambda: calls.append(1))])
    with pytest.raises(FloatingPointError):
        trainer.train(0, 9)
    assert calls == []


def test_eval_hook_wants_numbers():
    trainer = _trainer([1.0])
    trainer.register_hooks([hooks.EvalHook(0, lambda: {"bbox": {"AP": "high"}})])
    with pytest.raises(ValueError, match="bbox/AP: high"):
        trainer.train(0, 1)


@pytest.mark.parametrize(
    ("mode", "values", "saved"),
    [("max", [0.3, math.nan, 0.5, 0.4], [1, 5]), ("min", [0.3, 0.4, 0.2, 0.2], [1, 5])],
)
def test_best_checkpointer_saves_improvements(tmp_path, mode, values, saved):
    remaining = iter(values)
    trainer = _trainer([1.0] * 8)
    checkpointer = DetectionCheckpointer(trainer.model, str(tmp_path))
    iterations = []
    checkpointer.save = lambda name, iteration: iterations.append(iteration)
    evaluating = hooks.EvalHook(2, lambda: {"AP": next(remaining)})
    trainer.register_hooks([evaluating, hooks.BestCheckpointer(2, checkpointer, "AP", mode)])
    trainer.train(0, 8)
    assert iterations == saved


def test_best_checkpointer_without_its_metric(tmp_path, log):
    trainer = _trainer([1.0])
    checkpointer = DetectionCheckpointer(trainer.model, str(tmp_path))
    trainer.register_hooks([hooks.BestCheckpointer(0, checkpointer, "AP")])
    trainer.train(0, 1)
    assert "AP" in log.text
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(AssertionError, match="best"):
        hooks.BestCheckpointer(0, checkpointer, "AP", mode="best")


def test_lr_hook_takes_an_fvcore_schedule():
    trainer = _trainer([1.0] * 4, rate=2.0)
    trainer.register_hooks([hooks.LRScheduler(scheduler=LinearParamScheduler(1.0, 0.0))])
    trainer.train(0, 4)
    assert _metrics(trainer, "lr") == [(2.0, 0), (1.5, 1), (1.0, 2), (0.5, 3)]


def test_lr_hook_shows_the_rate_of_most_parameters():
    one, two, three = (nn.Parameter(torch.zeros(1)) for _ in range(3))
    best = hooks.LRScheduler.get_best_param_group_id
    large = [{"params": [one], "lr": 1.0}, {"params": [two, three], "lr": 2.0}]
    assert best(torch.optim.SGD(large)) == 1
    single = [{"params": [p], "lr": lr} for p, lr in ((one, 1.0), (two, 2.0), (three, 2.0))]
    assert best(torch.optim.SGD(single)) == 1


def test_writer_writes_at_the_period_and_at_the_end(tmp_path):
    trainer = _trainer([1.0] * 5)
    writing = hooks.PeriodicWriter([JSONWriter(str(tmp_path / "metrics.json"))], period=2)
    trainer.register_hooks([hooks.EvalHook(0, lambda: {"AP": 1.0}), writing])
    trainer.train(0, 5)
    lines = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == [1, 3, 4, 5]
    assert lines[-1]["AP"] == 1.0


def test_timer_counts_after_its_warmup(log):
    trainer = _trainer([1.0] * 10)
    trainer.register_hooks([hooks.IterationTimer(warmup_iter=3)])
    trainer.train(0, 10)
    assert [iteration for _, iteration in _metrics(trainer, "time")] == list(range(2, 10))
    assert "Overall training speed: 8 iterations in 0:00:00" in log.text
    assert "Total training time: 0:00:00 (0:00:00 on hooks)" in log.text


def test_precise_bn_averages_over_batches():
    model = nn.BatchNorm1d(1)
    batches = [torch.tensor([[0.0], [2.0]]), torch.tensor([[4.0], [6.0]])]
    trainer = _trainer([1.0])
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


# --- launch and setup --------------------------------------------------------------------------


def test_launch_of_one_process_stays_in_it():
    calls = []
    launch(calls.append, 1, args=("here",))
    assert calls == ["here"]


def _worker(folder):
    ranks = comm.all_gather((comm.get_rank(), comm.get_local_rank(), comm.get_world_size()))
    model = create_ddp_model(nn.Linear(1, 1), device_ids=None)
    model(torch.full((1, 1), float(comm.get_rank()))).sum().backward()
    result = {"ranks": ranks, "grad": model.module.weight.grad.item()}
    (folder / f"{comm.get_rank()}.json").write_text(json.dumps(result))


@pytest.mark.slow
def test_launch_of_two_processes(tmp_path):
    launch(_worker, 2, dist_url="auto", args=(tmp_path,))
    for rank in (0, 1):
        result = json.loads((tmp_path / f"{rank}.json").read_text())
        # Gradients 0 and 1 are averaged.
        assert result == {"ranks": [[0, 0, 2], [1, 1, 2]], "grad": 0.5}


@pytest.mark.embedded_only
@pytest.mark.parametrize(("machines", "url"), [(1, None), (2, "auto")])
def test_launch_needs_an_address(machines, url):
    with pytest.raises(ValueError, match=r"dist_url|address"):
        launch(print, 2, machines, dist_url=url)


def test_argument_parser():
    parser = default_argument_parser()
    args = parser.parse_args(["--config-file", "a.yaml", "--resume", "SOLVER.BASE_LR", "0.1"])
    assert (args.config_file, args.resume, args.eval_only) == ("a.yaml", True, False)
    assert (args.num_gpus, args.num_machines, args.machine_rank) == (1, 1, 0)
    assert args.opts == ["SOLVER.BASE_LR", "0.1"]
    assert args.dist_url == parser.parse_args([]).dist_url  # stable for a user
    assert 49152 <= int(args.dist_url.rpartition(":")[2]) < 65536


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


# --- defaults ----------------------------------------------------------------------------------


@META_ARCH_REGISTRY.register()
class _TestEngineNet(nn.Module):
    """Loss as `_Quadratic`; inference returns its input."""

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
    trainer.model = replacement = _Quadratic()
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
