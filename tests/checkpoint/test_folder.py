"""The newest intact checkpoint of a folder is found, whatever happened to the files."""

import json
import logging
import math
import shutil

from maskrcnn_repro.checkpoint.checkpointer import Checkpointer
from maskrcnn_repro.checkpoint.manifest import damage, manifest_of, read_manifest
from maskrcnn_repro.errors import CheckpointError, OutputError

import numpy as np
import pytest
import torch
from torch import nn

LAST = 2


class State:
    """What a trainer keeps, as far as a checkpoint must have it."""

    def __init__(self):
        self.iteration = 0

    def state_dict(self):
        optimizer = {"state": {}, "param_groups": []}
        hooks = {"LRScheduler": {}}
        return {"iteration": self.iteration, "optimizer": optimizer, "hooks": hooks}

    def load_state_dict(self, state):
        self.iteration = state["iteration"]


def checkpointer(folder):
    facts = {"class_names": ["disc"], "config_sha256": "c", "backend": "b", "data": {}}
    state = State()
    result = Checkpointer(nn.Linear(64, 64), str(folder), facts=facts, trainer=state)
    result.state = state
    return result


def train(folder, iterations=range(LAST + 1), saver=None):
    saver = saver or checkpointer(folder)
    for iteration in iterations:
        saver.state.iteration = iteration
        nn.init.constant_(saver.model.weight, iteration)
        saver.save(f"model_{iteration:07d}", iteration=iteration)
    return saver


def resumed(folder):
    """The iteration that a resume finds, and what it says."""
    fresh = checkpointer(folder)
    rest = fresh.resume_or_load("")
    assert (fresh.model.weight == rest["iteration"]).all()
    return rest["iteration"]


def last(folder, iteration=LAST):
    return folder / f"model_{iteration:07d}.pth"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    train(folder)
    return folder


@pytest.fixture
def folder(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def test_a_manifest_tells_whose_a_file_is(folder):
    manifest = read_manifest(last(folder))
    content = torch.load(last(folder))
    assert manifest["size"] == last(folder).stat().st_size
    assert (
        manifest["run"] == content["maskrcnn_repro"]["run"] == read_manifest(last(folder, 0))["run"]
    )
    shown = {
        name: manifest[name] for name in ("iteration", "class_names", "config_sha256", "backend")
    }
    assert shown == {"iteration": 2, "class_names": ["disc"], "config_sha256": "c", "backend": "b"}
    assert content["maskrcnn_repro"]["data"] == {}


@pytest.mark.parametrize("part", range(20))
def test_a_truncated_newest_file_falls_back(folder, part, caplog):
    size = last(folder).stat().st_size
    with last(folder).open("rb+") as file:
        file.truncate(size * part // 20)
    with caplog.at_level(logging.WARNING):
        assert resumed(folder) == 1
    assert "model_0000002.pth is passed over" in caplog.text
    assert "newest intact checkpoint is model_0000001.pth" in caplog.text


@pytest.mark.parametrize("place", ["model", "optimizer"])
def test_numbers_of_another_program_that_are_not_finite_fall_back(folder, place, caplog):
    content = torch.load(last(folder))
    parts = {"model": content["model"], "optimizer": {}}
    content["trainer"]["optimizer"]["state"] = parts["optimizer"]
    parts[place]["bad"] = torch.tensor([1.0, math.nan])
    torch.save(content, last(folder))
    manifest_of(last(folder)).unlink()
    with caplog.at_level(logging.WARNING):
        assert resumed(folder) == 1
    assert "model_0000002.pth is passed over: NaN or infinity in" in caplog.text
    assert f"{place}." in caplog.text


@pytest.mark.parametrize("manifest", [True, False])
@pytest.mark.parametrize("kind", ["bit", "zeros"])
def test_damaged_numbers_fall_back(folder, kind, manifest):
    """Anywhere within the weights; without a manifest the checksums of the file tell."""
    if not manifest:
        manifest_of(last(folder)).unlink()
    content = last(folder).read_bytes()
    start = content.index(np.full(64, 2, np.float32).tobytes())
    for offset in np.random.default_rng(0).integers(0, 64 * 64 * 4 - 64, 8):
        damaged = bytearray(content)
        place = start + int(offset)
        if kind == "bit":
            damaged[place] ^= 1 << int(offset % 8)
        else:
            damaged[place : place + 64] = bytes(64)
        last(folder).write_bytes(damaged)
        assert resumed(folder) == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.update(iteration=-7), "its iteration is -7, no number from 0 on"),
        (lambda c: c.update(iteration=[2]), r"its iteration is \[2\]"),
        (lambda c: c.pop("iteration"), "its iteration is None"),
        (lambda c: c["trainer"].update(iteration="2"), "the iteration of its trainer is '2'"),
        (lambda c: c.pop("trainer"), "no state of a trainer"),
        (lambda c: c["trainer"].pop("optimizer"), "no state of an optimiser"),
        (lambda c: c["trainer"].update(optimizer=[]), "no state of an optimiser"),
        (lambda c: c["trainer"].pop("hooks"), "no state of the learning rate's schedule"),
        (lambda c: c.update(model=[1]), "it holds no weights"),
    ],
)
def test_content_that_nothing_can_go_on_from_is_passed_over(folder, change, words, caplog):
    content = torch.load(last(folder))
    change(content)
    torch.save(content, last(folder))
    manifest_of(last(folder)).unlink()
    assert resumed(folder) == 1
    for iteration in (0, 1):
        last(folder, iteration).unlink()
    with pytest.raises(CheckpointError, match=words) as error:
        checkpointer(folder).resume_or_load("")
    assert "\n" not in str(error.value)


def test_a_list_or_other_bytes_are_passed_over(folder):
    manifest_of(last(folder)).unlink()
    torch.save([1, 2], last(folder))
    assert resumed(folder) == 1
    last(folder).write_bytes(b"<html>")
    assert resumed(folder) == 1


@pytest.mark.parametrize(
    "hint", [None, b"", b"\xff\x00\xfe", b"model_0000001.pth", b"../x", "folder"]
)
def test_the_folder_is_the_truth(folder, hint, caplog):
    (folder / "last_checkpoint").unlink()
    if hint == "folder":
        (folder / "last_checkpoint").mkdir()
    elif hint is not None:
        (folder / "last_checkpoint").write_bytes(hint)
    assert checkpointer(folder).has_checkpoint()
    assert resumed(folder) == LAST
    assert ("model_0000002.pth is newer" in caplog.text) == (hint == b"model_0000001.pth")


def test_a_file_without_a_manifest_is_taken_with_a_line(folder, caplog):
    manifest_of(last(folder)).unlink()
    assert resumed(folder) == LAST
    assert caplog.text.count("model_0000002.pth has no manifest") == 1


def test_a_broken_manifest_is_none(folder, caplog):
    manifest_of(last(folder)).write_text("{")
    assert resumed(folder) == LAST
    assert "has no manifest" in caplog.text


def test_the_last_model_and_the_best_are_checkpoints_too(folder):
    saver = checkpointer(folder)
    saver.resume_or_load("")
    train(folder, [3], saver)
    for suffix in ("pth", "json"):
        (folder / f"model_0000003.{suffix}").rename(folder / f"model_final.{suffix}")
        shutil.copy(folder / f"model_0000001.{suffix}", folder / f"model_best.{suffix}")
    assert resumed(folder) == 3
    for file in folder.glob("model_[0f]*"):
        file.unlink()
    assert resumed(folder) == 1


def test_without_checkpoints_there_is_none(tmp_path):
    assert not checkpointer(tmp_path).has_checkpoint()
    assert checkpointer(tmp_path).get_checkpoint_file() == ""


def test_a_checkpoint_of_another_run_is_not_overwritten(folder):
    before = last(folder).read_bytes()
    with pytest.raises(OutputError, match=r"model_0000002.pth was written by another run"):
        train(folder, [2])
    assert last(folder).read_bytes() == before


def test_a_damaged_newer_file_of_another_run_is_refused_at_once(folder):
    note = read_manifest(last(folder))
    manifest_of(last(folder)).write_text(json.dumps(note | {"run": "another", "size": 1}))
    with pytest.raises(OutputError, match=r"newer checkpoints of another run, 'model_0000002.pth'"):
        resumed(folder)


def test_a_resumed_run_keeps_its_id_and_writes_over_its_own(folder):
    manifest_of(last(folder)).unlink()
    saver = checkpointer(folder)
    saver.resume_or_load("")
    train(folder, [2], saver)
    assert read_manifest(last(folder))["run"] == read_manifest(last(folder, 0))["run"]
    assert not damage(last(folder))


@pytest.mark.parametrize("moment", ["torch.save", "manifest", "tag"])
def test_a_kill_during_a_save_leaves_an_intact_checkpoint(folder, moment, monkeypatch):
    saver = checkpointer(folder)
    saver.resume_or_load("")

    def die(*_, **__):
        raise KeyboardInterrupt

    module = "maskrcnn_repro.checkpoint.checkpointer"
    names = {"torch.save": "torch.save", "manifest": f"{module}.write_manifest"}
    monkeypatch.setattr(names.get(moment, f"{module}.Checkpointer.tag_last_checkpoint"), die)
    with pytest.raises(KeyboardInterrupt):
        train(folder, [2], saver)
    monkeypatch.undo()
    assert resumed(folder) == LAST


def test_a_full_disk_is_one_sentence_and_leaves_the_old_files(folder, monkeypatch):
    saver = checkpointer(folder)
    saver.resume_or_load("")

    def fail(content, path):
        path.write_bytes(b"half")
        raise RuntimeError("[enforce fail at inline_container.cc:745] . PytorchStreamWriter failed")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OutputError, match="earlier ones are intact: make room") as error:
        train(folder, [3], saver)
    assert "\n" not in str(error.value)
    assert resumed(folder) == LAST
    assert not list(folder.glob(".part*"))


@pytest.mark.parametrize(("keep", "left"), [(1, [4]), (2, [3, 4]), (9, [0, 1, 2, 3, 4])])
def test_the_last_checkpoints_are_kept(tmp_path, keep, left):
    saver = train(tmp_path, range(5))
    for name in ("model_best", "model_final"):
        saver.save(name, iteration=0)
    saver.folder.prune(keep, saver.run)
    names = {f"model_{i:07d}.pth" for i in left} | {"model_best.pth", "model_final.pth"}
    assert {file.name for file in tmp_path.glob("*.pth")} == names
    assert {file.with_suffix(".pth").name for file in tmp_path.glob("*.json")} == names


def test_the_newest_intact_checkpoint_is_kept_and_other_runs_are(folder):
    saver = checkpointer(folder)
    saver.resume_or_load("")
    train(folder, [3], saver)
    with last(folder, 3).open("rb+") as file:
        file.truncate(10)
    note = json.loads(manifest_of(last(folder, 0)).read_text())
    manifest_of(last(folder, 0)).write_text(json.dumps(note | {"run": "another"}))
    saver.folder.prune(1, saver.run)
    assert sorted(file.name for file in folder.glob("*.pth")) == [
        "model_0000000.pth",
        "model_0000002.pth",
        "model_0000003.pth",
    ]
