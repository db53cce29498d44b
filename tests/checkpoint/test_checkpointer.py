"""Checkpoints: written whole, read completely or, for training, as far as the classes agree."""

import os
import pickle
from pathlib import Path
from types import SimpleNamespace

from maskrcnn_repro.checkpoint.checkpointer import MARK, Checkpointer
from maskrcnn_repro.checkpoint.coverage import fit
from maskrcnn_repro.checkpoint.weight_file import read_pickle, read_shapes
from maskrcnn_repro.errors import CheckpointError, OutputError

import numpy as np
import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from safetensors.torch import save_file
from torch import nn


def linear(out=2):
    return nn.ModuleDict({"body": nn.Linear(3, 4), "predictor": nn.Linear(4, out)})


def test_checkpoints_are_written_whole_and_tagged(tmp_path, monkeypatch):
    checkpointer = Checkpointer(linear(), str(tmp_path))
    checkpointer.save("model_0000000", iteration=0)

    def die(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", die)
    with pytest.raises(KeyboardInterrupt):
        checkpointer.save("model_0000001")
    names = ["last_checkpoint", "model_0000000.json", "model_0000000.pth"]
    assert sorted(os.listdir(tmp_path)) == names
    assert checkpointer.get_checkpoint_file() == str(tmp_path / "model_0000000.pth")


def test_loading_gives_back_weights_and_the_rest(tmp_path):
    source, target = linear(), linear()
    Checkpointer(source, str(tmp_path)).save("a", iteration=41)
    rest = Checkpointer(target, "", complete=True).load(str(tmp_path / "a.pth"))
    assert rest.pop("maskrcnn_repro").items() > MARK["maskrcnn_repro"].items()
    assert rest == {"iteration": 41}
    assert torch.equal(target["body"].weight, source["body"].weight)


def test_safetensors_of_a_model_load_into_it(tmp_path):
    source, target = linear(), linear()
    save_file(source.state_dict(), tmp_path / "a.safetensors")
    assert read_shapes(tmp_path / "a.safetensors")["body.weight"] == (4, 3)
    rest = Checkpointer(target, "", complete=True).load(str(tmp_path / "a.safetensors"))
    assert rest == {}
    assert torch.equal(target["body"].weight, source["body"].weight)


def test_other_classes_are_for_training_only(tmp_path):
    torch.save({"model": linear(5).state_dict()}, tmp_path / "a.pth")
    model = linear(2)
    Checkpointer(model, "").load(str(tmp_path / "a.pth"))
    with pytest.raises(
        CheckpointError, match=r"fit 2 of the model's 4 .*predictor.weight \(5, 4\)"
    ):
        Checkpointer(model, "", complete=True).load(str(tmp_path / "a.pth"))


def test_a_checkpoint_to_go_on_from_has_the_same_classes(tmp_path):
    Checkpointer(linear(5), str(tmp_path)).save("model_0000001", iteration=1)
    assert Checkpointer(linear(5), str(tmp_path)).resume_or_load("")["iteration"] == 1
    with pytest.raises(CheckpointError, match=r"predictor.weight \(5, 4\) in the file, \(2, 4\)"):
        Checkpointer(linear(2), str(tmp_path)).resume_or_load("")
    start = str(tmp_path / "model_0000001.pth")
    Checkpointer(linear(2), str(tmp_path)).resume_or_load(start, resume=False)


@pytest.mark.parametrize("name", ["cls_score", "bbox_pred", "predictor", "score_lowres"])
def test_each_predictor_may_have_another_size_for_training(tmp_path, name):
    def model(out):
        return nn.ModuleDict({"body": nn.Linear(3, 4), name: nn.Linear(4, out)})

    torch.save({"model": model(5).state_dict()}, tmp_path / "a.pth")
    target = model(2)
    before = target[name].weight.clone()
    Checkpointer(target, "").load(str(tmp_path / "a.pth"))
    assert torch.equal(target[name].weight, before)
    with pytest.raises(CheckpointError, match=rf"{name}.weight \(5, 4\) in the file"):
        Checkpointer(model(2), "", complete=True).load(str(tmp_path / "a.pth"))


def test_pixel_mean_and_std_may_be_missing_and_are_not_counted(tmp_path):
    model = linear()
    state = model.state_dict()
    torch.save({"model": state}, tmp_path / "a.pth")
    for name, value in (("pixel_mean", 103.5), ("pixel_std", 57.0)):
        model.register_buffer(name, torch.tensor([value]))
    Checkpointer(model, "", complete=True).load(str(tmp_path / "a.pth"))
    assert (model.pixel_mean.item(), model.pixel_std.item()) == (103.5, 57.0)
    del state["body.bias"]
    torch.save({"model": state}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"fit 3 of .* 4 tensors; missing: body.bias;"):
        Checkpointer(model, "", complete=True).load(str(tmp_path / "a.pth"))


def test_another_body_is_refused_also_for_training(tmp_path):
    other = nn.ModuleDict({"body": nn.Linear(7, 4), "predictor": nn.Linear(4, 2)})
    torch.save({"model": other.state_dict()}, tmp_path / "a.pth")
    with pytest.raises(
        CheckpointError, match=r"body.weight \(4, 7\) in the file, \(4, 3\) in the model"
    ):
        Checkpointer(linear(), "").load(str(tmp_path / "a.pth"))


def test_weights_without_one_common_name_are_refused(tmp_path):
    torch.save({"model": nn.Linear(3, 4).state_dict()}, tmp_path / "a.pth")
    expected = "fit 0 of the model's 4 tensors: the model has body.weight, body.bias, predictor.weight and 1 more, the file weight, bias"
    with pytest.raises(CheckpointError, match=expected):
        Checkpointer(linear(), "").load(str(tmp_path / "a.pth"))


def test_a_missing_weight_is_for_training_only(tmp_path):
    state = linear().state_dict()
    del state["body.bias"]
    torch.save({"model": state}, tmp_path / "a.pth")
    Checkpointer(linear(), "").load(str(tmp_path / "a.pth"))
    with pytest.raises(
        CheckpointError, match=r"fit 3 of the model's 4 tensors; missing: body.bias"
    ):
        Checkpointer(linear(), "", complete=True).load(str(tmp_path / "a.pth"))


@pytest.mark.parametrize("keep", [0, 10, 200])
@pytest.mark.parametrize(("suffix", "save"), [("pth", torch.save), ("safetensors", save_file)])
def test_a_truncated_file_is_one_sentence(tmp_path, keep, suffix, save):
    save(linear().state_dict(), tmp_path / f"a.{suffix}")
    path = tmp_path / f"b.{suffix}"
    path.write_bytes((tmp_path / f"a.{suffix}").read_bytes()[:keep])
    with pytest.raises(
        CheckpointError, match=rf"b.{suffix} cannot be read as a checkpoint"
    ) as info:
        read_shapes(path)
    assert "\n" not in str(info.value)


def test_names_of_a_distributed_model_are_understood(tmp_path):
    torch.save(
        {"model": {f"module.{k}": v for k, v in linear().state_dict().items()}}, tmp_path / "a.pth"
    )
    assert read_shapes(tmp_path / "a.pth")["body.weight"] == (4, 3)
    Checkpointer(linear(), "", complete=True).load(str(tmp_path / "a.pth"))


def test_a_part_called_module_keeps_its_name(tmp_path):
    torch.save({"module.a": torch.zeros(2), "b": torch.zeros(3)}, tmp_path / "a.pth")
    assert read_shapes(tmp_path / "a.pth") == {"module.a": (2,), "b": (3,)}


def test_fit_counts_what_is_loaded():
    keys = SimpleNamespace(missing_keys=["predictor.bias"], unexpected_keys=["x"])
    given = {"body.weight", "body.bias", "predictor.weight", "x"}
    result = fit(linear(), keys, given, {"predictor.bias": (9,)})
    assert len(result.loaded) == 3
    assert result.reshaped == {"predictor.bias": "(9,) in the file, (2,) in the model"}


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_shapes_of_a_pickle_are_read_without_running_what_it_names(tmp_path, protocol):
    sentinel = tmp_path / "ran"

    class Malicious:
        def __reduce__(self):
            return Path.touch, (sentinel,)

    file = tmp_path / "weights.pkl"
    arrays = {"a": np.zeros((2, 3), np.float32), "b": np.float32(1), "code": Malicious()}
    file.write_bytes(pickle.dumps({"model": arrays}, protocol=protocol))
    assert read_shapes(file) == {"a": (2, 3)}
    assert not sentinel.exists()


# --- pickles of the model zoos

NAMES = ("body.weight", "body.bias", "predictor.weight", "predictor.bias")


def write_pickle(path, content, protocol=2):
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return str(path)


def arrays(*names):
    """Values for the tensors of ``linear()`` under other names, in other layouts and byte orders."""
    random = np.random.default_rng(0)
    shapes = [tuple(tensor.shape) for tensor in linear().state_dict().values()]
    values = [random.normal(size=shape).astype(np.float32) for shape in shapes]
    values[0] = np.asfortranarray(values[0])
    values[2] = values[2].astype(">f4")
    return dict(zip(names, values, strict=True))


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_file_of_the_model_zoo_fills_the_model_as_detectron2_does(tmp_path, protocol):
    content = {"model": arrays(*NAMES), "__author__": "Detectron2 Model Zoo"}
    content["model"]["predictor.weight"] = content["model"]["predictor.weight"].astype("<f4")
    path = write_pickle(tmp_path / "a.pkl", content, protocol)
    ours, theirs = linear(), linear()
    rest = Checkpointer(ours, "", complete=True).load(path)
    assert rest == DetectionCheckpointer(theirs).load(path)
    for name, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value)
        assert torch.equal(value, torch.from_numpy(content["model"][name].copy()))


@pytest.mark.parametrize("wrap", [dict, lambda blobs: {"blobs": blobs, "cfg": "a: b"}])
def test_a_file_of_caffe2_detectron_fills_the_model_by_its_names(tmp_path, wrap):
    blobs = arrays("body_w", "body_b", "predictor_w", "predictor_b")
    moments = {"body_w_momentum": np.zeros((4, 3), np.float32)}
    path = write_pickle(tmp_path / "a.pkl", wrap(blobs | moments))
    assert read_pickle(Path(path))["model"].keys() == blobs.keys()
    model = linear()
    Checkpointer(model, "", complete=True).load(path)
    for tensor, blob in zip(model.state_dict().values(), blobs.values(), strict=True):
        assert torch.equal(tensor, torch.from_numpy(blob.astype(np.float32)))


@pytest.mark.parametrize("place", ["weight", "beside"])
def test_a_pickle_that_would_run_code_is_refused_and_runs_none(tmp_path, place):
    sentinel = tmp_path / "ran"

    class Malicious:
        def __reduce__(self):
            return os.mkdir, (str(sentinel),)

    content = {"model": arrays(*NAMES), "__author__": "x"}
    (content["model"] if place == "weight" else content)["code"] = Malicious()
    path = write_pickle(tmp_path / "a.pkl", content)
    with pytest.raises(
        CheckpointError, match=r"a.pkl cannot be .* 'code' is .*mkdir.* run any code"
    ):
        Checkpointer(linear(), "").load(path)
    assert not sentinel.exists()


def test_a_folder_in_the_place_of_a_file_is_no_full_disk(tmp_path):
    (tmp_path / "last_checkpoint").mkdir()
    words = r"\(last_checkpoint is a folder there\); earlier ones are intact: move it away, then"
    with pytest.raises(OutputError, match=words):
        Checkpointer(linear(5), str(tmp_path)).save("model_0000002")
