"""A trainer of the user's own: parts replaced, and what no subclass can lose."""

import importlib.machinery
import json
import os
import random
import re
import runpy
import subprocess
import sys
import types

from maskrcnn_repro.config import load_config
from maskrcnn_repro.engine import Trainer, resolve_config
from maskrcnn_repro.engine.main import config_from, main, parse
from maskrcnn_repro.engine.trainer_name import name_of, trainer_of
from maskrcnn_repro.errors import ConfigError

import numpy as np
import pytest
import torch
from detectron2.engine import HookBase
from detectron2.evaluation import DatasetEvaluator

from tests.helpers.paths import ROOT
from tests.helpers.tiny_coco import command_line, write_tiny_coco

PAGE = ROOT / "docs/trainer.md"
SHORT = ["TEST.SHEET_IMAGES", "0", "TEST.EVAL_PERIOD", "1"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_tiny_coco(tmp_path_factory.mktemp("data"))


@pytest.fixture
def train(data, tmp_path):
    """Train on the tiny data in a folder of a given name, and return the folder."""

    def train(name, trainer=None, *options, opts=()):
        folder = tmp_path / name
        arguments = command_line(data, folder, *options, opts=[*SHORT, *opts])
        assert main(arguments, trainer=trainer) == 0
        return folder

    return train


@pytest.fixture
def my_trainer(tmp_path, monkeypatch):
    """Write the first block of the page to a module on the search path; returns its file."""
    file = tmp_path / "my_trainer.py"
    file.write_text(blocks("python")[0])
    monkeypatch.syspath_prepend(str(tmp_path))
    yield file
    sys.modules.pop("my_trainer", None)


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def read(path):
    return json.loads(path.read_text())


def weights(folder):
    return torch.load(folder / "model_final.pth")["model"]


class NoHooks(Trainer):
    def build_hooks(self):
        return []


class Count(HookBase):
    """Counts steps, and is of no good to random numbers."""

    def __init__(self):
        self.steps = 0

    def before_step(self):
        torch.manual_seed(0)
        random.random()
        np.random.rand()

    def after_step(self):
        self.steps += 1

    def state_dict(self):
        return {"steps": self.steps}

    def load_state_dict(self, state_dict):
        self.steps = state_dict["steps"]


class LastCheckpoint(DatasetEvaluator):
    """Tells, in the place of AP, what the checkpoint that lies there says of the hook."""

    def __init__(self, folder):
        self.folder = folder

    def evaluate(self):
        name = (self.folder / "last_checkpoint").read_text()
        hooks = torch.load(self.folder / name)["trainer"]["hooks"]
        return {"hook": {"steps": hooks["Count"]["steps"]}}


class Counting(Trainer):
    def build_hooks(self):
        return [None, Count()]

    @classmethod
    def build_evaluator(cls, cfg, name, folder):
        return LastCheckpoint(folder.parents[1])


def fixed_hooks(trainer):
    return [type(hook).__name__ for hook in trainer._hooks]


def built(data, folder, trainer):
    cfg = config_from(parse(command_line(data, folder, opts=["SEED", "3"])))
    return trainer(resolve_config(cfg, training=True))


# --- hooks


@pytest.mark.parametrize(("trainer", "own"), [(Trainer, []), (NoHooks, []), (Counting, ["Count"])])
def test_the_engines_hooks_stand_around_those_of_a_subclass(data, tmp_path, trainer, own, catalog):
    assert fixed_hooks(built(data, tmp_path, trainer)) == [
        *("Phases", "SignalRequests", "IterationTimer", "Clock", "LRScheduler"),
        *own,
        *(
            "StepSeed",
            "NumbersGuard",
            "StepEnd",
            "PeriodicCheckpointer",
            "Evaluations",
            "PeriodicWriter",
        ),
    ]


def test_the_state_of_a_hook_is_in_the_checkpoint_before_the_evaluation(train):
    folder = train("run", Counting)
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    assert [line["hook/steps"] for line in lines if "hook/steps" in line] == [1, 2]
    assert read(folder / "results.json")["metrics"] == {"tiny": {"hook": {"steps": 2}}}


def test_the_state_of_a_hook_is_resumed(train):
    train("run", Counting)
    folder = train("run", Counting, "--resume", opts=["SOLVER.MAX_ITER", "3"])
    assert torch.load(folder / "model_final.pth")["trainer"]["hooks"]["Count"] == {"steps": 3}


def test_the_log_says_what_was_asked_for_and_is_not_there_or_not_used(train, data, catalog):
    idle = ["idle", *map(str, data)]
    folder = train("run", NoHooks, "--resume", opts=["DATASETS.CUSTOM", f"[{idle}]"])
    log = (folder / "log.txt").read_text()
    assert f"No checkpoint in {folder}: starting at iteration 0" in log
    assert "Data set 'idle' of DATASETS.CUSTOM is neither in DATASETS.TRAIN nor in TEST" in log
    assert "'tiny' of DATASETS.CUSTOM" not in log


def test_a_hook_that_draws_and_seeds_moves_no_number(train):
    ours, theirs = weights(train("plain")), weights(train("counting", Counting))
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_the_clock_and_the_trainer_are_in_the_results(train):
    results = read(train("run", NoHooks) / "results.json")
    assert results["train_seconds"] > 0
    assert results["trainer"] == "tests.engine.test_trainer:NoHooks"


def test_a_seed_must_be_drawn_before_the_trainer_is_built():
    with pytest.raises(ConfigError, match=r"SEED -1 .* 0 or more"):
        Trainer(load_config("mini/mask_rcnn_fpn.yaml", ["SEED", "-1"]))


# --- the page


def test_the_trainer_of_the_page_trains_and_evaluates(train, my_trainer, tmp_path):
    overlay = tmp_path / "mine.yaml"  # as a table gives it
    overlay.write_text('TRAINER: "my_trainer:MyTrainer"')
    folder = train("run", None, "--overlay", str(overlay))
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    assert min(line["gradient_norm"] for line in lines if "total_loss" in line) > 0
    tasks = read(folder / "results.json")["metrics"]["tiny"]
    assert set(tasks) == {"bbox", "segm", "objects"}
    assert 0 <= tasks["objects"]["per image"] <= 5
    assert "objects: per image " in (folder / "log.txt").read_text()
    train("run", None, "--eval-only", opts=["TRAINER", "my_trainer:MyTrainer"])
    assert read(folder / "inference/results.json")["metrics"]["tiny"] == tasks


def test_the_mapper_of_the_page_reads_cached_images(train, my_trainer):
    opts = ["TRAINER", "my_trainer:MyTrainer", "DATASETS.TEST", "()"]
    from_files = train("files", opts=[*opts, "DATALOADER.CACHE_IMAGES", "False"])
    cached = train("cached", opts=[*opts, "DATALOADER.CACHE_IMAGES", "True"])
    theirs = weights(train("plain", opts=["DATASETS.TEST", "()"]))
    ours, others = weights(from_files), weights(cached)
    assert all(torch.equal(value, others[name]) for name, value in ours.items())
    assert not all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_the_page_builds_a_model_from_python(tmp_path):
    (tmp_path / "block.py").write_text(blocks("python")[1])
    names = runpy.run_path(str(tmp_path / "block.py"))
    assert next(names["model"].parameters()).device.type == names["load_config"]("").MODEL.DEVICE


@pytest.mark.slow
def test_the_page_is_a_script_for_two_processes(data, tmp_path, my_trainer):
    arguments = command_line(data, tmp_path / "run", "--num-gpus", "2", opts=SHORT)
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "projects"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, my_trainer, *arguments],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results = read(tmp_path / "run/results.json")
    assert results["trainer"] == "my_trainer:MyTrainer"
    assert results["machine"]["processes"] == 2
    assert set(results["metrics"]["tiny"]) == {"bbox", "segm", "objects"}


# --- the name of a trainer


def test_a_name_stands_for_its_class():
    assert trainer_of(load_config("")) is Trainer
    assert name_of(Trainer) == ""
    assert trainer_of(load_config("", ["TRAINER", name_of(Counting)])) is Counting


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            f"{__name__}:Countin",
            rf"'Countin'\. Did you mean 'Counting'\? .* there are '{__name__}:NoHooks', '{__name__}:Counting'\.$",
        ),
        (f"{__name__}:Count", "has no subclass of Trainer with the name 'Count'"),
        (__name__, "has no subclass of Trainer with the name ''"),
        ("nowhere:Mine", r"'nowhere' cannot be imported \(ModuleNotFound.*written 'module:Class'"),
        ("nowhere.Mine", r"Did you mean 'nowhere:Mine'\?"),
        ("__main__:Mine", "names the script that ran: write its file's name for '__main__'"),
        (":Mine", r"TRAINER ':Mine': module '' cannot be imported"),
    ],
)
def test_a_wrong_name_is_one_sentence_before_anything_is_written(
    data, tmp_path, capsys, name, words
):
    with pytest.raises(ConfigError, match=words):
        trainer_of(load_config("", ["TRAINER", name]))
    assert main(command_line(data, tmp_path / "run", opts=["TRAINER", name])) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_trainers_module_that_ends_the_process_is_named(tmp_path, monkeypatch):
    (tmp_path / "leaving.py").write_text("import sys\nsys.exit(0)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=r"'leaving' cannot be imported \(SystemExit: 0\)"):
        trainer_of(load_config("", ["TRAINER", "leaving:Mine"]))


# --- a trainer in the running script

SCRIPT = """
from maskrcnn_repro.engine import Trainer
class Mine(Trainer): pass
"""


@pytest.fixture
def running(tmp_path, monkeypatch):
    """Let a script of a given name be the running one; returns its trainer, and says how it is imported."""

    def run(name, code=SCRIPT):
        file = tmp_path / name
        file.write_text(code)
        script = types.ModuleType("__main__")
        vars(script).update(runpy.run_path(str(file), run_name="__main__"))
        monkeypatch.setitem(sys.modules, "__main__", script)
        return script.Mine

    return run


def test_a_running_scripts_trainer_is_named_by_its_file_and_not_imported_twice(
    running, monkeypatch, tmp_path
):
    trainer = running("mine_alone.py", SCRIPT + "from tests.engine.test_trainer import NoHooks\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert name_of(trainer) == "mine_alone:Mine"
    assert trainer_of(load_config("", ["TRAINER", "mine_alone:Mine"])) is trainer
    with pytest.raises(ConfigError, match=r"there are 'mine_alone:Mine'\.$"):
        trainer_of(load_config("", ["TRAINER", "mine_alone"]))
    assert "mine_alone" not in sys.modules


@pytest.mark.parametrize("name", ["mine_elsewhere.py", "json.py", "mine.v2.py"])
def test_a_running_script_that_nobody_can_import_is_told(running, name):
    with pytest.raises(ConfigError, match=rf"Trainer Mine is in .*{name}, which .* on PYTHONPATH"):
        name_of(running(name))


def test_a_module_run_by_its_name_keeps_it(running, monkeypatch):
    trainer = running("tool.py")
    spec = importlib.machinery.ModuleSpec("package.tool", None)
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", spec)
    assert name_of(trainer) == "package.tool:Mine"
