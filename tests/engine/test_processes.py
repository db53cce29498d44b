"""Processes of a run that stall, are interrupted or killed: none hangs, none is left, all is told in words."""

import os
import signal
import socket
import time
from pathlib import Path

from maskrcnn_repro.engine.launch import Processes, check_address, launch
from maskrcnn_repro.engine.main import main
from maskrcnn_repro.engine.phases import Phase
from maskrcnn_repro.engine.trainer import Trainer
from maskrcnn_repro.errors import ConfigError, Ended, UserError

import pytest
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

from tests.helpers.tiny_coco import command_line, write_tiny_coco
from tests.helpers.training_process import TORCHRUN, family, ranks, training, trains, wait_for

TWO = ("--num-gpus", "2")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_tiny_coco(tmp_path_factory.mktemp("data"))


def left_over(pids):
    return [pid for pid in pids if os.path.exists(f"/proc/{pid}")]


def is_pythons_own(pid):
    """Whether a process is Python's resource tracker, which ends a moment after all others; or is gone."""
    try:
        return b"resource_tracker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return True


# --- addresses


@pytest.mark.parametrize(
    "url", ["foo", "tcp://", "tcp://127.0.0.1:99999", "tcp://:1", "http://a:1", "tcp://[::1:1"]
)
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(ConfigError, match="is no address; write tcp://HOST:PORT"):
        check_address(url, listens=False)


def test_a_port_that_is_taken_is_refused_by_the_machine_that_would_listen():
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} cannot be used"):
            check_address(f"tcp://127.0.0.1:{port}", listens=True)
        check_address(f"tcp://127.0.0.1:{port}", listens=False)
    check_address(f"tcp://127.0.0.1:{port}", listens=True)


# --- the parent


def rank_one_does(action, folder):
    (folder / f"pid{comm.get_rank()}").write_text(str(os.getpid()))
    if comm.get_rank() == 1:
        action()
    comm.synchronize()
    time.sleep(60)


def leave_quietly():
    os._exit(0)


def be_killed():
    os.kill(os.getpid(), signal.SIGKILL)


def fail():
    raise ValueError("of the second process")


def refuse():
    raise ConfigError("so it is")


def leave_with_a_status():
    os._exit(143)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("action", "error", "words"),
    [
        (leave_quietly, UserError, "left with status 0 before the run was done"),
        (be_killed, UserError, "was ended by SIGKILL; look for a lack of memory"),
        (fail, Exception, "ValueError: of the second process"),
        (refuse, UserError, "so it is"),
        (leave_with_a_status, Ended, "143"),
    ],
)
def test_the_end_of_one_process_is_told_and_ends_all(tmp_path, action, error, words):
    with pytest.raises(error, match=words):
        launch(rank_one_does, Processes("cpu", 2), (action, tmp_path))
    assert not left_over(int((tmp_path / f"pid{rank}").read_text()) for rank in (0, 1))


# --- stalls


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [(), TORCHRUN])
def test_a_stopped_process_ends_the_run_with_stacks_and_phases(data, tmp_path, launcher):
    run = tmp_path / "run"
    options = () if launcher else TWO
    with training(
        data, run, *options, opts=["SOLVER.STALL_SECONDS", "4"], launcher=launcher
    ) as process:
        wait_for(lambda: trains(run), process)
        pids = ranks(process.pid)
        assert len(pids) == 2
        os.kill(pids[1], signal.SIGSTOP)
        begin = time.monotonic()
        status = process.wait(60)
        assert status == (1 if launcher else 4)
        assert launcher or time.monotonic() - begin < 4 + 4 + 5
        assert not left_over(pids)
    errors = (tmp_path / "stderr").read_text()
    told = (run / "processes/stalled.txt").read_text()
    assert told in errors
    assert f"(pid {pids[1]}, stopped): " in told
    for words in ("iteration", "images 1", "Stacks of process 0:", "run_step"):
        assert words in told
    assert launcher or "Traceback" not in errors


class SlowToEvaluate(DatasetEvaluator):
    """Takes longer than a process may stall, in the main process alone."""

    def evaluate(self):
        if comm.is_main_process():
            time.sleep(6)
        return {"nothing": {"much": 1.0}}


class Slow(Trainer):
    @classmethod
    def build_evaluator(cls, cfg, name, folder):
        return SlowToEvaluate()

    def save(self, name=""):
        if comm.is_main_process():
            self.phases.enter(Phase.SAVE)
            time.sleep(6)
        super().save(name)


@pytest.mark.slow
def test_a_slow_evaluation_or_save_is_no_stall(data, tmp_path):
    opts = ["SOLVER.STALL_SECONDS", "2", "SOLVER.MAX_ITER", "12", "SOLVER.CHECKPOINT_PERIOD", "7"]
    opts += ["DATASETS.TEST", "('tiny',)", "TEST.EVAL_PERIOD", "8", "TEST.SHEET_IMAGES", "0"]
    trainer = ["TRAINER", "tests.engine.test_processes:Slow"]
    with training(data, tmp_path / "run", *TWO, opts=[*opts, *trainer]) as process:
        assert process.wait(120) == 0, (tmp_path / "stderr").read_text()
    assert (tmp_path / "run/model_final.pth").is_file()
    assert not (tmp_path / "run/processes").exists()


class SleepyEvaluation(Trainer):
    @classmethod
    def build_evaluator(cls, cfg, name, folder):
        return SleepyEvaluator()


class SleepyEvaluator(DatasetEvaluator):
    def evaluate(self):
        time.sleep(60)


@pytest.mark.slow
def test_a_stopped_process_ends_an_evaluation_too(data, tmp_path):
    run = tmp_path / "run"
    opts = ["SOLVER.STALL_SECONDS", "2", "DATASETS.TEST", "('tiny',)", "TEST.SHEET_IMAGES", "0"]
    assert main(command_line(data, run, opts=["DATASETS.TEST", "()"])) == 0
    trainer = ["TRAINER", "tests.engine.test_processes:SleepyEvaluation"]
    with training(data, run, *TWO, "--eval-only", opts=[*opts, *trainer]) as process:
        wait_for((run / "inference/processes/rank1.stacks.txt").exists, process)
        os.kill(ranks(process.pid)[1], signal.SIGSTOP)
        assert process.wait(30) == 4
    assert ", stopped): evaluation" in (run / "inference/processes/stalled.txt").read_text()


# --- interrupts


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), TWO])
@pytest.mark.parametrize("seconds", [1.0, 2.0, 5.0])
def test_an_interrupt_while_it_starts_leaves_at_once(data, tmp_path, options, seconds):
    with training(data, tmp_path / "run", *options) as process:
        time.sleep(seconds)
        assert process.poll() is None
        pids = family(process.pid)
        os.killpg(process.pid, signal.SIGINT)
        # After less than a second it may be that Python has not come to our first line.
        assert process.wait(30) == 130
        assert all(map(is_pythons_own, left_over(pids)))
        wait_for(lambda: not left_over(pids), seconds=10)
    assert "Traceback" not in (tmp_path / "stderr").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGUSR1", 75)])
def test_a_signal_to_the_parent_lets_all_processes_save_and_end(data, tmp_path, name, status):
    run = tmp_path / "run"
    with training(data, run, *TWO, opts=["DATALOADER.NUM_WORKERS", "1"]) as process:
        wait_for(lambda: trains(run), process)
        pids = family(process.pid)
        os.kill(process.pid, getattr(signal, name))
        assert process.wait(60) == status
        wait_for(lambda: not left_over(pids), seconds=10)
    assert len(list(run.glob("model_*.pth"))) == 1
    assert "Traceback" not in (tmp_path / "stderr").read_text()


@pytest.mark.slow
def test_a_second_interrupt_ends_processes_that_hang(data, tmp_path):
    run = tmp_path / "run"
    with training(data, run, *TWO, opts=["DATALOADER.NUM_WORKERS", "1"]) as process:
        wait_for(lambda: trains(run), process)
        pids = family(process.pid)
        os.kill(ranks(process.pid)[1], signal.SIGSTOP)
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(1)
        assert process.poll() is None
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(10) == 130
        wait_for(lambda: not left_over(pids), seconds=15)
    assert "Traceback" not in (tmp_path / "stderr").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("interrupts", [signal.SIG_DFL, signal.SIG_IGN])
def test_processes_whose_parent_is_killed_save_and_end(data, tmp_path, interrupts):
    run = tmp_path / "run"
    with training(data, run, *TWO, interrupts=interrupts) as process:
        wait_for(lambda: trains(run), process)
        pids = ranks(process.pid)
        process.kill()
        wait_for(lambda: not left_over(pids), seconds=60)
    assert len(list(run.glob("model_*.pth"))) == 1
