"""What a run leaves in its folder: whole files, the lock, results that name their origin."""

import hashlib
import json
import os
import signal
import subprocess

import maskrcnn_repro
from maskrcnn_repro.config import get_config
from maskrcnn_repro.engine.trainer import Clock
from maskrcnn_repro.errors import OutputError
from maskrcnn_repro.utils import provenance
from maskrcnn_repro.utils.files import replaced, write_text
from maskrcnn_repro.utils.lock import locked, refuse_used
from maskrcnn_repro.utils.provenance import Progress

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

# --- files and lock


def test_a_file_that_fails_half_way_leaves_the_old_one(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail():
        with replaced(path) as beside:
            beside.write_text("ne")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_folders_are_made_and_a_file_that_cannot_be_written_is_named(tmp_path):
    write_text(tmp_path / "new/a.txt", "text")
    with pytest.raises(OutputError, match=r"a.txt/b/c.txt cannot be written: Not a directory\.$"):
        write_text(tmp_path / "new/a.txt/b/c.txt", "text")
    assert (tmp_path / "new/a.txt").read_text() == "text"


def test_a_folder_is_held_by_one_run_and_free_afterwards(tmp_path):
    refusal = pytest.raises(OutputError, match=rf"in use by another run \(process {os.getpid()}\)")
    with locked(tmp_path / "run"), refusal:
        locked(tmp_path / "run").__enter__()
    with locked(tmp_path / "run"):
        assert (tmp_path / "run" / ".lock").read_text() == str(os.getpid())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # forking beside torch's threads
def test_a_killed_run_frees_its_folder_though_its_workers_live_on(tmp_path):
    ready, go = os.pipe()
    holder = os.fork()
    if holder == 0:
        try:
            with locked(tmp_path):
                worker = os.fork()
                if worker == 0:
                    signal.pause()
                os.write(go, worker.to_bytes(4, "little"))
                signal.pause()
        finally:
            os._exit(1)
    worker = int.from_bytes(os.read(ready, 4), "little")
    with pytest.raises(OutputError, match=f"process {holder}"):
        locked(tmp_path).__enter__()
    os.kill(holder, signal.SIGKILL)
    os.waitpid(holder, 0)
    try:
        with locked(tmp_path):
            os.kill(worker, 0)  # still alive
    finally:
        os.kill(worker, signal.SIGKILL)


def test_a_file_in_the_place_of_the_folder_is_one_sentence(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(OutputError, match="cannot be used"):
        locked(tmp_path / "run").__enter__()


@pytest.mark.parametrize("name", ["last_checkpoint", "model_0000099.pth", "model_final.pth"])
def test_a_folder_with_a_checkpoint_is_refused(tmp_path, name):
    refuse_used(tmp_path)
    (tmp_path / name).write_text("")
    with pytest.raises(OutputError, match=f"already holds a training .{name}"):
        refuse_used(tmp_path)


# --- results


def test_results_name_their_origin(tmp_path):
    (tmp_path / "a.json").write_text("{}")
    DatasetCatalog.register("with_origin", list)
    MetadataCatalog.get("with_origin").json_file = str(tmp_path / "a.json")
    cfg = get_config()
    cfg.MODEL.DEVICE = "cpu"
    cfg.DATASETS.TEST = ("with_origin",)
    cfg.DATASETS.TRAIN = ()
    try:
        provenance.write_results(
            tmp_path / "results.json",
            cfg,
            Progress(5, 1.234),
            eval_seconds=2,
            metrics={"with_origin": {"bbox": {"AP": 12.5, "APl": float("nan")}}},
            weights_sha256="ab" * 32,
        )
    finally:
        DatasetCatalog.remove("with_origin")
        MetadataCatalog.remove("with_origin")
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["metrics"] == {"with_origin": {"bbox": {"AP": 12.5, "APl": None}}}
    assert results["weights_sha256"] == "ab" * 32
    assert results["precision"] == {"training": "float32", "evaluation": "float32"}
    assert results["datasets"]["TEST"][0]["sha256"] == hashlib.sha256(b"{}").hexdigest()
    assert results["code"]["backend"]["name"] == maskrcnn_repro.BACKEND.name
    assert results["code"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert (results["iterations"], results["train_seconds"]) == (5, 1.23)
    assert results["machine"]["processes"] == 1


def test_the_config_hash_follows_every_value_but_the_folder():
    cfg = get_config()
    first = provenance.config_hash(cfg)
    cfg.OUTPUT_DIR = "elsewhere"
    assert provenance.config_hash(cfg) == first
    cfg.SOLVER.BASE_LR *= 2
    assert provenance.config_hash(cfg) != first


def test_the_commit_of_a_checkout_and_of_no_checkout(tmp_path):
    assert provenance.commit(tmp_path) is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run([*git, "init", "-q"], check=True)
    (tmp_path / "f").write_text("1")
    subprocess.run([*git, "add", "f"], check=True)
    subprocess.run([*git, "commit", "-qm", "x"], check=True)
    clean = provenance.commit(tmp_path)
    assert len(clean) == 40
    (tmp_path / "f").write_text("2")
    assert provenance.commit(tmp_path) == f"{clean}-dirty"


def test_progress_is_read_from_a_checkpoint_or_unknown():
    rest = {"iteration": 9, "trainer": {"hooks": {"Clock": {"seconds": 4.0}}}}
    assert Progress.of_checkpoint(rest) == Progress(10, 4.0)
    assert Progress.of_checkpoint({}) == Progress(0, None)


def test_the_clock_carries_on():
    clock = Clock()
    clock.load_state_dict({"seconds": 100.0})
    clock.before_step()
    clock.after_step()
    assert 100.0 < clock.state_dict()["seconds"] < 101.0
