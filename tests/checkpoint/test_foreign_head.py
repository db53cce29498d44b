"""Whose weights they are: the paper's C4 head refuses Detectron2's, which would fit and be wrong."""

import pickle

from maskrcnn_repro import __version__
from maskrcnn_repro.checkpoint.checkpointer import Checkpointer
from maskrcnn_repro.checkpoint.foreign_head import foreign_owner, refuse_other_head
from maskrcnn_repro.config import get_config
from maskrcnn_repro.errors import CheckpointError

import numpy as np
import pytest
import torch


@pytest.fixture
def cfg():
    cfg = get_config()
    cfg.MODEL.ROI_HEADS.NAME = "PaperRes5ROIHeads"
    return cfg


def in_zoo_format(path, **more):
    weights = {"roi_heads.res5.0.conv1.weight": np.zeros((4, 4, 1, 1), np.float32)}
    path.write_bytes(pickle.dumps({"model": weights, **more}))
    return str(path)


def test_model_zoo_weights_are_refused_and_the_way_out_is_named(cfg, tmp_path):
    path = in_zoo_format(tmp_path / "model_final.pkl", __author__="Detectron2 Model Zoo")
    with pytest.raises(CheckpointError) as caught:
        refuse_other_head(cfg, path)
    text = str(caught.value)
    assert path in text
    assert "Detectron2 Model Zoo" in text
    assert "configs/detectron2/r50_c4.yaml" in text
    assert f"--weights ROW={path}" in text


@pytest.mark.parametrize(
    ("key", "value"),
    [("NAME", "Res5ROIHeads"), ("NAME", "PaperStandardROIHeads"), ("RES5_STRIDE", 2)],
)
def test_heads_that_read_such_features_take_them(cfg, tmp_path, key, value):
    path = in_zoo_format(tmp_path / "a.pkl", __author__="Detectron2 Model Zoo")
    with pytest.raises(CheckpointError):
        refuse_other_head(cfg, path)
    cfg.MODEL.ROI_HEADS[key] = value
    assert refuse_other_head(cfg, path) is None


@pytest.mark.parametrize(
    ("content", "is_pickle", "owner"),
    [
        ({"blobs": {}}, True, "Detectron"),
        ({"model": {}, "__author__": "Somebody"}, True, "Somebody"),
        (
            {"model": {}, "trainer": {"hooks": {"LRScheduler": {}}}},
            False,
            "Detectron2's own trainer",
        ),
        ({"model": {}, "optimizer": {}, "scheduler": {}}, False, "Detectron2's own trainer"),
        ({"model": {}, "trainer": {"hooks": {"Clock": {}}}}, False, ""),
        ({"model": {}, "maskrcnn_repro": {"version": "2"}, "trainer": {"hooks": {}}}, False, ""),
        ({"model": {}}, False, ""),
    ],
)
def test_owners_are_told_by_what_a_file_holds(content, is_pickle, owner):
    assert foreign_owner(content, is_pickle=is_pickle) == owner


def test_a_checkpoint_of_this_project_is_taken(cfg, tmp_path):
    Checkpointer(torch.nn.Linear(1, 1), str(tmp_path), trainer=torch.nn.Linear(1, 1)).save("a")
    assert torch.load(tmp_path / "a.pth")["maskrcnn_repro"]["version"] == __version__
    assert refuse_other_head(cfg, str(tmp_path / "a.pth")) is None
