"""What is asked for during a step is agreed on and done at its end, in one place."""

import json

from maskrcnn_repro.engine.launch import Processes, launch
from maskrcnn_repro.engine.main import main
from maskrcnn_repro.engine.step_end import Action, Request, StepEnd
from maskrcnn_repro.engine.trainer import Trainer
from maskrcnn_repro.errors import ConfigError, Ended

import pytest
from detectron2.engine import HookBase, TrainerBase
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

from tests.helpers.tiny_coco import command_line, write_tiny_coco

SAVE = Request(Action.SAVE, reason="now and then")
STOP = Request(Action.STOP, 143, "SIGTERM")
DONE = Request(Action.STOP, 0, "no better for long")
FAIL = Request(Action.FAIL, 3, "not finite")


class Loop(TrainerBase):
    """Asks in an iteration of its choice, and notes what is done."""

    def __init__(self, requests):
        super().__init__()
        self.requests, self.done = requests, []
        self.step_end = StepEnd("cpu")
        self.register_hooks([self.step_end])

    def save(self):
        self.done.append("saved")

    def finish(self):
        self.done.append("finished")

    def run_step(self):
        for request in self.requests.get((self.iter, comm.get_rank()), ()):
            self.step_end.ask(request)
        self.done.append(self.iter)


def run(requests):
    """Iterations, what was saved, and the status."""
    loop = Loop(requests)
    try:
        loop.train(0, 3)
    except Ended as ended:
        return [*loop.done, ended.code]
    return loop.done


@pytest.mark.parametrize(
    ("action", "status"), [(Action.STOP, 256), (Action.STOP, -1), (Action.STOP, 1.5), (2, 0)]
)
def test_what_would_be_taken_for_another_request_is_refused(action, status):
    with pytest.raises(ConfigError, match=r"cannot be asked for: .* 0 to 255"):
        Request(action, status)
    with pytest.raises(ConfigError, match=r"takes a .*Request, not 3"):
        StepEnd("cpu").ask(3)


@pytest.mark.parametrize(
    ("asked", "done"),
    [
        ([], [0, 1, 2]),
        ([SAVE], [0, 1, "saved", 2]),
        ([STOP], [0, 1, "saved", 143]),
        ([DONE], [0, 1, "finished", 0]),
        ([FAIL], [0, 1, 3]),
        ([SAVE, FAIL, STOP], [0, 1, 3]),
        ([Request(Action.STOP, 75), STOP, DONE], [0, 1, "saved", 143]),
    ],
)
def test_the_greatest_request_of_a_step_is_done(asked, done):
    assert run({(1, 0): asked}) == done


def in_two_processes(folder):
    done = run({(0, 0): [SAVE], (1, 1): [STOP], (1, 0): [SAVE]})
    (folder / str(comm.get_rank())).write_text(str(done))
    raise Ended(done[-1])


@pytest.mark.slow
def test_all_processes_do_what_any_asks_for(tmp_path):
    with pytest.raises(Ended) as ended:
        launch(in_two_processes, Processes("cpu", 2), (tmp_path,))
    assert ended.value.code == 143
    for rank in "01":
        assert (tmp_path / rank).read_text() == "[0, 'saved', 1, 'saved', 143]"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_tiny_coco(tmp_path_factory.mktemp("data"))


class Ask(HookBase):
    def __init__(self, request):
        self.request = request

    def after_step(self):
        self.trainer.step_end.ask(self.request)


class Stopping(Trainer):
    def build_hooks(self):
        return [Ask(STOP)]


class Finishing(Trainer):
    def build_hooks(self):
        return [Ask(DONE)]


class Failing(Trainer):
    def build_hooks(self):
        return [Ask(FAIL)]


@pytest.mark.parametrize(
    ("trainer", "status", "files"),
    [(Stopping, 143, ["model_0000000.pth"]), (Finishing, 0, ["model_final.pth"]), (Failing, 3, [])],
)
def test_a_training_leaves_with_the_status_and_the_files(data, tmp_path, trainer, status, files):
    opts = ("DATASETS.TEST", "()")
    assert main(command_line(data, tmp_path / "run", opts=opts), trainer) == status
    assert sorted(path.name for path in (tmp_path / "run").glob("*.pth")) == files


class Scores(DatasetEvaluator):
    def evaluate(self):
        return {"task": {"score": 7.0}}


class FinishingScored(Finishing):
    @classmethod
    def build_evaluator(cls, cfg, name, folder):
        return Scores()


class FailingScored(Failing):
    @classmethod
    def build_evaluator(cls, cfg, name, folder):
        return Scores()


def logged(folder):
    return [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]


def test_a_training_that_finishes_early_leaves_what_a_complete_one_does(data, tmp_path):
    line = command_line(data, tmp_path / "run", opts=("TEST.SHEET_IMAGES", "0"))
    assert main(line, FinishingScored) == 0
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert (results["iterations"], results["metrics"]) == (1, {"tiny": {"task": {"score": 7.0}}})
    last = logged(tmp_path / "run")[-1]
    assert (last["iteration"], last["task/score"]) == (1, 7.0)
    assert any("total_loss" in line for line in logged(tmp_path / "run"))


def test_a_training_that_fails_in_its_last_iteration_is_logged_and_not_evaluated(data, tmp_path):
    line = command_line(data, tmp_path / "run", opts=("SOLVER.MAX_ITER", "1"))
    assert main(line, FailingScored) == 3
    assert not (tmp_path / "run/results.json").exists()
    assert [entry["iteration"] for entry in logged(tmp_path / "run")] == [0]
