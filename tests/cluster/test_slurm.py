"""Jobs of SLURM: the script that submitit writes, and a preempted job that resumes."""

import json
import os
import re
import signal
import sys
import time
from pathlib import Path

from maskrcnn_repro.cluster.job import Task
from maskrcnn_repro.cluster.options import minutes
from maskrcnn_repro.cluster.slurm import OPTIONS, SlurmExecutor, slurm_options
from maskrcnn_repro.cluster.work import Work
from maskrcnn_repro.errors import ConfigError

import pytest

from tests.helpers.paths import STORED

submitit = pytest.importorskip("submitit")

PROGRAM = """
import pathlib, signal, sys, time

def save(number, frame):
    pathlib.Path("last_checkpoint").write_text("3")
    print("saved", flush=True)
    sys.exit(75)

if "--resume" in sys.argv:
    print("resumed at", pathlib.Path("last_checkpoint").read_text(), flush=True)
    pathlib.Path("done").touch()
else:
    signal.signal(signal.SIGUSR1, save)
    pathlib.Path("metrics.json").write_text("{}")
    print("training", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def task(tmp_path, monkeypatch):
    """A training of a few lines that saves at USR1 with status 75 and ends at once when it is resumed."""
    folder = tmp_path / "seed1"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "train.py").write_text(PROGRAM)
    command = [sys.executable, "train.py"]
    return Task("r50_c4/seed1", command, [*command, "--resume"], folder)


def wait_for(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return value


def tools(folder, monkeypatch, **scripts):
    """Put shell scripts of these names on PATH, and nothing of SLURM's own."""
    folder.mkdir()
    for name, text in scripts.items():
        path = folder / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


def test_the_script_for_sbatch_is_as_it_is_stored(task, tmp_path, monkeypatch):
    tools(
        tmp_path / "bin", monkeypatch, srun="exit 1", sbatch="cp $1 sbatch.sh; echo Submitted batch job 42"
    )  # fmt: skip
    monkeypatch.setenv("PYTHONPATH", "")
    text = "partition=gpu,time=4:30:00,gpus=8,cpus=16,mem=128G,account=vision"
    executor = SlurmExecutor(tmp_path / "logs", slurm_options(text))
    job = executor.start(task)
    assert job.place == "job 42"
    assert json.loads((task.folder / "job.json").read_text()) == {"cluster": "slurm", "job": "42"}
    script = (task.folder / "sbatch.sh").read_text()
    script = script.replace(str(tmp_path), "FOLDER").replace(sys.executable, "PYTHON")
    script = re.sub(r"PYTHONPATH=\S+", "PYTHONPATH=PROJECTS", script)
    assert script == (STORED / "sbatch.sh").read_text()


def test_a_job_that_is_still_queued_is_not_submitted_again(task, tmp_path, monkeypatch):
    tools(
        tmp_path / "bin", monkeypatch, srun="exit 1",
        sbatch="echo x >> submitted; echo Submitted batch job 42",
        sacct="echo 'JobID|State|NodeList'; echo \"42|${STATE:-PENDING}|\"",
    )  # fmt: skip
    assert SlurmExecutor(tmp_path / "logs", {}).start(task).poll() is None
    again = SlurmExecutor(tmp_path / "logs", {}).start(task)
    assert again.place == "job 42"
    assert (task.folder / "submitted").read_text() == "x\n"


@pytest.mark.parametrize(
    "note", ["[1]", "3", "{}", "[" * 10**5, '{"cluster": "slurm"}', '{"cluster": "slurm", "job": [42]}']
)  # fmt: skip
def test_a_damaged_note_of_a_job_is_none(task, tmp_path, monkeypatch, note):
    tools(
        tmp_path / "bin", monkeypatch, srun="exit 1", sbatch="echo Submitted batch job 42"
    )  # fmt: skip
    (task.folder / "job.json").write_text(note)
    assert SlurmExecutor(tmp_path / "logs", {}).start(task).place == "job 42"
    assert json.loads((task.folder / "job.json").read_text()) == {"cluster": "slurm", "job": "42"}


@pytest.mark.slow
def test_a_preempted_job_saves_is_requeued_and_resumes(task, tmp_path):
    executor = SlurmExecutor(tmp_path / "logs", {"time": 5}, cluster="local")
    job = executor.start(task)
    wait_for(lambda: job.tail(9) == ["training"])
    # submitit's warning to the process around the training, as SLURM sends it before the limit.
    os.kill(worker_of(int(job.job.job_id)), signal.SIGUSR2)
    wait_for(lambda: job.poll() is not None)
    assert job.poll() == 0
    assert job.tail(9) == ["training", "saved", "resumed at 3"]
    assert (task.folder / "done").exists()


def worker_of(process):
    """Id of submitit's process around the training, below the one that controls it."""
    for child in (
        int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split()
    ):
        if b"submitit.core._submit" in Path(f"/proc/{child}/cmdline").read_bytes():
            return child
        if worker := worker_of(child):
            return worker
    return None


def test_a_job_that_slurm_started_again_resumes(task, tmp_path):
    (task.folder / "last_checkpoint").write_text("7")
    marker = tmp_path / "marker"
    marker.touch()
    assert Work(task, marker)() == 0
    assert "resumed at 7" in (task.folder / "console.txt").read_text()


def test_options_are_read_from_words_and_from_a_file(tmp_path):
    assert slurm_options("partition=gpu,time=4:00:00,gpus=8") == {
        "partition": "gpu", "time": 240, "gpus": 8,
    }  # fmt: skip
    file = tmp_path / "slurm.yaml"
    file.write_text("time: 1-00:00:01\nsetup: [module load cuda]\nexclusive: yes\nmem: 64G\n")
    assert slurm_options(str(file)) == {
        "time": 1441, "setup": ["module load cuda"], "exclusive": True, "mem": "64G",
    }  # fmt: skip
    assert slurm_options("") == {}
    words = ("90", "4:00", "30:10", "1:30:00", "0:00:30", "2-3", "2-03:04", "1-0:0:1")
    assert [minutes(word) for word in words] == [90, 4, 31, 90, 1, 51 * 60, 51 * 60 + 4, 1441]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("partiton=gpu", "--slurm: 'partiton' is no option. Did you mean 'partition'? There are "),
        ("gpus=many", "--slurm: gpus must be a whole number from 0 on, not 'many'."),
        ("gpus=-3", "--slurm: gpus must be a whole number from 0 on, not '-3'."),
        ("time=0:00", "--slurm: time must be minutes, MM:SS, H:MM:SS or D-H:MM:SS, not '0:00'."),
        (
            "time=1:99:00",
            "--slurm: time must be minutes, MM:SS, H:MM:SS or D-H:MM:SS, not '1:99:00'.",
        ),
        ("time=soon", "--slurm: time must be minutes, MM:SS, H:MM:SS or D-H:MM:SS, not 'soon'."),
        ("time=0", "--slurm: time must be minutes, MM:SS, H:MM:SS or D-H:MM:SS, not '0'."),
        ("gpu", "--slurm gpu: 'gpu' needs a value, KEY=VALUE."),
        ("none.yaml", "--slurm none.yaml cannot be read: No such file or directory."),
    ],
)
def test_a_wrong_option_is_named(text, sentence):
    with pytest.raises(ConfigError) as caught:
        slurm_options(text)
    assert str(caught.value).startswith(sentence)


def test_every_option_is_one_of_submitit_s(tmp_path, monkeypatch):
    tools(tmp_path / "bin", monkeypatch, srun="exit 1")
    values = {str: "x", int: 3, bool: True, list: ["x"], dict: {"a": "b"}}
    executor = SlurmExecutor(tmp_path, {name: values[kind] for name, kind in OPTIONS.items()})
    # submitit refuses names that it does not know.
    assert executor.executor()._executor.parameters["partition"] == "x"


def test_without_slurm_or_submitit_it_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="there is no SLURM on this machine"):
        SlurmExecutor(tmp_path, {})
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(ConfigError, match=r"pip install 'maskrcnn-repro\[slurm\]'"):
        SlurmExecutor(tmp_path, {})
