"""Files that ask for code, memory or time under the name of weights: refused in a sentence."""

import json
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

from maskrcnn_repro.checkpoint.checkpointer import Checkpointer
from maskrcnn_repro.checkpoint.torch_file import TensorStand, _Storage
from maskrcnn_repro.errors import CheckpointError
from maskrcnn_repro.utils.pickle_scan import ExcessError

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tests.helpers.malicious_files import CASES, RAN, archive, raw, whole


def linear():
    return nn.ModuleDict({"body": nn.Linear(3, 4), "predictor": nn.Linear(4, 2)})


SLOW = {"pth: million lists", "pkl: million lists"}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in CASES]
)
def test_it_is_refused_in_a_sentence(tmp_path, name):
    path = CASES[name](tmp_path)
    with pytest.raises(CheckpointError) as caught:
        Checkpointer(linear(), "").load(path)
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < len(path) + 400
    assert not (tmp_path / RAN).exists()


@pytest.mark.slow
def test_none_takes_more_memory_than_a_small_file(tmp_path):
    root = Path(__file__).parents[2]
    paths = [str(root / "projects"), str(root), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, "-m", "tests.helpers.peak_memory", str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    peaks = json.loads(done.stdout.splitlines()[-1])
    assert peaks.keys() == CASES.keys()
    for name, (text, peak) in peaks.items():
        print(f"{name:45} {peak:6.1f} MiB  {text.replace(str(tmp_path), '')[:150]}")
    assert not [name for name, (text, _) in peaks.items() if text.startswith("NOT REFUSED")]
    assert max(peak for _, peak in peaks.values()) < 64
    assert not (tmp_path / RAN).exists()


# --- what is not refused


def old_format(state, path):
    torch.save(state, path, _use_new_zipfile_serialization=False)


def unusual_layouts(state, path):
    """Channels-last like strides, one storage for all, and parameters in place of tensors."""
    flat = torch.cat([tensor.flatten() for tensor in state.values()])
    views, begin = {}, 0
    for name, tensor in state.items():
        views[name] = nn.Parameter(flat[begin : begin + tensor.numel()].view(tensor.shape))
        begin += tensor.numel()
    views["body.weight"] = state["body.weight"].t().contiguous().t()
    torch.save({"model": views, "size": torch.Size([2]), "rng": torch.get_rng_state()}, path)


def one_tensor_of_two_names(state, path):
    torch.save({"model": {**state, "again": state["body.weight"]}}, path)


@pytest.mark.parametrize("save", [old_format, unusual_layouts, one_tensor_of_two_names])
def test_honest_files_of_other_layouts_are_loaded(tmp_path, save):
    source, target = linear(), linear()
    save(source.state_dict(), tmp_path / "a.pth")
    Checkpointer(target, "", complete=True).load(str(tmp_path / "a.pth"))
    for name, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], value)


def write_zoo(state, path):
    arrays = {name: tensor.numpy() for name, tensor in state.items()}
    path.write_bytes(pickle.dumps({"model": arrays, "__author__": "x"}, 2))


@pytest.mark.parametrize(
    ("suffix", "save"),
    [("pth", torch.save), ("pth", old_format), ("pkl", write_zoo), ("safetensors", save_file)],
)
def test_a_file_cut_anywhere_is_refused(tmp_path, suffix, save):
    save(linear().state_dict(), tmp_path / f"whole.{suffix}")
    content = (tmp_path / f"whole.{suffix}").read_bytes()
    path = tmp_path / f"cut.{suffix}"
    for length in range(0, len(content), max(len(content) // 60, 1)):
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match="cannot be read"):
            Checkpointer(linear(), "").load(str(path))


def test_many_views_of_a_storage_are_added_up_at_once():
    storage = _Storage(100_000, 4)
    start = time.process_time()
    for place in range(100_000):
        storage.add(place, (1,), (1,))
    assert time.process_time() - start < 10
    # A view that is there twice takes no more of the storage; another one does.
    storage.add(7, (1,), (1,))
    assert storage.viewed == 100_000
    with pytest.raises(ExcessError, match="several tensors overlap in one storage"):
        storage.add(0, (2,), (1,))


def test_a_file_cannot_change_what_looks_into_it(tmp_path):
    setting = b"N}" + raw("__new__") + b"ccollections\nCounter\n" + b"s\x86b"
    path = tmp_path / "a.pth"
    path.write_bytes(archive(whole(b"ctorch._utils\n_rebuild_tensor_v2\n" + setting)))
    before = vars(TensorStand)["__new__"]
    with pytest.raises(CheckpointError, match="cannot be read"):
        Checkpointer(linear(), "").load(str(path))
    assert vars(TensorStand)["__new__"] is before
