"""What a failed step keeps of its batch, and in which precision it is done again."""

from types import SimpleNamespace

from maskrcnn_repro.data.densepose.annotation import SIDE, SurfacePoints
from maskrcnn_repro.data.densepose.targets import SurfaceTargets
from maskrcnn_repro.engine import replay as replaying
from maskrcnn_repro.engine.guard.dump import generator_states, read_step, write_step
from maskrcnn_repro.engine.replay import replay
from maskrcnn_repro.errors import ConfigError

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances
from torch import nn

FLOAT16 = "SOLVER:\n  AMP:\n    ENABLED: true\n    DTYPE: float16\n"


def step(batch=(), config=""):
    """The values of a failed step."""
    return {
        "what": "loss is nan",
        "iteration": 3,
        "rank": 0,
        "processes": 1,
        "config": config + "SEED: 1\n",
        "model": nn.Linear(1, 1).state_dict(),
        "batch": list(batch),
        "generators": generator_states(),
        "losses": {"loss": torch.tensor(1.0)},
    }


def kept(folder, **fields):
    """The instances of two objects, as they come back from a file."""
    instances = Instances((8, 8), gt_boxes=Boxes(torch.ones(2, 4)), **fields)
    write_step(
        folder / "rank0.pth", step([{"image": torch.zeros(3, 8, 8), "instances": instances}])
    )
    return read_step(folder / "rank0.pth")["batch"][0]["instances"]


def test_surfaces_are_kept(tmp_path):
    points = SurfacePoints(np.array([[9.0, 8, 1, 0.5, 0.25]]), np.ones((SIDE, SIDE), np.uint8))
    # Chosen by index: an object without a surface, then one with it.
    surfaces = SurfaceTargets.of([points, None])[torch.tensor([1, 0])]
    back = kept(tmp_path, gt_densepose=surfaces).gt_densepose
    assert back.annotated.tolist() == [False, True]
    for part in ("points", "parts", "has_parts"):
        assert torch.equal(getattr(back, part), getattr(surfaces, part))


def test_a_field_of_another_kind_is_left_out_and_named_once(tmp_path, caplog):
    instances = kept(tmp_path, gt_classes=torch.zeros(2), names=["a", "b"])
    assert set(instances.get_fields()) == {"gt_boxes", "gt_classes"}
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path / 'rank0.pth'} lacks 'instances.names': values of a kind that it cannot hold"
    ]


def test_a_file_of_an_earlier_version_lacks_such_fields(tmp_path):
    fields = {"gt_boxes": {"Boxes": torch.ones(1, 4)}, "gt_densepose": None}
    content = step([{"instances": {"image_size": (8, 8), "fields": fields}}])
    torch.save({"kind": "failed step", **content}, tmp_path / "rank0.pth")
    (image,) = read_step(tmp_path / "rank0.pth")["batch"]
    assert set(image["instances"].get_fields()) == {"gt_boxes"}


class Model(nn.Linear):
    """Gives the loss of a batch without images, and notes in which precision."""

    def __init__(self, precisions):
        super().__init__(1, 1)
        self.precisions, self.seen = precisions, []

    def forward(self, batch):
        self.seen.append(list(self.precisions))
        return {"loss": super().forward(torch.ones(1, 1)).sum()}


@pytest.fixture
def model(monkeypatch):
    """A model in place of the config's, which knows the precisions of autocast on a GPU around it."""
    precisions = []

    class Autocast:
        def __init__(self, device, dtype, enabled):
            self.own = [(device, dtype)] * enabled

        def __enter__(self):
            precisions.extend(self.own)

        def __exit__(self, *_):
            precisions.clear()

    model = Model(precisions)
    trainer = SimpleNamespace(build_model=lambda cfg: model)
    monkeypatch.setattr(replaying, "trainer_of", lambda cfg: trainer)
    monkeypatch.setattr(torch, "autocast", Autocast)
    return model


@pytest.mark.parametrize(
    ("config", "device", "precisions"),
    [("", "cpu", []), (FLOAT16, "cuda", [("cuda", torch.float16)])],
)
def test_a_step_is_done_again_in_its_precision(
    tmp_path, monkeypatch, model, config, device, precisions
):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    write_step(tmp_path / "rank0.pth", step(config=config))
    replay(tmp_path / "rank0.pth", device)
    assert model.seen == [precisions]


@pytest.mark.parametrize(
    ("config", "device", "words"),
    [
        (FLOAT16, "cpu", "is a step in float16, which needs a GPU: replay it with --device cuda"),
        ("", "cuda:7", "'cuda:7', but PyTorch sees 0 GPUs"),
        ("", "gpu", "'gpu' is not one of auto, cpu, cuda"),
    ],
)
def test_a_device_that_cannot_do_it_is_refused(tmp_path, monkeypatch, config, device, words):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    write_step(tmp_path / "rank0.pth", step(config=config))
    with pytest.raises(ConfigError, match=words):
        replay(tmp_path / "rank0.pth", device)
