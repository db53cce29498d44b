"""Checkpoints of Detectron2's API: formats, names, resume, and pickles that are refused."""

import io
import os
import pickle

import maskrcnn_repro  # noqa: F401

import numpy as np
import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer, PeriodicCheckpointer
from detectron2.checkpoint.c2_model_loading import (
    align_and_update_state_dicts,
    convert_basic_c2_names,
    convert_c2_detectron_names,
)
from detectron2.checkpoint.catalog import ModelCatalog
from torch import nn


def _linear(**children):
    """A module whose children are linear layers with two inputs and outputs."""
    net = nn.Module()
    for name in children or {"fc": None}:
        net.add_module(name, nn.Linear(2, 2))
    return net


def _pickle_file(path, content, protocol=2):
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return str(path)


# --- names -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("caffe2", "ours"),
    [
        ("conv1_w", "stem.conv1.weight"),
        ("res_conv1_bn_s", "stem.conv1.norm.weight"),
        ("res_conv1_bn_b", "stem.conv1.norm.bias"),
        ("conv1_gn_b", "stem.conv1.norm.bias"),
        ("res4_22_branch2a_w", "res4.22.conv1.weight"),
        ("res4_22_branch2b_bn_s", "res4.22.conv2.norm.weight"),
        ("res4_22_branch2c_bn_riv", "res4.22.conv3.norm.running_var"),
        ("res2_0_branch1_bn_running_mean", "res2.0.shortcut.norm.running_mean"),
        ("res2_0_branch1_bn_beta", "res2.0.shortcut.norm.bias"),
        ("pred_w", "linear.weight"),
        ("pred_b", "linear.bias"),
    ],
)
def test_backbone_names(caffe2, ours):
    assert convert_basic_c2_names([caffe2]) == [ours]


@pytest.mark.parametrize(
    ("caffe2", "ours"),
    [
        ("conv_rpn_w", "proposal_generator.rpn_head.conv.weight"),
        ("conv_rpn_fpn2_b", "proposal_generator.rpn_head.conv.bias"),
        ("rpn_bbox_pred_fpn2_w", "proposal_generator.rpn_head.anchor_deltas.weight"),
        ("rpn_cls_logits_w", "proposal_generator.rpn_head.objectness_logits.weight"),
        ("fc6_w", "box_head.fc1.weight"),
        ("fc7_b", "box_head.fc2.bias"),
        ("head_conv3_gn_s", "box_head.conv3.norm.weight"),
        ("fpn_inner_res5_2_sum_w", "fpn_lateral5.weight"),
        ("fpn_inner_res4_22_sum_lateral_gn_b", "fpn_lateral4.norm.bias"),
        ("fpn_res2_2_sum_b", "fpn_output2.bias"),
        ("_[mask]_fcn1_w", "mask_head.mask_fcn1.weight"),
        ("_mask_fcn4_gn_s", "mask_head.mask_fcn4.norm.weight"),
        ("conv5_mask_w", "mask_head.deconv.weight"),
        ("conv_fcn8_w", "roi_heads.keypoint_head.conv_fcn8.weight"),
        ("kps_score_lowres_w", "roi_heads.keypoint_head.score_lowres.weight"),
    ],
)
def test_detector_names(caffe2, ours):
    weight = torch.arange(3.0)
    renamed, originals = convert_c2_detectron_names({caffe2: weight})
    assert originals == {ours: caffe2}
    assert renamed[ours].equal(weight)


def test_background_is_moved_or_removed():
    weights = {
        "cls_score_b": torch.tensor([0.0, 1.0, 2.0]),  # background, cat, dog
        "bbox_pred_b": torch.arange(12.0),
        "mask_fcn_logits_w": torch.arange(3.0).reshape(3, 1, 1, 1),
    }
    renamed, _ = convert_c2_detectron_names(weights)
    assert renamed["cls_score.bias"].tolist() == [1, 2, 0]
    assert renamed["bbox_pred.bias"].tolist() == list(range(4, 12))
    assert renamed["mask_head.predictor.weight"].flatten().tolist() == [1, 2]


def test_the_longest_end_of_a_name_wins():
    model = {f"net.{name}": torch.zeros(1) for name in ("conv1.w", "res2.conv1.w", "xconv1.w", "q")}
    checkpoint = {
        "conv1.w": torch.ones(1),
        "res2.conv1.w": torch.full((1,), 2.0),
        "old": torch.ones(1),
    }
    aligned = align_and_update_state_dicts(model, checkpoint, c2_conversion=False)
    # "xconv1.w" does not end in ".conv1.w", "q" is nowhere, "old" keeps its name.
    assert {name: value.item() for name, value in aligned.items()} == {
        "net.conv1.w": 1.0,
        "net.res2.conv1.w": 2.0,
        "old": 1.0,
    }


def test_other_shapes_are_not_matched():
    model = {"a.w": torch.zeros(2), "a.b": torch.zeros(2)}
    checkpoint = {"w": torch.ones(3), "b": torch.ones(2)}
    aligned = align_and_update_state_dicts(model, checkpoint, c2_conversion=False)
    assert set(aligned) == {"a.b", "w"}


def test_nothing_matched_returns_the_checkpoint():
    checkpoint = {"w": torch.ones(3)}
    assert align_and_update_state_dicts({"a": torch.ones(3)}, checkpoint, False) == checkpoint


def test_one_weight_for_two_parameters_is_an_error():
    model = {"a.w": torch.zeros(1), "b.w": torch.zeros(1)}
    with pytest.raises(ValueError, match="one checkpoint key to multiple keys"):
        align_and_update_state_dicts(model, {"w": torch.ones(1)}, c2_conversion=False)


@pytest.mark.embedded_only
def test_two_weights_with_one_new_name_are_an_error():
    weights = {"res2_0_branch1_bn_s": torch.ones(1), "res2_0_branch1_bn_gamma": torch.ones(1)}
    with pytest.raises(ValueError, match="bn_gamma' and 'res2_0_branch1_bn_s' both stand for"):
        convert_c2_detectron_names(weights)


# --- catalogue -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("ImageNetPretrained/FAIR/R-50-GN", "ImageNetPretrained/47261647/R-50-GN.pkl"),
        ("ImageNetPretrained/MSRA/R-101", "ImageNetPretrained/MSRA/R-101.pkl"),
    ],
)
def test_catalogue_addresses(name, address):
    assert ModelCatalog.get(name) == f"https://dl.fbaipublicfiles.com/detectron/{address}"


def test_unknown_catalogue_name_is_an_error():
    with pytest.raises(RuntimeError, match="catalog"):
        ModelCatalog.get("R-50")


@pytest.mark.embedded_only
def test_unknown_catalogue_name_gets_a_suggestion():
    with pytest.raises(RuntimeError, match="did you mean ImageNetPretrained/MSRA/R-50"):
        ModelCatalog.get("ImageNetPretrained/MSRA/R50")


# --- files -----------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", range(6))
def test_model_zoo_file(tmp_path, protocol):
    weight = np.arange(4, dtype=np.float32).reshape(2, 2)
    weights = {"fc.weight": np.asfortranarray(weight), "fc.bias": np.ones(2, ">f4").astype("f4")}
    content = {"model": weights, "__author__": "somebody", "epoch": np.int64(3), "raw": b"\xff"}
    net = _linear()
    rest = DetectionCheckpointer(net).load(_pickle_file(tmp_path / "zoo.pkl", content, protocol))
    assert net.fc.weight.tolist() == weight.tolist()
    assert net.fc.bias.tolist() == [1, 1]
    assert (rest["epoch"], rest["raw"]) == (3, b"\xff")


@pytest.mark.parametrize("wrap", [dict, lambda weights: {"blobs": weights, "cfg": "MODEL: {}"}])
def test_caffe2_file(tmp_path, wrap):
    blobs = {
        "fc6_w": np.eye(2, dtype="f4"),
        "fc6_b": np.ones(2, "f4"),
        "fc6_w_momentum": np.ones(9),
    }
    net = nn.Module()
    net.box_head = nn.Module()
    net.box_head.fc1 = nn.Linear(2, 2)
    DetectionCheckpointer(net).load(_pickle_file(tmp_path / "caffe2.pkl", wrap(blobs)))
    assert net.box_head.fc1.weight.equal(torch.eye(2))
    assert net.box_head.fc1.bias.equal(torch.ones(2))


def test_file_of_python_2(tmp_path):
    # {"model": {"fc.bias": array([1., 2.])}, "__author__": "x"}: byte strings, old module names.
    text = (
        b"(dp0\nS'model'\np1\n(dp2\nS'fc.bias'\np3\ncnumpy.core.multiarray\n_reconstruct\np4\n"
        b"(cnumpy\nndarray\np5\n(I0\ntS'b'\ntR(I1\n(I2\ntcnumpy\ndtype\n(S'f4'\nI0\nI1\ntR"
        b"(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\nS'\\x00\\x00\\x80?\\x00\\x00\\x00@'\ntbssS'__author__'\n"
        b"S'x'\ns."
    )
    (tmp_path / "old.pkl").write_bytes(text)
    net = _linear()
    DetectionCheckpointer(net).load(str(tmp_path / "old.pkl"))
    assert net.fc.bias.tolist() == [1, 2]


def test_pycls_file(tmp_path):
    state = {
        "fc.weight": torch.eye(2),
        "fc.bias": torch.ones(2),
        "n.num_batches_tracked": torch.ones(1),
    }
    torch.save({"model_state": state}, tmp_path / "pycls.pyth")
    net = nn.Module()
    net.backbone = _linear()
    DetectionCheckpointer(net).load(str(tmp_path / "pycls.pyth"))
    assert net.backbone.fc.weight.equal(torch.eye(2))


def test_bare_state_dict_and_old_keys(tmp_path, caplog):
    net = _linear()
    net.register_buffer("pixel_mean", torch.zeros(3))
    state = {"fc.weight": torch.eye(2), "fc.bias": torch.ones(2)}
    state["anchor_generator.cell_anchors.0"] = torch.zeros(1)
    torch.save(state, tmp_path / "bare.pth")
    DetectionCheckpointer(net).load(str(tmp_path / "bare.pth"))
    assert net.fc.weight.equal(torch.eye(2))
    # Neither the computed buffer nor the anchors of old files are worth a warning.
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_unknown_query_is_an_error(tmp_path):
    torch.save({}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match="Unsupported query"):
        DetectionCheckpointer(_linear()).load(f"{tmp_path}/a.pth?matching=True")


def test_no_path_loads_nothing():
    net = _linear()
    before = net.fc.weight.clone()
    assert DetectionCheckpointer(net).load("") == {}
    assert net.fc.weight.equal(before)


def test_save_and_resume(tmp_path):
    net = _linear()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5, momentum=0.9)
    checkpointer = DetectionCheckpointer(net, str(tmp_path), optimizer=optimizer)
    periodic = PeriodicCheckpointer(checkpointer, period=2, max_iter=5, max_to_keep=1)
    for iteration in range(5):
        with torch.no_grad():
            net.fc.weight.fill_(iteration)
        periodic.step(iteration)
    assert sorted(path.name for path in tmp_path.glob("*.pth")) == [
        "model_0000003.pth",
        "model_final.pth",
    ]

    other = _linear()
    restored = torch.optim.SGD(other.parameters(), lr=99.0)
    resumed = DetectionCheckpointer(other, str(tmp_path), optimizer=restored)
    rest = resumed.resume_or_load("missing.pth", resume=True)
    assert rest["iteration"] == 4
    assert other.fc.weight.unique().tolist() == [4]
    assert restored.param_groups[0]["lr"] == 0.5


# --- pickles that would run code --------------------------------------------------------------


class _Call:
    """Pickles into a call of `function(*args)`."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.mark.embedded_only
@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_runs_code_is_refused(tmp_path, protocol):
    sentinel = tmp_path / "sentinel"
    content = {"model": {}, "__author__": "x", "payload": _Call(os.mkdir, str(sentinel))}
    path = _pickle_file(tmp_path / "bad.pkl", content, protocol)
    with pytest.raises(
        pickle.UnpicklingError, match=rf"refused to load {os.mkdir.__module__}.mkdir"
    ):
        DetectionCheckpointer(_linear()).load(path)
    assert not sentinel.exists()
    pickle.loads((tmp_path / "bad.pkl").read_bytes())
    assert sentinel.exists()  # the file does run code elsewhere


@pytest.mark.embedded_only
@pytest.mark.parametrize(
    ("content", "named"),
    [
        (_Call(eval, "1"), "builtins.eval"),
        (_Call(getattr, "a", "upper"), "builtins.getattr"),
        (_Call(__import__, "os"), "builtins.__import__"),
        (torch.zeros(1), "torch"),
        (np.ma.masked_array([1]), "numpy.ma"),
        # An object array would take addresses from the file.
        (np.array([None]), "type object"),
        (np.zeros(1, [("a", "f4")]), "type"),
    ],
)
def test_what_is_refused_is_named(content, named):
    from detectron2.checkpoint._pickle import load_arrays

    with pytest.raises(pickle.UnpicklingError, match=named):
        load_arrays(io.BytesIO(pickle.dumps(content, protocol=4)))


@pytest.mark.embedded_only
@pytest.mark.parametrize("protocol", range(6))
def test_bytes_are_read_and_no_number_makes_any(protocol):
    from detectron2.checkpoint._pickle import load_arrays

    content = [b"", b"ab\xff", bytearray(), bytearray(b"ab\xff"), [1], (2,), {3}, slice(4)]
    assert load_arrays(io.BytesIO(pickle.dumps(content, protocol=protocol))) == content
    # As Python 2 writes a bytearray.
    text = b"c__builtin__\nbytearray\n(Vab\xff\nVlatin-1\ntR."
    assert load_arrays(io.BytesIO(text)) == b"ab\xff"
    for call in (_Call(bytes, 9), _Call(bytearray, 9), _Call(bytes, np.int64(9)), range(9)):
        with pytest.raises(pickle.UnpicklingError, match="refused to"):
            load_arrays(io.BytesIO(pickle.dumps(call, protocol=protocol)))


@pytest.mark.embedded_only
def test_numpy_constructors_cannot_be_called():
    from detectron2.checkpoint._pickle import load_arrays

    forged = b"cnumpy\nndarray\n((I1\ntS'O'\nS'AAAAAAAA'\ntR."  # ndarray((1,), "O", "AAAAAAAA")
    with pytest.raises(TypeError, match="not callable"):
        load_arrays(io.BytesIO(forged))
