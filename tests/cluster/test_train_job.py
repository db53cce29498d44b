"""``--on`` of the command line: the job that a training becomes, and options that would be ignored."""

from maskrcnn_cli import main
from maskrcnn_cli.clusters import without_cluster
from maskrcnn_repro.cluster.job import Job
from maskrcnn_repro.commands import train_job

import pytest


class Queue:
    """An executor whose jobs end with the statuses that it was given."""

    lives_on = restarts = True

    def __init__(self, *statuses):
        self.statuses, self.tasks = list(statuses), []

    finishes = True

    def start(self, task):
        self.tasks.append(task)
        task.folder.mkdir(exist_ok=True)
        if self.finishes:
            (task.folder / "model_final.pth").touch()
        job = Job(task.folder)
        job.place, status = "job 7", self.statuses.pop(0)
        job.poll = lambda: status
        return job


@pytest.fixture
def train(tmp_path, monkeypatch):
    def train(queue):
        monkeypatch.setattr(train_job, "cluster_executor", lambda *args: queue)
        words = [
            "--config-file",
            "mini/mask_rcnn_fpn.yaml",
            "--on",
            "slurm",
            "--slurm",
            "partition=gpu",
        ]
        return main(["train", *words, "OUTPUT_DIR", str(tmp_path / "run")])

    return train


def test_a_training_is_a_job_that_resumes_after_status_75(train, tmp_path, capsys):
    queue = Queue(75, 0)
    assert train(queue) == 0
    plain = ["--config-file", "mini/mask_rcnn_fpn.yaml", "OUTPUT_DIR", str(tmp_path / "run")]
    first, second = queue.tasks
    assert list(first.command[-4:]) == plain
    assert "--resume" not in first.command
    assert list(second.command[-5:]) == list(first.resumed[-5:]) == ["--resume", *plain]
    assert "Submitted: job 7; its console: " in capsys.readouterr().out


def test_a_job_that_fails_gives_its_status(train):
    assert train(Queue(3)) == 3


def test_a_job_that_left_well_but_early_is_no_success(train, tmp_path, capsys):
    queue = Queue(0)
    queue.finishes = False
    assert train(queue) == 2
    told = f"The training left with status 0 before it was done: {tmp_path / 'run'} has no model_final.pth"
    assert told in capsys.readouterr().err


def test_the_options_of_a_cluster_are_taken_out():
    words = ["--on=ray", "--resume", "--ray", "address=head:6379,gpus=2", "SEED", "3"]
    assert without_cluster(words) == ["--resume", "SEED", "3"]
    # The command itself takes abbreviations, too.
    assert without_cluster(["--resume", "--sl", "partition=gpu", "--re"]) == ["--resume", "--re"]


@pytest.mark.parametrize("command", ["train --config-file a.yaml", "table 2c", "experiment r50_c4"])
def test_options_of_a_cluster_that_is_not_asked_for_are_refused(command, capsys):
    assert main([*command.split(), "--slurm", "partition=gpu"]) == 2
    assert "--slurm goes with --on slurm." in capsys.readouterr().err


def test_a_report_is_no_job(capsys):
    assert main(["table", "2c", "--report", "--on", "slurm"]) == 2
    assert "--report runs nothing, so that --on slurm would be ignored" in capsys.readouterr().err


def test_a_plan_is_the_same_wherever_it_runs(capsys):
    plans = []
    for place in ("local", "slurm", "ray"):
        assert main(["experiment", "rpn_r50_c4", "--plan", "--jobs", "2", "--on", place]) == 0
        plans.append(capsys.readouterr().out)
    assert plans[0] == plans[1] == plans[2]
