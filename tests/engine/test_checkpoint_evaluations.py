"""``maskrcnn eval --checkpoints``: the metrics that a training had on its way, measured after it."""

import json
import shutil
from pathlib import Path

from maskrcnn_cli import main
from maskrcnn_repro.engine.main import main as train
from maskrcnn_repro.tables.report.curve_files import read_metrics

import pytest

from tests.helpers.tiny_coco import command_line, write_tiny_coco

PERIODS = ("SOLVER.MAX_ITER", "3", "SOLVER.CHECKPOINT_PERIOD", "1")

FOLLOWED = (*PERIODS, "TEST.EVAL_PERIOD", "1", "TEST.BEST_METRIC", "bbox/AP50")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_tiny_coco(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def followed(data, tmp_path_factory):
    """Folder of a training of three iterations that was evaluated after each; not to be changed."""
    output = tmp_path_factory.mktemp("followed") / "run"
    assert train(command_line(data, output, opts=FOLLOWED)) == 0
    return output


@pytest.fixture
def unfollowed(followed, tmp_path):
    """A copy of that folder without the evaluations on the way."""
    folder = Path(shutil.copytree(followed, tmp_path / "run"))
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    for line in lines[:-1]:
        for name in [name for name in line if name.startswith(("bbox/", "segm/"))]:
            del line[name]
    (folder / "metrics.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def evaluate(data, folder, *options, opts=()):
    return main(["eval", *command_line(data, folder, *options, opts=(*PERIODS, *opts))])


def test_checkpoints_give_what_evaluations_while_training_gave(data, followed, unfollowed, capsys):
    kept = {path: path.read_bytes() for path in unfollowed.glob("*") if path.is_file()}
    kept |= {path: path.read_bytes() for path in (unfollowed / "inference/tiny").iterdir()}
    assert evaluate(data, unfollowed, "--checkpoints") == 0
    measured, problem = read_metrics(unfollowed / "metrics.json")
    assert problem == ""
    # Iterations count from 0; the evaluation at the end bears the number of the next one.
    at = {1: 0, 2: 1, 3: 3}
    while_training = json.loads((followed / "best.json").read_text())["evaluations"]
    assert measured["bbox/AP50"] == {at[done]: value for done, value in while_training}
    assert len(set(measured["bbox/AP50"].values())) > 1
    assert "model_0000001.pth: bbox/AP" in capsys.readouterr().out
    del kept[unfollowed / ".lock"]
    for path, content in kept.items():
        assert path.read_bytes() == content, f"{path.name} changed"


def test_each_checkpoint_has_results_and_a_picture_but_not_the_last_model_s(data, unfollowed):
    assert evaluate(data, unfollowed, "--checkpoints") == 0
    folder = unfollowed / "inference/checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == ["model_0000000", "model_0000001"]
    for number in (0, 1):
        results = json.loads((folder / f"model_000000{number}/results.json").read_text())
        assert results["iterations"] == number + 1
        assert (folder / f"model_000000{number}/predictions.png").is_file()


def test_a_damaged_evaluation_of_a_checkpoint_is_named(unfollowed):
    file = unfollowed / "inference/checkpoints/model_0000000/results.json"
    file.parent.mkdir(parents=True)
    file.write_text("{")
    values, problem = read_metrics(unfollowed / "metrics.json")
    assert str(file) in problem
    assert sorted(values["segm/AP"]) == [3]


def test_a_training_without_checkpoints_on_its_way_is_one_sentence(data, unfollowed, capsys):
    for file in unfollowed.glob("model_000000[01].*"):
        file.unlink()
    assert evaluate(data, unfollowed, "--checkpoints") == 2
    error = capsys.readouterr().err
    assert f"OUTPUT_DIR '{unfollowed}' holds no checkpoint model_NUMBER.pth" in error
    assert "SOLVER.CHECKPOINT_PERIOD" in error


@pytest.mark.parametrize(
    ("options", "opts", "words"),
    [
        (["--resume"], (), "so that --resume would be ignored"),
        ([], ("MODEL.WEIGHTS", "model_final.pth"), "so that MODEL.WEIGHTS would be ignored"),
    ],
)
def test_what_names_one_file_is_refused(data, tmp_path, capsys, options, opts, words):
    assert evaluate(data, tmp_path, "--checkpoints", *options, opts=opts) == 2
    assert words in capsys.readouterr().err
