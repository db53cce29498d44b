"""Which checkpoints are kept, the best one among them, and when a training ends because it gets no better."""

import json

from maskrcnn_repro.checkpoint.manifest import read_manifest
from maskrcnn_repro.config import get_config, load_config
from maskrcnn_repro.engine.checks import check_config
from maskrcnn_repro.engine.main import main
from maskrcnn_repro.engine.trainer import Trainer
from maskrcnn_repro.errors import ConfigError
from maskrcnn_repro.utils.provenance import config_hash

import pytest
from detectron2.evaluation import DatasetEvaluator

from tests.helpers.tiny_coco import command_line, write_tiny_coco

OPTS = [
    *("SOLVER.MAX_ITER", "6", "SOLVER.CHECKPOINT_PERIOD", "1", "SOLVER.CHECKPOINT_KEEP", "2"),
    *("TEST.EVAL_PERIOD", "1", "TEST.BEST_METRIC", "task/score", "TEST.SHEET_IMAGES", "0"),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_tiny_coco(tmp_path_factory.mktemp("data"))


class Scores(DatasetEvaluator):
    """Gives, after i iterations, a number of a list that the test has made."""

    values = ()
    folder = None

    def evaluate(self):
        files = self.folder.glob("model_[0-9]*.pth")
        newest = max((int(file.stem[6:]) for file in files), default=0)
        return {"task": {"score": self.values[newest]}}


class Scored(Trainer):
    @classmethod
    def build_evaluator(cls, cfg, name, folder):
        return Scores()


@pytest.fixture
def train(data, tmp_path, monkeypatch, capsys):
    """Train with given scores; returns the folder and what was said."""

    def train(values, *options, opts=(), status=0):
        folder = tmp_path / "run"
        monkeypatch.setattr(Scores, "values", values)
        monkeypatch.setattr(Scores, "folder", folder)
        line = command_line(data, folder, *options, opts=[*OPTS, *opts])
        assert main(line, Scored) == status
        return folder, capsys.readouterr()

    return train


def best(folder):
    return read_manifest(folder / "model_best.pth")["iteration"]


def names(folder):
    return sorted(file.name for file in folder.glob("*.pth"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("values", "iteration"),
    [([1, 3, 2, 3, 0, 1], 1), ([1, 1, 1, 1, 1, 2], 5), ([float("nan"), 1, 0, 0, 0, 0], 1)],
)
def test_the_best_weights_and_the_last_ones_stay(train, values, iteration):
    folder, _ = train(values)
    assert best(folder) == iteration
    assert names(folder) == [
        *("model_0000004.pth", "model_0000005.pth", "model_best.pth", "model_final.pth")
    ]


@pytest.mark.parametrize(
    ("metric", "hint"),
    [
        ("task/scor", "(Did you mean 'task/score'?)"),
        pytest.param("score", "(There are 'task/score'.)", marks=pytest.mark.slow),
    ],
)
def test_a_metric_that_no_evaluation_gives_ends_the_training_saved(train, metric, hint):
    folder, said = train(
        [1] * 6, opts=["TEST.BEST_METRIC", metric, "SOLVER.CHECKPOINT_PERIOD", "9"], status=2
    )
    assert f"TEST.BEST_METRIC '{metric}' is given by no evaluation {hint}; " in said.out
    assert names(folder) == ["model_0000000.pth"]


@pytest.mark.slow
def test_such_a_metric_is_told_after_the_last_evaluation(train):
    folder, said = train([1] * 6, opts=["TEST.BEST_METRIC", "a/b", "TEST.EVAL_PERIOD", "0"])
    assert "TEST.BEST_METRIC 'a/b' is given by no evaluation" in said.out
    assert not (folder / "model_best.pth").exists()


def test_a_training_without_progress_ends(train):
    """Best after 2 iterations, then two evaluations in vain: 4 iterations."""
    folder, said = train([1, 3, 2, 2.5, 9, 9], opts=["TEST.PATIENCE", "2"])
    assert (
        "Stopped after 4 iterations: 2 evaluations in a row with no better task/score" in said.out
    )
    assert read_manifest(folder / "model_final.pth")["iteration"] == 3
    assert best(folder) == 1
    assert json.loads((folder / "results.json").read_text())["iterations"] == 4
    # Its last evaluation is logged as the earlier ones are, and is not done twice.
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    assert [line["task/score"] for line in lines if "task/score" in line] == [2.5]
    assert said.out.count("tiny after 4 iterations") == 1


def test_the_last_evaluation_of_an_early_end_is_compared_with_what_is_expected(train):
    expected = ["TEST.EXPECTED_RESULTS", "[['task', 'score', 9.0, 0.1]]"]
    folder, said = train([1, 3, 2, 2.5], opts=["TEST.PATIENCE", "2", *expected], status=2)
    assert "task/score is 2.5, but TEST.EXPECTED_RESULTS has 9" in said.err
    assert (folder / "metrics.json").read_text()


@pytest.mark.slow
def test_a_training_that_ended_goes_on_with_more_patience(train):
    values = [1, 3, 2, 3, 9, 9]
    train(values, opts=["TEST.PATIENCE", "2"])
    folder, said = train(values, "--resume", opts=["TEST.PATIENCE", "2"])
    assert "4 iterations are done, so nothing is left to train" in said.out
    folder, _ = train(values, "--resume", opts=["TEST.PATIENCE", "9"])
    assert (best(folder), read_manifest(folder / "model_final.pth")["iteration"]) == (4, 5)


@pytest.mark.slow
def test_a_resumed_training_keeps_its_patience(train):
    values = [1, 3, 2, 2, 2, 2]
    train(values, opts=["SOLVER.MAX_ITER", "3", "TEST.PATIENCE", "3"])
    folder, said = train(values, "--resume", opts=["TEST.PATIENCE", "3"])
    assert "Stopped after 5 iterations" in said.out
    assert read_manifest(folder / "model_final.pth")["iteration"] == 4


def test_new_keys_with_their_defaults_change_no_hash():
    cfg = get_config()
    first = config_hash(cfg)
    for node, key in ((cfg.TEST, "PATIENCE"), (cfg.SOLVER, "CHECKPOINT_KEEP")):
        node[key] = 1
        assert config_hash(cfg) != first
        node[key] = 0
    assert config_hash(cfg) == first


@pytest.mark.parametrize(
    ("opts", "words"),
    [
        (["TEST.PATIENCE", "2", "TEST.BEST_METRIC", ""], "TEST.PATIENCE 2 needs TEST.BEST_METRIC"),
        (["TEST.PATIENCE", "-1"], "TEST.PATIENCE -1 must be at least 0"),
        (["SOLVER.CHECKPOINT_KEEP", "-1"], "SOLVER.CHECKPOINT_KEEP -1 must be at least 0"),
        (["TEST.PATIENCE", "2", "TEST.EVAL_PERIOD", "0"], "TEST.PATIENCE 2 needs TEST.EVAL_PERIOD"),
    ],
)
def test_values_that_cannot_work_are_refused(train, opts, words):
    _, said = train([], opts=opts, status=2)
    assert words in said.err


def test_patience_alone_does_not_disturb_an_evaluation():
    cfg = load_config("configs/mini/mask_rcnn_fpn.yaml", ["TEST.PATIENCE", "2"])
    check_config(cfg, 1, training=False)
    with pytest.raises(ConfigError, match=r"TEST.PATIENCE 2 needs TEST.BEST_METRIC"):
        check_config(cfg, 1, training=True)
