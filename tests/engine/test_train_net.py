"""The command line on a data set of four images: train, evaluate, resume, refuse."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from maskrcnn_repro.engine.main import main

import cv2
import pytest
import torch

from tests.helpers.paths import ROOT
from tests.helpers.tiny_coco import command_line, write_tiny_coco

TRAIN_NET = [sys.executable, str(ROOT / "train_net.py")]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_tiny_coco(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """Folder of a finished training; not to be changed."""
    output = tmp_path_factory.mktemp("trained") / "run"
    assert main(command_line(data, output)) == 0
    return output


@pytest.fixture
def used(trained, tmp_path):
    """A copy of that folder."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def read(path):
    return json.loads(path.read_text())


def run(*args, wait=True, **environment):
    process = subprocess.Popen(
        args,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )
    return (process, *process.communicate(timeout=300)) if wait else process


def test_a_bare_checkout_helps_from_anywhere_and_its_examples_exist(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    process, printed, errors = run(*TRAIN_NET, "--help", PYTHONPATH="")
    assert process.returncode == 0, errors
    assert "usage: train_net.py" in printed
    named = set(re.findall(r"--config-file (\S+yaml)", printed))
    assert named
    assert all((ROOT / "configs" / name).is_file() for name in named), named


def test_training_leaves_weights_results_and_a_picture(trained):
    assert (trained / "last_checkpoint").read_text() == "model_final.pth"
    assert not list(trained.glob(".part-*"))
    results = read(trained / "results.json")
    assert results["iterations"] == 2
    assert results["seed"] == 7
    assert set(results["metrics"]["tiny"]) == {"bbox", "segm"}
    lines = [json.loads(line) for line in (trained / "metrics.json").read_text().splitlines()]
    assert any("total_loss" in line for line in lines)
    picture = cv2.imread(str(trained / "predictions.png"))
    assert picture.std() > 10


def test_evaluation_alone_repeats_the_evaluation_of_training(data, used, capsys):
    at_the_end = read(used / "inference/tiny/coco_instances_results.json")
    assert len(at_the_end) == 4 * 5  # images times TEST.DETECTIONS_PER_IMAGE
    before = {p: p.read_bytes() for p in used.iterdir() if p.is_file() and p.name != ".lock"}
    assert main(command_line(data, used, "--eval-only")) == 0
    assert read(used / "inference/tiny/coco_instances_results.json") == at_the_end
    alone, training = read(used / "inference/results.json"), read(used / "results.json")
    assert alone["metrics"] == training["metrics"]
    assert alone["iterations"] == 2
    assert alone["train_seconds"] == training["train_seconds"]
    for path, content in before.items():
        assert path.read_bytes() == content, f"{path.name} changed"
    last_line = capsys.readouterr().out.splitlines()[-1]
    assert last_line == (
        f"Picture of predictions beside ground truth: {used / 'inference/predictions.png'}"
    )


def test_resume_continues_count_optimiser_and_schedule(data, used):
    opts = ["SOLVER.MAX_ITER", "3", "SOLVER.LR_SCHEDULER_NAME", "WarmupMultiStepLR"]
    options = ("--resume", "--accept-change", "SOLVER.LR_SCHEDULER_NAME")
    assert main(command_line(data, used, *options, opts=opts)) == 0
    first, second = (torch.load(used / f"model_000000{i}.pth") for i in (1, 2))
    assert second["iteration"] == 2
    moments = second["trainer"]["optimizer"]["state"]
    assert {int(state["step"]) for state in moments.values()} == {3}
    assert (
        second["trainer"]["hooks"]["Clock"]["seconds"]
        > first["trainer"]["hooks"]["Clock"]["seconds"]
    )
    assert second["trainer"]["hooks"]["LRScheduler"]["last_epoch"] == 3
    assert read(used / "results.json")["iterations"] == 3


def test_a_new_training_does_not_touch_an_old_one(data, used, capsys):
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in used.iterdir() if p.is_file()}
    del before[used / ".lock"]
    assert main(command_line(data, used)) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert str(used) in error
    for way_out in ("--resume", "--eval-only", "OUTPUT_DIR"):
        assert way_out in error
    after = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in before}
    assert after == before


def test_weights_of_another_model_are_refused(data, trained, tmp_path, capsys):
    opts = ["MODEL.WEIGHTS", str(trained / "model_final.pth"), "MODEL.FPN.OUT_CHANNELS", "24"]
    assert main(command_line(data, tmp_path / "a", opts=opts)) == 2
    error = capsys.readouterr().err
    assert "backbone.fpn_lateral2.weight (16, 12, 1, 1) in the file, (24, 12, 1, 1)" in error


def test_fine_tuning_on_other_classes_keeps_all_but_the_predictors(data, trained, tmp_path, capsys):
    source = torch.load(trained / "model_final.pth")["model"]
    other = {
        key: value[:1] if "cls_score" in key or "mask_head.predictor" in key else value
        for key, value in source.items()
    }
    torch.save({"model": other}, tmp_path / "other.pth")
    opts = ["MODEL.WEIGHTS", str(tmp_path / "other.pth"), "SOLVER.MAX_ITER", "1"]
    assert main(command_line(data, tmp_path / "a", opts=opts)) == 0
    assert main(command_line(data, tmp_path / "b", "--eval-only", opts=opts)) == 2
    assert "cls_score.weight (1, 32) in the file, (3, 32) in the model" in capsys.readouterr().err


def test_truncated_weights_are_one_sentence(data, trained, tmp_path, capsys):
    broken = tmp_path / "broken.pth"
    content = (trained / "model_final.pth").read_bytes()
    broken.write_bytes(content[: len(content) // 2])
    opts = ["MODEL.WEIGHTS", str(broken)]
    assert main(command_line(data, tmp_path / "a", "--eval-only", opts=opts)) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert str(broken) in error
    assert "truncated" in error


@pytest.mark.parametrize(
    ("opts", "words"),
    [
        (("MODEL.ROI_HEADS.NAME", "StandardROIHead"), "Did you mean 'StandardROIHeads'"),
        (("SOLVER.OPTIMIZER", "Adam"), "Did you mean 'AdamW'"),
        (("MODEL.WEIGHTS", "nowhere.pth"), "Weights 'nowhere.pth' do not exist"),
        (("DATASETS.TRAIN", "('tiniest',)"), "'tiniest'"),
        (("SOLVER.AMP.ENABLED", "True"), "SOLVER.AMP.DTYPE bfloat16, or SOLVER.AMP.ENABLED False"),
        (("MODEL.DEVICE", "gpu"), "auto, cpu, cuda"),
        (("MODEL.DEVICE", "meta"), "'meta' holds no numbers; use MODEL.DEVICE auto or cpu"),
        (("SOLVER.BASE_LRR", "1"), "Did you mean 'SOLVER.BASE_LR'"),
        (("SOLVER.MAX_ITER", "0"), "SOLVER.MAX_ITER 0"),
    ],
)
def test_mistakes_are_told_in_one_sentence_before_anything_is_written(
    data, tmp_path, capsys, opts, words
):
    assert main(command_line(data, tmp_path / "a", opts=opts)) == 2
    printed = capsys.readouterr()
    assert words in printed.err
    assert printed.err.startswith("Error: ")
    assert printed.err.count("\n") == 1
    assert not (tmp_path / "a").exists()


@pytest.mark.slow
def test_two_processes_train_and_one_repeats_their_evaluation(data, tmp_path):
    together = tmp_path / "together"
    process, _, errors = run(*TRAIN_NET, *command_line(data, together, "--num-gpus", "2"))
    assert process.returncode == 0, errors
    assert read(together / "results.json")["machine"]["processes"] == 2
    found = read(together / "inference/tiny/coco_instances_results.json")
    assert main(command_line(data, together, "--eval-only")) == 0
    alone = read(together / "inference/tiny/coco_instances_results.json")
    assert sorted(map(str, alone)) == sorted(map(str, found))
    assert (
        read(together / "results.json")["metrics"]
        == read(together / "inference/results.json")["metrics"]
    )


@pytest.mark.slow
def test_torchrun_is_understood_and_its_ranks_learn_of_a_refusal(data, tmp_path):
    torchrun = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
    ]
    command = [*torchrun, TRAIN_NET[1], *command_line(data, tmp_path / "run")]
    process, _, errors = run(*command)
    assert process.returncode == 0, errors
    assert read(tmp_path / "run/results.json")["machine"]["processes"] == 2
    process, _, errors = run(*command)
    assert process.returncode != 0
    assert errors.count("already holds a training") == 1
    assert "Traceback" not in errors.split("already holds a training")[0]


@pytest.mark.slow
def test_a_mistake_in_several_processes_is_still_one_sentence(data, tmp_path):
    options = ("--num-gpus", "2")
    command = command_line(data, tmp_path / "a", *options, opts=["SOLVER.IMS_PER_BATCH", "3"])
    process, _, errors = run(*TRAIN_NET, *command, PYTHONWARNINGS="ignore")
    assert process.returncode == 2
    assert errors.splitlines()[-1].startswith("Error: SOLVER.IMS_PER_BATCH 3")
    assert "Traceback" not in errors
    # In the main process alone, at the end.
    opts = ["TEST.EXPECTED_RESULTS", "[['bbox', 'AP', 99.0, 0.1]]"]
    command = command_line(data, tmp_path / "b", *options, opts=opts)
    process, _, errors = run(*TRAIN_NET, *command, PYTHONWARNINGS="ignore")
    assert process.returncode == 2
    assert len(errors.splitlines()) == 1


@pytest.mark.slow
def test_a_killed_training_frees_its_folder_and_resumes(data, tmp_path):
    output = tmp_path / "run"
    opts = ["SOLVER.MAX_ITER", "100000", "DATALOADER.NUM_WORKERS", "2", "TEST.SHEET_IMAGES", "0"]
    command = command_line(data, output, opts=opts)
    process = run(*TRAIN_NET, *command, wait=False)
    try:
        deadline = time.monotonic() + 200
        while not (output / "model_0000001.pth").exists() and time.monotonic() < deadline:
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.1)
        assert main(command) == 2  # in use
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    reached = int(torch.load(output / (output / "last_checkpoint").read_text())["iteration"])
    rest = ["SOLVER.MAX_ITER", str(reached + 3), "DATALOADER.NUM_WORKERS", "0"]
    assert main([*command_line(data, output, "--resume", opts=opts), *rest]) == 0
    assert read(output / "results.json")["iterations"] == reached + 3
