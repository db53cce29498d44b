"""Which model a name stands for: run folders, files of weights, shipped models; and what a file tells of its model."""

import json
import shutil

from maskrcnn_repro.checkpoint import weight_file
from maskrcnn_repro.checkpoint.checkpointer import Checkpointer
from maskrcnn_repro.checkpoint.model_file import Labels, read_facts, write_model
from maskrcnn_repro.checkpoint.model_source import find_model, weights_of
from maskrcnn_repro.checkpoint.weight_file import shipped_models
from maskrcnn_repro.config import load_config
from maskrcnn_repro.config_history import spelled_today
from maskrcnn_repro.errors import CheckpointError, ConfigError

import pytest
import torch
import yaml
from detectron2.modeling import build_model
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from tests.helpers.tiny_models import tiny_config, tiny_model
from tests.helpers.tiny_predictor import LABELS, SMALL, write_tiny_model

CONFIG = spelled_today(tiny_config("both"))


def write_run(folder, *names, facts=None, config=True):
    """Write checkpoints of a layer, the first of them the oldest."""
    facts = {"config": CONFIG, **LABELS.facts()} if facts is None else facts
    checkpointer = Checkpointer(nn.Linear(2, 2), str(folder), facts=facts)
    for iteration, name in enumerate(names):
        checkpointer.save(name, iteration=iteration)
    if config:
        (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    return folder


def test_a_written_model_is_read_as_it_was(tmp_path):
    file = write_tiny_model(tmp_path)
    found = find_model(file)
    assert found.labels == LABELS
    assert found.origin == {"data": "none"}
    assert found.weights == file
    assert found.class_names == ("disc", "bar", "ring")
    assert spelled_today(found.cfg) == spelled_today(tiny_config("both", **SMALL))
    state = tiny_model("both").state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in load_file(file).items())
    with safe_open(file, framework="pt") as content:
        head = content.metadata()
    assert json.loads(head["class_names"]) == ["disc", "bar", "ring"]


def test_a_checkpoint_is_used_alone(tmp_path):
    run = write_run(tmp_path / "run", "model_final")
    alone = shutil.copy(run / "model_final.pth", tmp_path / "alone.pth")
    found = find_model(alone)
    assert (found.labels, spelled_today(found.cfg)) == (LABELS, CONFIG)


def test_of_a_run_the_best_checkpoint_is_taken_or_the_newest(tmp_path):
    run = write_run(tmp_path, "model_best", "model_0000001", "model_final")
    assert weights_of(run).name == "model_best.pth"
    (run / "model_best.pth").write_bytes(b"damaged")
    assert weights_of(str(run)).name == "model_final.pth"
    (run / "model_final.pth").unlink()
    assert weights_of(run).name == "model_0000001.pth"
    assert weights_of(run / "model_0000001.pth").name == "model_0000001.pth"


def test_an_older_checkpoint_has_its_config_beside_it(tmp_path):
    run = write_run(tmp_path / "run", "model_final", facts={})
    found = find_model(run)
    assert spelled_today(found.cfg) == CONFIG
    # Nothing names its classes.
    assert found.class_names == ("class 1", "class 2", "class 3")
    (run / "config.yaml").rename(tmp_path / "other.yaml")
    with pytest.raises(CheckpointError, match=r"no config.yaml beside it; put that of its run"):
        find_model(run)
    assert spelled_today(find_model(run, tmp_path / "other.yaml").cfg) == CONFIG


def test_names_of_registered_data_serve_an_older_checkpoint(tmp_path):
    run = write_run(tmp_path, "model_final", facts={})
    cfg = tiny_config("both", **{"MODEL.ROI_HEADS.NUM_CLASSES": 80})
    cfg.DATASETS.TRAIN = ("coco_2017_train",)
    (run / "config.yaml").write_text(yaml.safe_dump(spelled_today(cfg)))
    assert find_model(run).class_names[:2] == ("person", "bicycle")


def test_a_shipped_model_is_found_by_its_name(tmp_path, monkeypatch):
    monkeypatch.setattr(weight_file, "SHIPPED", tmp_path)
    file = write_tiny_model(tmp_path)
    file.rename(tmp_path / "mini-fpn.safetensors")
    assert list(shipped_models()) == ["mini-fpn"]
    assert find_model("mini-fpn").weights == tmp_path / "mini-fpn.safetensors"
    with pytest.raises(
        CheckpointError, match=r"'mini-fnp' is no folder.*Did you mean 'mini-fpn'\?"
    ):
        find_model("mini-fnp")


def test_a_model_without_a_keypoint_head_names_no_keypoints(tmp_path):
    labels = find_model(write_tiny_model(tmp_path, "mask")).labels
    assert labels == Labels(LABELS.class_names, LABELS.category_ids)


def test_what_is_no_model_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="The name of the model is empty"):
        find_model("")
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        find_model(tmp_path)
    with pytest.raises(CheckpointError, match="do not exist"):
        find_model(tmp_path / "none.pth")
    (tmp_path / "model.onnx").write_bytes(b"0")
    with pytest.raises(CheckpointError, match="is an exported model"):
        find_model(tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("facts", "error", "words"),
    [
        ({"class_names": ["a"] * 4}, CheckpointError, "names 4 classes, but its config has"),
        ({"class_names": 3}, CheckpointError, "names of its model that are damaged"),
        ({"skeleton": [["a"]]}, CheckpointError, "names of its model that are damaged"),
        ({"skeleton": [["nose", "tail"]]}, CheckpointError, "limbs or mirror pairs of keypoints"),
        ({"config": {"MODEL": {"MSAK_ON": True}}}, ConfigError, "MSAK_ON.*Did you mean"),
    ],
)
def test_facts_that_do_not_fit_are_named(tmp_path, facts, error, words):
    facts = {"config": CONFIG, **LABELS.facts(), **facts}
    with pytest.raises(error, match=words):
        find_model(write_run(tmp_path, "model_final", facts=facts, config=False))


def test_a_head_that_is_no_json_is_named(tmp_path):
    file = tmp_path / "a.safetensors"
    write_model(file, {"a": torch.zeros(1)}, tiny_config("both"), Labels(), {})
    content = file.read_bytes()
    file.write_bytes(content.replace(b'"class_names":"[]"', b'"class_names":"[}"'))
    with pytest.raises(CheckpointError, match="is no JSON"):
        read_facts(file)


def test_the_models_in_the_package_are_small_and_say_where_they_come_from():
    assert set(shipped_models()) == {"mini-fpn"}
    for path in shipped_models().values():
        assert path.stat().st_size <= 8 * 2**20
        source = find_model(path)
        assert len(source.class_names) == source.cfg.MODEL.ROI_HEADS.NUM_CLASSES
        assert source.origin["metrics"]["mini_coco_val"]["segm"]["AP"] > 60
        assert len(source.origin["code"]["commit"]) == 40
        assert source.origin["data"]


@pytest.mark.parametrize("sizes", [[[16], [32], [64]], [[8, 12], [24, 32], [64, 90]]])
def test_a_training_starts_from_a_model_of_the_package_whatever_its_anchors(sizes):
    cfg = load_config("mini/own_data.yaml")
    assert cfg.MODEL.WEIGHTS == "mini-fpn"
    cfg.MODEL.DEVICE, cfg.MODEL.ANCHOR_GENERATOR.SIZES = "cpu", sizes
    model = build_model(cfg)
    Checkpointer(model, "", least=cfg.MODEL.WEIGHTS_MIN_COVERAGE).load(cfg.MODEL.WEIGHTS)
    stored = load_file(shipped_models()["mini-fpn"])
    state = model.state_dict()
    backbone = [name for name in stored if name.startswith("backbone.")]
    assert len(backbone) > 50
    assert all(torch.equal(state[name], stored[name]) for name in backbone)
