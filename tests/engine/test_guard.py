"""Numbers that are not finite: the step fails with its cause, nothing of it is saved, and it can be done again."""

import json
import math
import re
from pathlib import Path

from maskrcnn_cli.dispatch import run_command
from maskrcnn_repro.config import load_config
from maskrcnn_repro.data.mapper import TrainMapper
from maskrcnn_repro.engine import Trainer
from maskrcnn_repro.engine.gradient_norm import norm_of
from maskrcnn_repro.engine.guard.causes import cause_of
from maskrcnn_repro.engine.guard.dump import generator_states, read_step, set_generator_states
from maskrcnn_repro.engine.guard.evidence import Evidence
from maskrcnn_repro.engine.main import main
from maskrcnn_repro.engine.optimizer import build_optimizer
from maskrcnn_repro.engine.replay import replay
from maskrcnn_repro.errors import CheckpointError

import numpy as np
import pytest
import torch
from detectron2.engine import HookBase
from detectron2.structures import Boxes, Instances
from torch import nn

from tests.helpers.tiny_coco import command_line, write_tiny_coco

NAN, INF = math.nan, math.inf
SHORT = ["DATASETS.TEST", "()", "SOLVER.MAX_ITER", "4"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_tiny_coco(tmp_path_factory.mktemp("data"))


def train(data, folder, trainer=None, *options, opts=()):
    return main(command_line(data, folder, *options, opts=[*SHORT, *opts]), trainer=trainer)


class Spoils(HookBase):
    """Calls `spoil(trainer)` at a point of iteration 2."""

    def __init__(self, point, spoil):
        setattr(self, point, lambda: self.trainer.iter == 2 and spoil(self.trainer))


def spoiled(point, spoil):
    class Spoiled(Trainer):
        def build_hooks(self):
            return [Spoils(point, spoil)]

    Spoiled.__qualname__ = Spoiled.__name__ = f"Spoiled{id(spoil)}"
    globals()[Spoiled.__name__] = Spoiled
    return Spoiled


def spoil_gradient(trainer):
    trainer.optimizer.param_groups[0]["params"][0].grad.view(-1)[0] = NAN


def spoil_loss(trainer):
    trainer._step.model.roi_heads.mask_head.predictor.bias.data[:] = NAN


def spoil_buffer(trainer):
    next(b for n, b in trainer.model.named_buffers() if n.endswith("running_var"))[0] = INF


def log_of(folder):
    return (folder / "log.txt").read_text().splitlines()


def weights(folder, name):
    return torch.load(folder / name, weights_only=True)["model"]


def test_a_gradient_that_is_nan_stops_with_status_3_and_leaves_the_last_good_weights(
    data, tmp_path
):
    folder = tmp_path / "out"
    assert train(data, folder, spoiled("after_backward", spoil_gradient)) == 3
    assert (folder / "last_checkpoint").read_text() == "model_0000001.pth"
    assert not (folder / "model_final.pth").exists()
    step = read_step(folder / "failure/rank0.pth")
    before = weights(folder, "model_0000001.pth")
    # A forward pass moves the running statistics, before its gradients are looked at.
    parameters = {n for n in before if "running" not in n and "num_batches" not in n}
    assert all(torch.equal(step["model"][n], before[n]) for n in parameters)
    names = {Path(image["file_name"]).name for image in step["batch"]}
    message = next(line for line in log_of(folder) if "iteration 2" in line)
    assert all(repr(name) in message for name in names)
    assert re.search(r"gradients of '.*' are not finite .*maskrcnn replay .*rank0.pth", message)


def test_a_buffer_that_is_infinite_is_in_no_file(data, tmp_path):
    folder = tmp_path / "out"
    assert train(data, folder, spoiled("after_backward", spoil_buffer)) == 3
    assert sorted(f.name for f in folder.glob("*.pth")) == [
        "model_0000000.pth",
        "model_0000001.pth",
    ]
    assert any("running statistics of batch norm" in line for line in log_of(folder))


def test_a_failed_step_is_done_again_to_the_last_bit(data, tmp_path, capsys):
    folder = tmp_path / "out"
    assert train(data, folder, spoiled("before_step", spoil_loss)) == 3
    step = replay(folder / "failure/rank0.pth")
    assert step.equal
    assert step.module == "roi_heads.mask_head.predictor"
    assert math.isnan(step.losses["loss_mask"])
    assert math.isfinite(step.losses["loss_rpn_cls"])
    assert run_command("replay", [str(folder / "failure/rank0.pth")]) == 0
    out = capsys.readouterr().out
    assert "equal to the last bit" in out
    assert "'roi_heads.mask_head.predictor'" in out


def test_a_finite_step_is_done_again_to_the_last_bit_with_parts(data, tmp_path):
    """The gradient is spoiled alone: all losses are numbers, drawn with random RoIs in two parts."""
    folder = tmp_path / "out"
    opts = ["SOLVER.ACCUMULATE", "2", "SOLVER.IMS_PER_BATCH", "4"]
    assert train(data, folder, spoiled("after_backward", spoil_gradient), opts=opts) == 3
    step = replay(folder / "failure/rank0.pth")
    assert step.equal
    assert step.module == ""
    assert step.gradients == ()
    assert all(math.isfinite(loss) for loss in step.losses.values())


@pytest.mark.slow
def test_all_processes_stop_when_one_has_a_loss_that_is_not_finite(data, tmp_path):
    folder = tmp_path / "out"
    assert train(data, folder, OneRankFails, "--num-gpus", "2") == 3
    assert (folder / "last_checkpoint").read_text() == "model_0000001.pth"
    assert [f.name for f in (folder / "failure").iterdir()] == ["rank1.pth"]


class OneRankFails(Trainer):
    """The losses of process 1 are infinite in iteration 2, its gradients finite."""

    @classmethod
    def build_model(cls, cfg):
        model = super().build_model(cfg)
        calls = iter(range(100))

        def spoil(_, __, losses):
            from detectron2.utils import comm

            if model.training and next(calls) == 2 and comm.get_rank() == 1:
                return {**losses, "loss_cls": losses["loss_cls"] + INF}
            return None

        model.register_forward_hook(spoil)
        return model


def test_clipping_refuses_to_spread_nan():
    cfg = load_config("configs/mini/mask_rcnn_fpn.yaml")
    model = nn.Linear(2, 1)
    optimizer = build_optimizer(cfg, model)
    model(torch.ones(2)).sum().backward()
    model.weight.grad[0, 0] = NAN
    with pytest.raises(FloatingPointError, match="norm is nan"):
        optimizer.step()
    assert model.bias.grad.item() == 1.0


def test_the_norm_that_is_looked_at_is_the_one_that_clips(monkeypatch):
    cfg = load_config("configs/mini/mask_rcnn_fpn.yaml")
    model = nn.Linear(2, 1, bias=False)
    optimizer = build_optimizer(cfg, model)
    model(torch.tensor([30.0, 40.0])).sum().backward()
    calls = []
    measure = nn.utils.get_total_norm
    monkeypatch.setattr(nn.utils, "get_total_norm", lambda *a: calls.append(1) or measure(*a))
    assert norm_of(optimizer).measure().item() == 50.0
    optimizer.step()
    assert len(calls) == 1
    # 50 is clipped to 5, SOLVER.CLIP_GRADIENTS.CLIP_VALUE of this config.
    assert torch.allclose(model.weight.grad, torch.tensor([[3.0, 4.0]]), atol=1e-4)


def image(name="a.png", low=0, high=255, boxes=((0.0, 0.0, 9.0, 9.0),)):
    pixels = torch.full((3, 8, 8), float(low))
    pixels[0, 0, 0] = high
    instances = Instances((8, 8), gt_boxes=Boxes(torch.tensor(boxes)))
    return {"image": pixels, "instances": instances, "file_name": f"/data/{name}"}


FINE = {"loss_cls": 1.0, "loss_mask": 0.7}
STEADY = [2.0, 1.9, 1.8]


def evidence(*opts, images=None, losses=FINE, history=STEADY, first=False, **values):
    opts = ["MODEL.WEIGHTS", "r50.pkl", *opts]
    cfg = load_config("configs/coco/r50_c4_roialign_max.yaml", opts)
    return Evidence(
        cfg, 9, first, images=images or [image()], losses=losses, history=history, **values
    )


BAD_MASK = {"loss_cls": 1.0, "loss_mask": NAN}
BAD_ALL = {"loss_cls": INF, "loss_mask": NAN}
CAUSES = {
    "weights": (
        evidence(first=True, losses=BAD_ALL, weights=["stem.weight"]),
        "r50.pkl .*'stem.weight'",
    ),
    "update": (
        evidence(first=True, losses={"loss_cls": 1.0}, weights=["stem.weight"]),
        "'stem.weight' not: the optimiser's update, or a hook",
    ),
    "pixel_std": (evidence("MODEL.PIXEL_STD", "[1e-30, 1.0, 1.0]", losses=BAD_ALL), "PIXEL_STD"),
    "pixels": (
        evidence(images=[image(), image("b.png", high=NAN)], losses=BAD_ALL),
        "'/data/b.png'",
    ),
    "annotations": (
        evidence(images=[image("c.png", boxes=((5.0, 5.0, 5.0, 9.0),))], losses=BAD_ALL),
        "gt_boxes of '/data/c.png'",
    ),
    "pixel_range": (
        evidence(images=[image("d.png", high=40000)], losses=BAD_ALL),
        "from 0 to 40000",
    ),
    "precision": (evidence(losses=BAD_ALL, scale=1024.0), "float16"),
    "no_weights": (evidence("MODEL.WEIGHTS", "", losses=BAD_ALL), "MODEL.WEIGHTS is empty"),
    "statistics": (evidence(buffers=["bn.running_var"]), "'bn.running_var'"),
    "rate": (evidence(losses=BAD_ALL, history=[2.0, 3.0, 40.0]), "for a batch of 16 .* 0.02"),
    "loss": (
        evidence(
            losses=BAD_MASK, classes={"roi_heads.mask_head": "my_head.Dice", "": "torch.nn.M"}
        ),
        "loss_mask alone of 2 losses is .*my_head.Dice",
    ),
    "backward": (evidence(gradients=["stem.weight", "fc.weight"], norm=NAN), "'fc'"),
    "unknown": (evidence(losses=BAD_ALL), "replay"),
}


@pytest.mark.parametrize("code", CAUSES)
def test_each_cause_is_named(code):
    case, text = CAUSES[code]
    cause = cause_of(case)
    assert cause.code == code
    assert re.search(text, f"{cause.sentence}; {cause.remedy}")


def test_a_batch_of_two_images_has_a_rate_of_its_own():
    """0.02 for 16 images is 0.0025 for 2 (Sec. 3.1): ten times as much is named, also without a course."""
    opts = ["SOLVER.IMS_PER_BATCH", "2", "SOLVER.BASE_LR", "0.02"]
    cause = cause_of(evidence(*opts, losses=BAD_ALL, history=[]))
    assert cause.code == "rate"
    assert "SOLVER.BASE_LR 0.002," in cause.remedy


def test_states_of_the_generators_are_set_again():
    states = generator_states()
    drawn = torch.rand(3), np.random.rand(3)
    set_generator_states(states)
    assert torch.equal(torch.rand(3), drawn[0])
    assert (np.random.rand(3) == drawn[1]).all()


def test_weights_that_are_not_finite_are_refused_on_loading(data, tmp_path, capsys):
    folder = tmp_path / "out"
    assert train(data, folder) == 0
    content = torch.load(folder / "model_final.pth", weights_only=True)
    content["model"]["roi_heads.mask_head.predictor.bias"][0] = NAN
    torch.save(content, tmp_path / "nan.pth")
    opts = ["MODEL.WEIGHTS", str(tmp_path / "nan.pth"), "DATASETS.TEST", "('tiny',)"]
    assert train(data, folder, None, "--eval-only", opts=opts) == 2
    assert "NaN or infinity in 'roi_heads.mask_head.predictor.bias'" in capsys.readouterr().err


def test_other_files_are_no_failed_step(tmp_path, capsys):
    file = tmp_path / "model.pth"
    with pytest.raises(CheckpointError, match="does not exist"):
        read_step(file)
    torch.save({"model": {}}, file)
    assert run_command("replay", [str(file)]) == 2
    assert "is no failed step" in capsys.readouterr().err


INJECTED = {
    "pixel_std": (None, ["MODEL.PIXEL_STD", "[1e-38,1.0,1.0]"]),
    "rate": (None, ["SOLVER.BASE_LR", "1e12", "SOLVER.WARMUP_ITERS", "0", "SOLVER.MAX_ITER", "8"]),
    "statistics": (spoiled("after_backward", spoil_buffer), []),
    "backward": (spoiled("after_backward", spoil_gradient), []),
    "loss": (spoiled("before_step", spoil_loss), []),
}


class SpoilsPixels(TrainMapper):
    def __call__(self, record):
        sample = super().__call__(record)
        if record["image_id"] == 11:
            sample["image"] = sample["image"].float() * NAN
        return sample


class SpoilsRange(TrainMapper):
    def __call__(self, record):
        sample = super().__call__(record)
        sample["image"] = sample["image"].float() * 1e36
        return sample


class SpoilsBoxes(TrainMapper):
    def __call__(self, record):
        sample = super().__call__(record)
        sample["instances"].gt_boxes.tensor[0, 2] = NAN
        return sample


def mapped(mapper):
    class Mapped(Trainer):
        @classmethod
        def build_train_mapper(cls, cfg):
            return mapper(cfg, True)

    Mapped.__qualname__ = Mapped.__name__ = f"With{mapper.__name__}"
    globals()[Mapped.__name__] = Mapped
    return Mapped


INJECTED |= {
    "pixels": (mapped(SpoilsPixels), []),
    "pixel_range": (mapped(SpoilsRange), []),
    "annotations": (mapped(SpoilsBoxes), []),
}


@pytest.mark.slow
@pytest.mark.parametrize("code", INJECTED)
def test_an_injected_cause_stops_a_training_and_is_named(code, data, tmp_path, monkeypatch, capsys):
    causes = []
    monkeypatch.setattr(
        "maskrcnn_repro.engine.guard.guard.cause_of",
        lambda evidence: causes.append(cause_of(evidence)) or causes[-1],
    )
    trainer, opts = INJECTED[code]
    assert train(data, tmp_path / "out", trainer, opts=opts) == 3
    assert [cause.code for cause in causes] == [code]
    assert "Traceback" not in str(capsys.readouterr())
    for line in (tmp_path / "out/metrics.json").read_text().splitlines():
        assert math.isfinite(json.loads(line).get("total_loss", 0))
