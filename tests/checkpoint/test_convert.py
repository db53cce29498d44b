"""Backbones of other libraries: the same features under Detectron2's names."""

import sys
import types

from maskrcnn_repro.checkpoint.checkpointer import Checkpointer
from maskrcnn_repro.checkpoint.convert import convert, convert_names, groups_options
from maskrcnn_repro.checkpoint.join import join
from maskrcnn_repro.config import get_config, load_config
from maskrcnn_repro.errors import CheckpointError, OutputError

import pytest
import torch
import torchvision
from detectron2.modeling import build_backbone
from safetensors.torch import save_file
from torch import nn

from tests.helpers.commands import convert_weights
from tests.helpers.weight_files import caffe2, meta
from tests.helpers.weight_files import torchvision as torchvision_shapes


def detectron2_resnet(depth):
    cfg = get_config()
    cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.RESNETS.STRIDE_IN_1X1 = depth, False
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 256 if depth > 34 else 64
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    return nn.ModuleDict({"backbone": build_backbone(cfg)}).eval()


def torchvision_resnet(name):
    torch.manual_seed(1)
    network = getattr(torchvision.models, name)().eval()
    for buffer, statistics in network.named_buffers():
        if "running" in buffer:
            statistics.uniform_(0.5, 1.5)
    return network


@pytest.mark.parametrize("depth", [18, pytest.param(50, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("prefix", "wrap"),
    [
        pytest.param("", dict, marks=pytest.mark.slow),
        ("backbone.", lambda state: {"state_dict": state, "meta": {"epoch": 1}}),
    ],
)
def test_features_are_those_of_torchvision(tmp_path, depth, prefix, wrap, capsys):
    source, target = torchvision_resnet(f"resnet{depth}"), detectron2_resnet(depth)
    state = {prefix + name: tensor for name, tensor in source.state_dict().items()}
    torch.save(wrap(state), tmp_path / "a.pth")
    assert convert_weights([str(tmp_path / "a.pth"), str(tmp_path / "b.pth")]) == 0
    counted = [name for name in state if "fc." not in name and "num_batches" not in name]
    assert f"{len(counted)} of {len(state)} tensors" in capsys.readouterr().out
    Checkpointer(target, "", complete=True).load(str(tmp_path / "b.pth"))
    image = torch.rand(1, 3, 64, 64)
    assert_features_agree(target["backbone"], source, image)


def assert_features_agree(own, source, image):
    with torch.no_grad():
        ours = own(image)
        x = source.maxpool(source.relu(source.bn1(source.conv1(image))))
        for stage in range(1, 5):
            x = getattr(source, f"layer{stage}")(x)
            torch.testing.assert_close(ours[f"res{stage + 1}"], x, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "groups", "width"), [("resnext50_32x4d", 32, 4), ("wide_resnet50_2", 1, 128)]
)
def test_options_of_other_widths_build_the_backbone(tmp_path, name, groups, width, capsys):
    source = torchvision_resnet(name)
    torch.save(source.state_dict(), tmp_path / "a.pth")
    assert convert_weights([str(tmp_path / "a.pth"), str(tmp_path / "b.pth")]) == 0
    printed = capsys.readouterr().out.partition("Train with: ")[2].split()
    cfg = load_config("", [*printed, "MODEL.RESNETS.OUT_FEATURES", "['res2','res3','res4','res5']"])
    assert (cfg.MODEL.RESNETS.NUM_GROUPS, cfg.MODEL.RESNETS.WIDTH_PER_GROUP) == (groups, width)
    target = nn.ModuleDict({"backbone": build_backbone(cfg)}).eval()
    Checkpointer(target, "", complete=True).load(cfg.MODEL.WEIGHTS)
    assert_features_agree(target["backbone"], source, torch.rand(1, 3, 64, 64))


@pytest.mark.parametrize(
    ("groups", "width", "options"),
    [
        (1, 64, ""),
        (32, 4, "MODEL.RESNETS.NUM_GROUPS 32 MODEL.RESNETS.WIDTH_PER_GROUP 4"),
        (32, 8, "MODEL.RESNETS.NUM_GROUPS 32 MODEL.RESNETS.WIDTH_PER_GROUP 8"),
        (64, 4, "MODEL.RESNETS.NUM_GROUPS 64 MODEL.RESNETS.WIDTH_PER_GROUP 4"),
        (1, 128, "MODEL.RESNETS.NUM_GROUPS 1 MODEL.RESNETS.WIDTH_PER_GROUP 128"),
    ],
)
def test_groups_and_widths_are_told_by_shapes(groups, width, options):
    renamed, _, _ = convert_names(meta(torchvision_shapes(50, groups=groups, width=width)))
    assert groups_options(renamed) == options


@pytest.mark.parametrize(
    ("groups", "width", "options"),
    [
        (1, 64, ""),
        (32, 8, "MODEL.RESNETS.STRIDE_IN_1X1 False MODEL.RESNETS.NUM_GROUPS 32 MODEL.RESNETS.WIDTH_PER_GROUP 8"),
        (1, 128, "MODEL.RESNETS.NUM_GROUPS 1 MODEL.RESNETS.WIDTH_PER_GROUP 128"),
    ],
)  # fmt: skip
def test_groups_of_caffe2_names_are_told_with_their_stride(groups, width, options):
    renamed, author, others = convert_names(meta(caffe2(101, groups=groups, width=width)))
    assert author == "Caffe2"
    assert f"{others} {groups_options(renamed)}".strip() == options


@pytest.mark.slow
def test_caffe2_names_in_another_container_fill_the_model(tmp_path):
    shapes = {name: shape for name, shape in caffe2(50).items() if not name.startswith("fc")}
    tensors = {name: torch.full(shape, 0.5) for name, shape in shapes.items()}
    save_file(tensors | {"fc1000_b": torch.zeros(3)}, tmp_path / "a.safetensors")
    convert(tmp_path / "a.safetensors", tmp_path / "b.pth")
    target = detectron2_resnet(50)
    Checkpointer(target, "", complete=True).load(str(tmp_path / "b.pth"))
    assert all((p == 0.5).all() for p in target.parameters())


def test_a_file_without_a_resnet_and_another_ending_are_refused(tmp_path):
    torch.save({"a": torch.zeros(2)}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"have no ResNet of torchvision"):
        convert(tmp_path / "a.pth", tmp_path / "b.pth")
    with pytest.raises(OutputError, match=r"let its name end in \.pth"):
        convert(tmp_path / "a.pth", tmp_path / "b.pkl")
    with pytest.raises(OutputError, match="is the file itself"):
        convert(tmp_path / "a.pth", tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="do not exist"):
        convert(tmp_path / "c.pth", tmp_path / "b.pth")


def test_weights_are_not_replaced_by_what_is_made_of_them(tmp_path):
    torch.save({"a": torch.zeros(2)}, tmp_path / "a.pth")
    (tmp_path / "link.pth").symlink_to("a.pth")
    for out in ("a.pth", "link.pth"):
        with pytest.raises(OutputError, match="is the file itself"):
            convert(tmp_path / "a.pth", tmp_path / out)
        with pytest.raises(OutputError, match="is the file itself"):
            join(tmp_path / "none.pth", tmp_path / "a.pth", tmp_path / out)
    assert torch.load(tmp_path / "a.pth")["a"].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"hello", "is no file of torch.save"),
        (b"\x89PNG\r\n\x1a\n", "is a picture"),
        ([1, 2], "holds a list, no dict of tensors by name."),
        (torch.zeros(2), "holds a tensor, no dict of tensors by name."),
    ],
)
def test_a_file_that_holds_no_weights_is_named(tmp_path, capsys, content, message):
    if isinstance(content, bytes):
        (tmp_path / "a.pth").write_bytes(content)
    else:
        torch.save(content, tmp_path / "a.pth")
    assert convert_weights([str(tmp_path / "a.pth"), str(tmp_path / "b.pth")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "b.pth").exists()


def test_a_yolo_model_of_ultralytics_is_refused_without_running_its_code(
    tmp_path, monkeypatch, capsys
):
    for name in ("ultralytics", "ultralytics.nn", "ultralytics.nn.tasks"):
        tasks = types.ModuleType(name)
        monkeypatch.setitem(sys.modules, name, tasks)
    tasks.SegmentationModel = type(
        "SegmentationModel", (nn.Module,), {"__module__": tasks.__name__}
    )
    torch.save({"model": tasks.SegmentationModel()}, tmp_path / "yolo.pt")
    assert convert_weights([str(tmp_path / "yolo.pt"), str(tmp_path / "b.pth")]) == 2
    assert "is a YOLO model of ultralytics, as code" in capsys.readouterr().err


def test_our_own_model_needs_no_conversion_and_is_none_of_torchvision(tmp_path, capsys):
    for options, message in (
        ([], "take as it is; only --to torchvision"),
        (["--to", "torchvision"], "has INPUT.FORMAT 'BGR', torchvision's detectors 'RGB'"),
    ):
        assert convert_weights(["mini-fpn", str(tmp_path / "b.pth"), *options]) == 2
        assert message in capsys.readouterr().err


def test_a_classifier_with_another_head_gives_its_backbone_and_says_what_stays(tmp_path, capsys):
    weights = {"layer1.0.conv1.weight": torch.zeros(2, 2, 1, 1), "fc.weight": torch.zeros(7, 2)}
    torch.save(weights, tmp_path / "a.pth")
    words = [str(tmp_path / "a.pth"), str(tmp_path / "b.pth")]
    assert convert_weights(words) == 0
    assert "1 of 2 tensors; left out: 'fc.weight'" in capsys.readouterr().out
    assert convert_weights([*words, "--classes", "names.txt"]) == 2
    assert "but of " + words[0] + " the backbone alone is taken" in capsys.readouterr().err
    assert convert_weights([*words, "--to", "torchvision", "--backbone"]) == 2
    assert "--to torchvision takes neither --backbone nor --classes" in capsys.readouterr().err
