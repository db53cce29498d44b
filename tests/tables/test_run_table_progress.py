"""What a plan and its runner say: costs that are expected, and progress on a terminal."""

import io
import os
import signal
import threading
import time

import maskrcnn_repro
from maskrcnn_repro import _location
from maskrcnn_repro.tables.runs import runner as runner_module
from maskrcnn_repro.tables.runs.progress import Console, describe

import pytest

from tests.helpers.fake_runs import Fake, write_run
from tests.tables.test_run_table_runner import run, wait_for


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(runner_module, "POLL_SECONDS", 0.02)


@pytest.fixture
def fake(tmp_path, monkeypatch):
    return Fake(tmp_path, monkeypatch)


def test_costs_come_from_the_same_experiment_or_from_its_kind(fake):
    table_plan = fake.plan("a", "b", seeds=(1, 2))
    console = Console(table_plan, 1, io.StringIO())
    costs = console.costs
    stages = {stage.key: stage for stage in table_plan.stages}
    assert costs.of(stages["a/seed1"]) is None
    costs.add(stages["a/seed1"], 100.0)
    costs.add(stages["b/seed1"], 200.0)
    assert costs.of(stages["a/seed2"]) == 100.0
    assert (
        costs.of(stages["rpn/seed1"]) is None
    )  # an RPN is no guide to a detector's time, nor is this
    costs.add_estimate(stages["rpn/seed1"], 30.0)
    costs.add_estimate(stages["b/seed2"], 500.0)
    assert costs.of(stages["rpn/seed1"]) == 30.0
    assert costs.of(stages["b/seed2"]) == 200.0
    assert costs.of(stages["rpn/seed1/proposals"]) is None


def test_a_plan_estimates_from_the_records_of_other_seeds(fake):
    run(fake.plan("joint"))
    text = describe(fake.plan("joint", seeds=(1, 2, 3)), jobs=2)
    assert "joint seed 1: done, about 0:01:00" in text
    assert "joint seed 2: missing, about 0:01:00" in text
    assert text.endswith("3 stages, 2 to run, 2 side by side: about 0:01:00.")


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_shows_each_child_with_its_progress(fake, monkeypatch):
    table_plan = fake.plan("joint")
    stage = table_plan.stages[0]
    fake.place(stage, ".hang").touch()
    monkeypatch.setattr("maskrcnn_repro.tables.runs.progress.REDRAW_SECONDS", 0.0)
    out = Terminal()

    def release():
        wait_for(fake.place(stage, ".pid"))
        deadline = time.monotonic() + 20
        while "iter 19" not in out.getvalue() and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(int(wait_for(fake.place(stage, ".pid"))), signal.SIGTERM)

    releaser = threading.Thread(target=release)
    releaser.start()
    run(table_plan, out=out)
    releaser.join()
    assert "[1/1] joint seed 1 0:00:00: iter 19, loss 2.5, eta 0:01:40" in out.getvalue()
    assert "all: about 0:01:40 left" in out.getvalue()
    # An event is a line of its own, above those that are redrawn.
    assert "\r[1/1]" in out.getvalue()
    assert "[1/1] joint seed 1 FAILED: ended by SIGTERM\n" in out.getvalue()


def test_a_stage_that_never_ran_here_costs_what_kept_records_say(fake, monkeypatch, tmp_path):
    kept = tmp_path / "results"
    monkeypatch.setattr(_location, "RESULTS", kept)
    table_plan = fake.plan("joint", seeds=(1,))
    (stage,) = table_plan.stages
    assert Console(table_plan, 1, io.StringIO()).costs.of(stage) is None
    for seed, seconds in ((1, 50.0), (2, 90.0)):
        write_run(stage, tmp_path / "run", train_seconds=seconds)  # and 10 s of evaluation
        file = kept / "paper" / maskrcnn_repro.BACKEND.name / f"joint/seed{seed}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes((tmp_path / "run/results.json").read_bytes())
    costs = Console(table_plan, 1, io.StringIO()).costs
    assert costs.of(stage) == 80.0
    costs.add(stage, 30.0)  # what was measured here counts alone
    assert costs.of(stage) == 30.0
