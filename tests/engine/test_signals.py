"""TERM, INT, USR1 and HUP: saved, said in a line, left with a status that tells which."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

from maskrcnn_repro.data.watched_loader import WatchedLoader
from maskrcnn_repro.data.worker_notes import WorkerNotes
from maskrcnn_repro.data.workers import standing_apart
from maskrcnn_repro.engine.main import main
from maskrcnn_repro.engine.signals import SignalRequests, handling, passing_on
from maskrcnn_repro.engine.step_end import StepEnd
from maskrcnn_repro.engine.trainer import Trainer
from maskrcnn_repro.errors import DataError
from maskrcnn_repro.utils.held_signals import forget_held_back, held_back

import pytest
import torch
from detectron2.engine import HookBase
from detectron2.evaluation import DatasetEvaluator
from torch.utils.data import DataLoader, Dataset

from tests.helpers.paths import ROOT
from tests.helpers.tiny_coco import command_line, write_tiny_coco

SHORT = ["DATASETS.TEST", "()", "SOLVER.CHECKPOINT_PERIOD", "9", "SOLVER.MAX_ITER", "3"]
STATUSES = {"SIGTERM": 143, "SIGINT": 130, "SIGUSR1": 75, "SIGHUP": 129}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_tiny_coco(tmp_path_factory.mktemp("data"))


class Send(HookBase):
    def after_step(self):
        if self.trainer.iter == 1:
            os.kill(os.getpid(), getattr(signal, os.environ["TEST_SIGNAL"]))


class Signalled(Trainer):
    def build_hooks(self):
        return [Send()]


class SendingEvaluator(DatasetEvaluator):
    def process(self, inputs, outputs):
        os.kill(os.getpid(), signal.SIGTERM)

    def evaluate(self):
        raise AssertionError("the evaluation went on")


class SignalledInEvaluation(Trainer):
    @classmethod
    def build_evaluator(cls, cfg, name, folder):
        return SendingEvaluator()


def iterations(folder, name="model_0000001.pth"):
    return torch.load(folder / name)["iteration"]


# --- in one process


@pytest.mark.parametrize(
    "name",
    ["SIGTERM", *(pytest.param(n, marks=pytest.mark.slow) for n in STATUSES if n != "SIGTERM")],
)
def test_a_signal_saves_and_leaves_with_its_status(data, tmp_path, monkeypatch, capfd, name):
    monkeypatch.setenv("TEST_SIGNAL", name)
    before = [signal.getsignal(getattr(signal, other)) for other in STATUSES]
    assert main(command_line(data, tmp_path / "run", opts=SHORT), Signalled) == STATUSES[name]
    said = capfd.readouterr()
    assert f"{name}: saving after this iteration" in said.err
    assert f"Saved after 2 iterations and stopped: {name}" in said.out
    assert iterations(tmp_path / "run") == 1
    assert before == [signal.getsignal(getattr(signal, other)) for other in STATUSES]
    assert main(command_line(data, tmp_path / "run", "--resume", opts=[*SHORT, "TRAINER", ""])) == 2
    accept = ("--resume", "--accept-change", "TRAINER")
    assert main(command_line(data, tmp_path / "run", *accept, opts=SHORT)) == 0
    assert iterations(tmp_path / "run", "model_final.pth") == 2


@pytest.mark.parametrize(("period", "left"), [("2", "model_0000001.pth"), ("0", "model_final.pth")])
def test_an_evaluation_is_left_at_once(data, tmp_path, period, left):
    opts = [*SHORT, "DATASETS.TEST", "('tiny',)", "TEST.EVAL_PERIOD", period]
    assert main(command_line(data, tmp_path / "run", opts=opts), SignalledInEvaluation) == 143
    assert [file.name for file in (tmp_path / "run").glob("*.pth")] == [left]


def test_before_the_first_iteration_there_is_nothing_to_save(data, tmp_path, monkeypatch, capfd):
    def build(cls, cfg):
        os.kill(os.getpid(), signal.SIGUSR1)

    monkeypatch.setattr(Trainer, "build_model", classmethod(build))
    assert main(command_line(data, tmp_path / "run", opts=SHORT)) == 75
    assert "nothing left to save (status 75)" in capfd.readouterr().err


def test_what_is_ignored_on_purpose_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        received = []
        with handling(received.append):
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGUSR1)
        assert received == [signal.SIGUSR1]
    finally:
        signal.signal(signal.SIGHUP, before)


class Group(Dataset):
    """Tells, in a worker, whether it leads a process group of its own."""

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return os.getpgrp() == os.getpid()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # forking beside torch's threads
def test_a_worker_stands_apart_from_the_group_of_the_training():
    called = []
    loader = standing_apart(DataLoader(Group(), num_workers=1, worker_init_fn=called.append))
    assert [batch.item() for batch in loader] == [True]
    loader.worker_init_fn.former(3)
    assert called == [3]
    assert standing_apart([1]) == [1]


def pending_and_later(sender):
    """A process drops the signal that was held back and is ended by the next one."""
    with held_back():
        os.kill(os.getpid(), signal.SIGTERM)
        forget_held_back()
        sender.send("alive")
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # forking beside torch's threads
def test_a_worker_forgets_signals_from_before_it_stood_apart():
    receiver, sender = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=pending_and_later, args=(sender,))
    process.start()
    assert receiver.poll(10)
    process.join(10)
    assert process.exitcode == -signal.SIGTERM


class Interrupted(Dataset):
    """Spawned, it interrupts its whole group while it is read, before its worker stands apart."""

    def __setstate__(self, state):
        os.killpg(0, signal.SIGINT)

    def __getstate__(self):
        return {"any": 1}

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return index


def spawned_loader():
    os.setpgid(0, 0)
    multiprocessing.set_start_method("spawn", force=True)
    signal.signal(signal.SIGINT, lambda *_: None)
    return list(standing_apart(DataLoader(Interrupted(), num_workers=1)))


@pytest.mark.slow
def test_an_interrupt_while_workers_start_leaves_their_batches(tmp_path):
    line = "from tests.engine.test_signals import spawned_loader\nif __name__ == '__main__': print(spawned_loader())"
    (tmp_path / "go.py").write_text(line)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'projects'}"}
    done = subprocess.run(
        [sys.executable, tmp_path / "go.py"],
        check=False,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (0, "[tensor([0]), tensor([1])]\n"), done.stderr


class Unsendable(Dataset):
    """Gives what no process can hand over to another."""

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return lambda: index


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # forking beside torch's threads
def test_a_batch_that_cannot_be_handed_over_ends_the_wait(capfd):
    loader = standing_apart(DataLoader(Unsendable(), num_workers=1, collate_fn=list))
    with pytest.raises(DataError, match="A data-loader worker died: if no line above says why"):
        next(iter(WatchedLoader(loader, WorkerNotes(1), 1)))
    assert "cannot be handed over to the training (Can't pickle" in capfd.readouterr().err


def in_a_fork(function):
    """Exit status of a forked process that calls a function, and its stderr."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(writing, 2)
        sys.__stderr__ = None
        try:
            function()
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as errors:
        text = errors.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), text


def interrupt_a_training_twice():
    start_stubborn()  # as a data-loader worker is
    requests = SignalRequests(StepEnd("cpu"))
    requests.trainer = SimpleNamespace(evaluates=False)
    requests.before_train()
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGINT)


def interrupt_a_parent_twice():
    start_stubborn()
    with passing_on():
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)


def start_stubborn():
    multiprocessing.get_context("fork").Process(target=ignore_interrupts).start()


def ignore_interrupts():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    time.sleep(60)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # forking beside torch's threads
@pytest.mark.parametrize("interrupt", [interrupt_a_training_twice, interrupt_a_parent_twice])
def test_a_second_interrupt_leaves_at_once(interrupt):
    begin = time.monotonic()
    status, errors = in_a_fork(interrupt)  # reads until the last process is gone
    assert time.monotonic() - begin < 30
    assert status == 130
    assert errors.endswith("Interrupted twice: leaving at once (status 130)\n")


# --- in processes of their own

LONG = ["DATASETS.TEST", "()", "SOLVER.CHECKPOINT_PERIOD", "9999", "SOLVER.MAX_ITER", "9999"]


def started(data, folder, *options, opts=()):
    """Start a long training, and return it when it has begun."""
    line = command_line(data, folder, *options, opts=[*LONG, *opts])
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "projects"), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, ROOT / "train_net.py", *line],
        env=environment,
        cwd=ROOT,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        # A shell ignores interrupts in its background jobs, the tests among them.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no threads here
    )
    deadline = time.monotonic() + 120
    log = folder / "metrics.json"
    while not (log.is_file() and log.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.1)
        assert process.poll() is None, process.communicate()[1]
    return process


def ended(process, status):
    """Wait for the end; returns stderr."""
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == status, errors
    assert "Traceback" not in errors
    return errors


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("processes", ["1", "2"])
@pytest.mark.parametrize("group", [True, False])
def test_a_signal_to_the_parent_or_the_group_saves(data, tmp_path, name, processes, group):
    """Loader workers live on until the save is done."""
    opts = ["DATALOADER.NUM_WORKERS", "1"]
    process = started(data, tmp_path / "run", "--num-gpus", processes, opts=opts)
    number = getattr(signal, name)
    (os.killpg if group else os.kill)(process.pid, number)
    ended(process, STATUSES[name])
    (file,) = (tmp_path / "run").glob("model_*.pth")
    assert f"model_{iterations(tmp_path / 'run', file.name):07d}.pth" == file.name
