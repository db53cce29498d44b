"""Running a plan with fake programs: once, in order, side by side, killed, failing, interrupted."""

import io
import os
import signal
import threading
import time

from maskrcnn_repro.cluster.job import Job
from maskrcnn_repro.errors import TableError
from maskrcnn_repro.tables.runs import runner as runner_module
from maskrcnn_repro.tables.runs.processes import stop_all
from maskrcnn_repro.tables.runs.progress import Console, describe
from maskrcnn_repro.tables.runs.records import State, read_note
from maskrcnn_repro.tables.runs.runner import Runner
from maskrcnn_repro.utils.lock import locked

import pytest

from tests.helpers.fake_runs import Fake, write_run


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(runner_module, "POLL_SECONDS", 0.02)


@pytest.fixture
def fake(tmp_path, monkeypatch):
    return Fake(tmp_path, monkeypatch)


def run(table_plan, jobs=1, out=None):
    """Run a plan; return its failures and what was said."""
    out = out or io.StringIO()
    return Runner(table_plan, Console(table_plan, jobs, out), jobs).run(), out.getvalue()


def stage_of(table_plan, key):
    return next(stage for stage in table_plan.stages if stage.key == key)


def wait_for(path):
    deadline = time.monotonic() + 20
    while not path.exists() or not path.read_text():
        assert time.monotonic() < deadline, path
        time.sleep(0.01)
    return path.read_text()


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_stages_run_in_order_and_a_shared_rpn_once(fake):
    failures, said = run(fake.plan("a", "b", seeds=(1, 2)))
    assert failures == []
    assert fake.calls() == [
        "train rpn/seed1",
        "store rpn/seed1",
        "train a/seed1",
        "train b/seed1",
        "train a/seed2",
        "train b/seed2",
    ]
    assert "[3/6] a seed 1 done in 0:00:00 · mask AP 30.0 · box AP 40.0" in said


def test_finished_stages_are_not_run_again(fake):
    run(fake.plan("a", seeds=(1,)))
    table_plan = fake.plan("a", "b", seeds=(1,))
    assert run(table_plan)[0] == []
    assert fake.calls()[3:] == ["train b/seed1"]
    assert describe(fake.plan("a", "b"), 1).endswith("4 stages, 0 to run, 1 side by side: done.")


def test_each_stage_leaves_a_note_of_what_it_was_made_from(fake):
    table_plan = fake.plan("a")
    run(table_plan)
    note = read_note(table_plan.stages[-1].folder)
    assert (note["experiment"], note["seed"], note["level"]) == ("a", 1, "paper")
    assert note["seconds"] >= 0
    assert note["inputs"] == {"rpn/seed1/proposals": table_plan.stages[0].identity()}


def test_an_interrupted_training_goes_on_with_resume(fake):
    table_plan = fake.plan("joint")
    write_run(table_plan.stages[0], finished=False)
    assert run(fake.plan("joint"))[0] == []
    assert fake.calls() == ["train joint/seed1 resumed"]


def test_a_killed_child_is_reported_and_the_next_run_repeats_only_what_is_missing(fake):
    table_plan = fake.plan("joint", "a")
    joint = stage_of(table_plan, "joint/seed1")
    hang = fake.place(joint, ".hang")
    hang.touch()

    def kill():
        os.kill(int(wait_for(fake.place(joint, ".pid"))), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    failures, _ = run(table_plan)
    killer.join()
    assert [(f.stage.key, f.reason) for f in failures] == [("joint/seed1", "ended by SIGKILL")]
    hang.unlink()
    before = len(fake.calls())
    assert run(fake.plan("joint", "a"))[0] == []
    assert fake.calls()[before:] == ["train joint/seed1"]


def test_a_failing_run_is_reported_with_its_last_lines_and_the_others_go_on(fake):
    table_plan = fake.plan("a", "b", "joint")
    fake.place(table_plan.stages[2], ".fail").touch()
    failures, said = run(table_plan)
    (failure,) = failures
    assert (failure.stage.key, failure.reason) == ("a/seed1", "exit status 3")
    assert list(failure.lines) == ["Traceback: out of memory"]
    assert failure.console == table_plan.stages[2].folder / "console.txt"
    assert "a seed 1 FAILED: exit status 3" in said
    assert fake.calls()[2:] == ["train a/seed1", "train b/seed1", "train joint/seed1"]


def test_what_needs_a_failed_stage_is_not_run_and_says_so(fake):
    table_plan = fake.plan("a", "joint")
    fake.place(table_plan.stages[0], ".fail").touch()
    failures, _ = run(table_plan)
    assert [(f.stage.key, f.reason) for f in failures] == [
        ("rpn/seed1", "exit status 3"),
        ("rpn/seed1/proposals", "needs rpn seed 1, which failed"),
        ("a/seed1", "needs rpn proposals, which failed"),
    ]
    assert fake.calls() == ["train rpn/seed1", "train joint/seed1"]


def test_a_child_that_ends_well_without_results_has_failed(fake):
    table_plan = fake.plan("joint")
    for file in fake.place(table_plan.stages[0]).glob("results.json"):
        file.unlink()
    ((failure,), _) = run(table_plan)
    assert failure.reason == "ended, but is interrupted: at model_final.pth"


def test_two_children_run_side_by_side(fake):
    table_plan = fake.plan("joint", seeds=(1, 2))
    for stage in table_plan.stages:
        fake.place(stage, ".hang").touch()

    def release():
        for stage in table_plan.stages:  # both have started, or this waits in vain
            wait_for(fake.place(stage, ".pid"))
        for stage in table_plan.stages:
            write_run(stage)
            os.kill(int(wait_for(fake.place(stage, ".pid"))), signal.SIGTERM)

    releaser = threading.Thread(target=release)
    releaser.start()
    failures, _ = run(table_plan, jobs=2)
    releaser.join()
    assert [f.reason for f in failures] == ["ended by SIGTERM"] * 2


@pytest.fixture
def interruptible():
    """As in a terminal: a shell's background job ignores Ctrl-C, and what it starts does, too."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_a_request_to_end_stop_the_children(fake, number):
    table_plan = fake.plan("joint", seeds=(1, 2))
    for stage in table_plan.stages:
        fake.place(stage, ".hang").touch()
    pids = []

    def interrupt():
        pids.extend(int(wait_for(fake.place(stage, ".pid"))) for stage in table_plan.stages)
        os.kill(os.getpid(), number)

    interrupter = threading.Thread(target=interrupt)
    interrupter.start()
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        run(table_plan, jobs=2)
    interrupter.join()
    assert not any(map(is_alive, pids))
    assert signal.getsignal(signal.SIGTERM) is before
    for stage in table_plan.stages:  # claims and folders are free again
        with locked(stage.lock_folder), locked(stage.folder):
            pass


class Saving:
    """A child that is saving when its parent is interrupted again."""

    def __init__(self):
        self.deadlines = []

    def ask_to_stop(self):
        self.deadlines.append("asked")

    def end(self, deadline):
        self.deadlines.append(deadline)
        if len(self.deadlines) == 2:
            raise KeyboardInterrupt


def test_children_have_time_to_save_and_a_second_interrupt_ends_them():
    child = Saving()
    before = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        stop_all([child])
    asked, patient, at_once = child.deadlines
    assert asked == "asked"
    assert patient - before > 60
    assert at_once - before < 1


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (143, "saved and stopped by SIGTERM; the next call goes on with it"),
        (75, "saved and stopped by SIGUSR1; the next call goes on with it"),
        (2, "exit status 2"),
        (-9, "ended by SIGKILL"),
    ],
)
def test_an_exit_status_is_told_in_words(code, words):
    assert runner_module._describe_exit(code) == words


def test_a_stage_that_another_runner_has_is_waited_for_and_not_run_twice(fake):
    table_plan = fake.plan("joint", "a")
    joint = stage_of(table_plan, "joint/seed1")
    others = threading.Event()

    def work():
        with locked(joint.lock_folder):
            others.set()
            wait_for(fake.setting.run_folder("a", 1) / "results.json")
            write_run(joint)

    worker = threading.Thread(target=work)
    worker.start()
    others.wait()
    failures, said = run(table_plan)
    worker.join()
    assert failures == []
    assert fake.calls() == ["train rpn/seed1", "store rpn/seed1", "train a/seed1"]
    assert said.count("joint seed 1 is run by another process") == 1
    assert "joint seed 1 done by another run" in said


def test_a_folder_that_an_orphan_still_writes_is_waited_for(fake):
    table_plan = fake.plan("joint")
    stage = table_plan.stages[0]
    said = io.StringIO()
    free = threading.Event()

    def orphan():
        with locked(stage.folder):
            free.set()
            while "is in use by another run" not in said.getvalue():
                time.sleep(0.01)

    worker = threading.Thread(target=orphan)
    worker.start()
    free.wait()
    assert run(table_plan, out=said)[0] == []
    worker.join()
    assert fake.calls() == ["train joint/seed1"]


def test_a_stale_folder_stops_everything_before_it_begins(fake):
    table_plan = fake.plan("a", "joint")
    write_run(table_plan.stages[-1])
    (table_plan.stages[-1].folder / "config.yaml").write_text("SEED: 9\n")
    with pytest.raises(TableError, match="holds another run than joint seed 1"):
        run(fake.plan("a", "joint"))
    assert fake.calls() == []


def test_evaluations_may_be_made_over_older_ones(fake):
    run(fake.plan("a-nms"))
    (evaluation,) = [s for s in fake.plan("a-nms").stages if s.key == "a-nms/seed1"]
    note = evaluation.folder / "stage.json"
    note.write_text(note.read_text().replace(evaluation.note()["inputs"]["a/seed1"], "0" * 16))
    table_plan = fake.plan("a-nms")
    assert table_plan.statuses["a-nms/seed1"].state is State.STALE
    assert run(table_plan)[0] == []
    assert fake.plan("a-nms").missing() == []


class Preempting:
    """An executor of a cluster: each job is preempted once, saves, and is then done."""

    lives_on = restarts = True

    def __init__(self, table_plan):
        self.stages = {stage.key: stage for stage in table_plan.stages}
        self.commands = []

    def start(self, task):
        job, again = Job(task.folder), any(name == task.name for name, _ in self.commands)
        self.commands.append((task.name, task.command == task.resumed))
        write_run(self.stages[task.name], finished=again)
        job.poll = lambda: 0 if again else 75
        return job


def test_on_a_cluster_a_preempted_stage_is_started_again_and_a_second_table_does_nothing(fake):
    table_plan = fake.plan("joint")
    executor = Preempting(table_plan)
    console = Console(table_plan, 1, io.StringIO())
    assert Runner(table_plan, console, 1, executor).run() == []
    assert executor.commands == [("joint/seed1", False), ("joint/seed1", True)]
    assert fake.plan("joint").missing() == []
