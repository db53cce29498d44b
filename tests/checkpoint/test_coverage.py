"""How much of a model a file fills: counted over what it has, refused below a share, and its kind named."""

import logging
import pickle
from functools import cache
from pathlib import Path

from maskrcnn_repro.checkpoint import checkpointer as checkpointer_module
from maskrcnn_repro.checkpoint import coverage
from maskrcnn_repro.checkpoint.checkpointer import Checkpointer
from maskrcnn_repro.checkpoint.origin import depth_of, likely_origin
from maskrcnn_repro.config import load_config
from maskrcnn_repro.errors import CheckpointError, ConfigError

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from torch import nn

from tests.helpers.paths import ROOT
from tests.helpers.weight_files import caffe2, meta, torchvision

IMAGENET = {
    "MSRA/R-50.pkl": caffe2(50),
    "MSRA/R-101.pkl": caffe2(101),
    "FAIR/X-101-64x4d": caffe2(101, groups=64, width=4),
    "FAIR/X-152-32x8d-IN5k": caffe2(152, groups=32, width=8),
}
"""What the published backbones hold, by the end of their names."""


def starting_points():
    """Shipped configs with MODEL.WEIGHTS; one of each kind of file is checked in the fast tests."""
    seen = set()
    for path in sorted((ROOT / "configs").rglob("*.yaml")):
        name = path.relative_to(ROOT / "configs").as_posix()
        if name.startswith("base/"):  # a part, no config
            continue
        cfg = load_config(name)
        if cfg.MODEL.WEIGHTS:
            network = cfg.MODEL.WEIGHTS if "ImageNet" in cfg.MODEL.WEIGHTS else "zoo"
            yield pytest.param(name, marks=[pytest.mark.slow] if network in seen else [])
            seen.add(network)


@cache
def meta_model(config):
    """The model of a config, with shapes and without numbers."""
    cfg = load_config(config)
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        return build_model(cfg)


@pytest.fixture
def load(monkeypatch):
    """Load a made-up file that holds tensors of given shapes into a model; returns nothing."""

    def load(model, shapes, path="some.pth", **more):
        content = {"model": meta(shapes), **more}
        monkeypatch.setattr(checkpointer_module, "local_file", Path)
        monkeypatch.setattr(coverage, "read_shapes", lambda _: shapes)
        monkeypatch.setattr(checkpointer_module, "read_weights", lambda *_, **__: content)
        monkeypatch.setattr("os.path.isfile", lambda _: True)
        Checkpointer(model, "").load(path)

    return load


@pytest.mark.parametrize("config", list(starting_points()))
@pytest.mark.filterwarnings("ignore:.*meta parameter.*is a no-op")
def test_every_shipped_starting_point_passes(config, load, caplog):
    caplog.set_level(logging.INFO)
    model = meta_model(config)
    weights = load_config(config).MODEL.WEIGHTS
    file = next((file for end, file in IMAGENET.items() if weights.endswith(end)), None)
    if file:
        load(model, file, "a.pkl", __author__="Caffe2", matching_heuristics=True)
    else:  # a detector of the model zoo, which the config describes
        load(model, {name: tuple(t.shape) for name, t in model.state_dict().items()})
    (line,) = [record.message for record in caplog.records if "tensors" in record.message]
    backbone = [name for name in model.state_dict() if name.startswith("backbone.")]
    convolutions = [name for name in backbone if name.endswith(".norm.weight")]
    if file:
        # Of each convolution weight, scale and offset, and none of a pyramid.
        pyramid = [name for name in backbone if "fpn_" in name]
        filled = 3 * len(convolutions)
        assert f"(backbone: {filled} of {filled + len(pyramid)}); not loaded: " in line
    else:
        ours = ("pixel_mean", "pixel_std", "num_batches_tracked")
        counted = [name for name in model.state_dict() if not name.endswith(ours)]
        assert line.endswith(f"{len(counted)} of {len(counted)} tensors")


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        (torchvision(50), r"ResNet of torchvision or timm; maskrcnn convert-weights some.pth OUT"),
        (torchvision(50, "backbone.body."), r"detector of torchvision; maskrcnn convert-weights"),
        (torchvision(50, "backbone."), r"MMDetection; maskrcnn convert-weights some.pth OUT.pth"),
        (caffe2(50), r"Caffe2 Detectron's in another container; maskrcnn convert-weights"),
        ({"stem.conv1.weight": (64, 3, 7, 7)}, r"add \?matching_heuristics=True to its name"),
        ({"stages.0.blocks.1.gamma": (96,)}, r"timm or MMDetection that is no ResNet"),
        ({"transformer.a": (2,)}, "a model that is no R-CNN"),
        (
            {"a": (2,), "b": (3,)},
            r"the model has backbone\.\S+, .* and 3\d\d more, the file a, b\.",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:.*meta parameter.*is a no-op")
def test_files_of_other_libraries_are_named_with_a_way_out(shapes, words, load):
    with pytest.raises(CheckpointError, match=words) as caught:
        load(meta_model("coco/r101_fpn.yaml"), shapes)
    # 104 convolutions with scale and offset, 8 with a bias; PyTorch fills in the statistics of every norm.
    assert "fit 0 of the backbone's 328 tensors" in str(caught.value)


def test_the_statistics_of_batch_norm_that_pytorch_fills_in_are_not_counted(load):
    model = nn.ModuleDict({"backbone": nn.Sequential(*(nn.BatchNorm2d(4) for _ in range(18)))})
    with pytest.raises(CheckpointError, match=r"fit 0 of the backbone's 72 tensors"):
        load(model.to("meta"), {"x": (1,)})


@pytest.mark.parametrize(
    ("given", "config", "words"),
    [
        (
            "r50_fpn",
            "r101_fpn",
            r"fit 265 .*'s 536 tensors, less .* 50 %: it is of a ResNet-50, .*DEPTH 50",
        ),
        ("r50_c4", "r50_fpn", r"fit 0 .*with C4 or C5, .* an FPN; configs/coco/r50_c4.yaml has C4"),
        (
            "r50_fpn",
            "r50_c4",
            r"fit 0 .*with an FPN, .* C4 or C5; configs/coco/r50_fpn.yaml has an FPN",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:.*meta parameter.*is a no-op")
def test_another_depth_or_head_is_named(given, config, words, load):
    file = {n: tuple(t.shape) for n, t in meta_model(f"coco/{given}.yaml").state_dict().items()}
    if config == "r101_fpn":  # its pyramid would fit
        file = {n: shape for n, shape in file.items() if "fpn_" not in n}
    with pytest.raises(CheckpointError, match=words):
        load(meta_model(f"coco/{config}.yaml"), file)


def test_a_backbone_alone_of_other_shapes_is_no_start(tmp_path):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = nn.ModuleDict({"stem": nn.Linear(3, 4), "res2": nn.Linear(4, 4)})

    weights = {"stem.weight": np.zeros((4, 3), "f"), "stem.bias": np.zeros(4, "f")}
    weights |= {"res2.weight": np.zeros((4, 2), "f"), "res2.bias": np.zeros(4, "f")}
    content = {"model": weights, "__author__": "a", "matching_heuristics": True}
    (tmp_path / "backbone.pkl").write_bytes(pickle.dumps(content))
    shapes = r"other shapes: backbone.res2.weight \(4, 2\) in the file, \(4, 4\) in the model"
    with pytest.raises(CheckpointError, match=f"fit 3 of the backbone's 4 tensors; {shapes}"):
        Checkpointer(Model(), "").load(str(tmp_path / "backbone.pkl"))


def test_tensors_under_another_librarys_key_are_looked_into(tmp_path):
    state = {"backbone.layer1.0.conv1.weight": torch.zeros(4, 3), "neck.a": torch.zeros(1)}
    torch.save({"state_dict": state, "meta": {"epoch": 3}}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"fit 0 of .* a model of MMDetection"):
        Checkpointer(nn.ModuleDict({"backbone": nn.Linear(3, 4)}), "").load(str(tmp_path / "a.pth"))
    torch.save({"state_dict": {"backbone.weight": torch.ones(4, 3)}}, tmp_path / "b.pth")
    model = nn.ModuleDict({"backbone": nn.Linear(3, 4)})
    Checkpointer(model, "").load(str(tmp_path / "b.pth"))
    assert (model["backbone"].weight == 1).all()


def test_a_half_filled_backbone_is_enough_and_less_is_not(tmp_path):
    model = nn.ModuleDict({"backbone": nn.Linear(3, 4), "head": nn.Linear(4, 2)})
    torch.save({"backbone.weight": torch.zeros(4, 3)}, tmp_path / "a.pth")
    Checkpointer(model, "", least=50).load(str(tmp_path / "a.pth"))
    with pytest.raises(CheckpointError, match=r"1 of .* 2 tensors, less .*MIN_COVERAGE 50\.1 %"):
        Checkpointer(model, "", least=50.1).load(str(tmp_path / "a.pth"))
    # However little is asked for, something must fit.
    torch.save({"other": torch.zeros(4, 3)}, tmp_path / "b.pth")
    with pytest.raises(CheckpointError, match="fit 0 of the backbone's 2 tensors"):
        Checkpointer(model, "", least=0).load(str(tmp_path / "b.pth"))


def test_what_was_loaded_is_one_line_and_names_are_for_debugging(tmp_path, caplog):
    model = nn.ModuleDict(
        {"backbone": nn.Linear(3, 4), "head": nn.Sequential(*[nn.Linear(1, 1)] * 9)}
    )
    state = {"backbone.weight": torch.zeros(4, 3), "backbone.bias": torch.zeros(4)}
    torch.save(state | {f"x{i}": torch.zeros(1) for i in range(5)}, tmp_path / "a.pth")
    with caplog.at_level(logging.INFO):
        Checkpointer(model, "").load(str(tmp_path / "a.pth"))
    (line,) = [r.message for r in caplog.records if r.levelno >= logging.INFO]
    assert line.startswith(
        f"Weights {tmp_path}/a.pth: 2 of 20 tensors (backbone: 2 of 2); not loaded"
    )
    assert line.endswith("not used: x0, x1, x2 and 2 more")
    with caplog.at_level(logging.DEBUG):
        Checkpointer(model, "").load(str(tmp_path / "a.pth"))
    assert "Not used: x0, x1, x2, x3, x4" in [record.message for record in caplog.records]


def heads(**parts):
    """A model with RoI heads of as many layers each as given."""
    layers = {name: nn.ModuleList(nn.Linear(2, 2) for _ in range(n)) for name, n in parts.items()}
    return nn.ModuleDict({"backbone": nn.Linear(2, 2), "roi_heads": nn.ModuleDict(layers)})


def test_weights_of_other_heads_are_refused_in_evaluation_alone(tmp_path, caplog):
    file = str(tmp_path / "a.pth")
    torch.save(heads(box_head=3, mask_head=1).state_dict(), file)
    fewer = heads(box_head=2, mask_head=1)
    with pytest.raises(CheckpointError, match=r"of other heads: they also have roi_heads.box_head"):
        Checkpointer(fewer, "", complete=True).load(file)
    Checkpointer(fewer, "").load(file)
    # A branch that the config switches off is another matter, and worth a warning.
    caplog.clear()
    Checkpointer(heads(box_head=3), "", complete=True).load(file)
    (record,) = [record for record in caplog.records if "not used" in record.message]
    assert record.levelno == logging.WARNING
    assert "roi_heads.mask_head.0.bias: the results are those of the other heads" in record.message


@pytest.mark.parametrize("complete", [True, False])
def test_a_part_that_others_take_from_cannot_be_left_out(tmp_path, complete):
    file = str(tmp_path / "a.pth")
    torch.save(heads(box_head=1, semantic_head=2).state_dict(), file)
    without = heads(box_head=1)
    without["roi_heads"].mixed_in = {"semantic_head": "ITS.KEY True"}
    sentence = r"have a semantic_head, roi_heads.semantic_head.0.weight, .* and 1 more, .*; set ITS.KEY True"
    with pytest.raises(ConfigError, match=sentence):
        Checkpointer(without, "", complete=complete).load(file)


def test_a_missing_head_is_named_for_evaluation(load):
    names = ["backbone.stem.a", "roi_heads.box_predictor.a"]
    model = [*names, "roi_heads.mask_head.a", "roi_heads.keypoint_head.a"]
    assert "a model without a mask head and a keypoint head" in likely_origin(names, model, "a")
    assert likely_origin(model, model, "a") == ""


@pytest.mark.parametrize("depth", [50, 101, 152])
def test_the_depth_is_told_by_the_blocks_of_every_library(depth):
    assert depth_of(caffe2(depth)) == depth_of(torchvision(depth)) == depth
    assert depth_of(["conv1.weight", "layer3.1.conv2.weight"]) == 18
    assert depth_of(["a.weight"]) is None


@pytest.mark.parametrize("least", [-1.0, 100.5])
def test_the_share_is_a_percentage(least):
    with pytest.raises(
        ConfigError, match=f"MIN_COVERAGE {least} must be at least 0 and at most 100"
    ):
        load_config("mini/mask_rcnn_fpn.yaml", ["MODEL.WEIGHTS_MIN_COVERAGE", str(least)])
