"""Shared features by 4-step training (Sec. 4.4): a frozen backbone, two stages joined into one model."""

import json

from maskrcnn_repro.checkpoint.join import join
from maskrcnn_repro.engine.main import main
from maskrcnn_repro.errors import CheckpointError, ConfigError, OutputError
from maskrcnn_repro.modeling.freezing import freeze_backbone

import pytest
import torch
from torch import nn

from tests.helpers.commands import join_weights
from tests.helpers.commands import proposals as store
from tests.helpers.proposal_files import RPN, on_stored
from tests.helpers.tiny_coco import command_line, write_tiny_coco

FREEZE = ["MODEL.BACKBONE.FREEZE_ALL", "True"]


def weights(folder):
    return torch.load(folder / "model_final.pth")["model"]


@pytest.fixture(scope="module")
def steps(tmp_path_factory):
    """Data and folders of the four steps, two iterations each, as docs/four_step_training.md has them."""
    root = tmp_path_factory.mktemp("four")
    data = write_tiny_coco(root / "data")
    folders = [root / f"step{i}" for i in range(1, 5)]
    rpn1, detector2, rpn3, detector4 = folders
    tiny = [folder / "proposals/tiny.proposals" for folder in folders]

    def from_step(folder):
        return [*FREEZE, "MODEL.WEIGHTS", str(folder / "model_final.pth")]

    plan = [
        (main, rpn1, RPN),
        (store, rpn1, RPN),
        (main, detector2, on_stored(tiny[0])),
        (main, rpn3, [*RPN, *from_step(detector2)]),
        (store, rpn3, RPN),
        (main, detector4, [*on_stored(tiny[2]), *from_step(detector2)]),
    ]
    for command, folder, opts in plan:
        assert command(command_line(data, folder, opts=[*opts, "TEST.SHEET_IMAGES", "0"])) == 0
    return data, folders


def test_the_backbone_stays_and_the_rest_learns(steps):
    _, (_, detector2, rpn3, detector4) = steps
    start = weights(detector2)
    backbone = [name for name in start if name.startswith("backbone.")]
    assert any("fpn_lateral" in name for name in backbone)
    assert any("running_mean" in name for name in backbone)
    for later in (weights(rpn3), weights(detector4)):
        assert {name for name in later if name.startswith("backbone.")} == set(backbone)
        for name in backbone:
            assert torch.equal(later[name], start[name]), name
    heads = [name for name in start if name.startswith("roi_heads.") and name.endswith("weight")]
    changed = [name for name in heads if not torch.equal(weights(detector4)[name], start[name])]
    assert len(changed) == len(heads)


def test_the_joined_model_equals_the_two_stages(steps, tmp_path):
    data, (_, _, rpn3, detector4) = steps
    joined = tmp_path / "joined.pth"
    assert (
        join_weights(
            [str(rpn3 / "model_final.pth"), str(detector4 / "model_final.pth"), str(joined)]
        )
        == 0
    )
    # As many proposals as the stages passed on.
    opts = ["MODEL.WEIGHTS", str(joined), "TEST.SHEET_IMAGES", "0"]
    assert main(command_line(data, tmp_path / "one", "--eval-only", opts=opts)) == 0
    one, two = (
        json.loads((folder / "inference/tiny/coco_instances_results.json").read_text())
        for folder in (tmp_path / "one", detector4)
    )
    assert len(one) == len(two) == 4 * 5
    for mine, other in zip(one, two, strict=True):
        assert mine["category_id"] == other["category_id"]
        assert mine["score"] == pytest.approx(other["score"], abs=1e-5)
        assert mine["bbox"] == pytest.approx(other["bbox"], abs=1e-3)


def test_two_backbones_are_not_joined(steps, tmp_path, capsys):
    _, (rpn1, _, rpn3, detector4) = steps
    pair = [str(folder / "model_final.pth") for folder in (rpn1, detector4)]
    assert join_weights([*pair, str(tmp_path / "out.pth")]) == 2
    error = capsys.readouterr().err
    assert "tensors of the backbone" in error
    assert "MODEL.BACKBONE.FREEZE_ALL True" in error
    with pytest.raises(CheckpointError, match=r"no checkpoint .* 'proposal_generator.\*'"):
        join(detector4 / "model_final.pth", rpn3 / "model_final.pth", tmp_path / "out.pth")
    with pytest.raises(CheckpointError, match=r"do not exist"):
        join(tmp_path / "none.pth", rpn3 / "model_final.pth", tmp_path / "out.pth")
    with pytest.raises(OutputError, match=r"out\.safetensors': let its name end in \.pth"):
        join(rpn3 / "model_final.pth", detector4 / "model_final.pth", tmp_path / "out.safetensors")
    assert not (tmp_path / "out.pth").exists()


def test_freezing_stops_gradients_and_running_statistics():
    body = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Sequential(nn.Conv2d(4, 4, 1)))
    model = nn.ModuleDict({"backbone": body, "head": nn.Linear(4, 2)})
    names = list(model.state_dict())
    freeze_backbone(model)
    assert list(model.state_dict()) == names
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    features = model["backbone"](torch.randn(8, 3, 5, 5))
    model["head"](features.mean(dim=(2, 3))).sum().backward()
    assert all(p.grad is None for p in model["backbone"].parameters())
    assert model["head"].weight.grad is not None
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_model_without_a_backbone_is_told():
    with pytest.raises(ConfigError, match=r"FREEZE_ALL is True, but Linear has no 'backbone'"):
        freeze_backbone(nn.Linear(1, 1))
