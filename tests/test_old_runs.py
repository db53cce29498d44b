"""Run folders of commit 9763fd3 still count: they are done, are reported, go on, and are evaluated again."""

from maskrcnn_repro.engine.main import main

import pytest
import torch

from tests.helpers.commands import table as main_table
from tests.helpers.old_runs import contents, lay_out, read_json

TABLE = ["2c", "--rows", "pool", "--level", "mini", "--overlay", "tiny.yaml"]
RUN = "output/mini-tiny/r50-c4-roipool/seed1"

# A record of another backend never counts.
pytestmark = pytest.mark.embedded_only


@pytest.fixture
def place(tmp_path, monkeypatch, catalog):
    """The working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def table(place):
    """A finished table of one row: its RPN, proposals and detector."""
    lay_out("table", place)
    return place


def test_the_plan_of_an_old_table_says_done(table, capsys):
    assert main_table([*TABLE, "--plan"]) == 0
    printed = capsys.readouterr().out
    assert "3 stages, 0 to run" in printed
    for stage in ("rpn_r50_c4 seed 1", "rpn_r50_c4 proposals", "r50_c4_roipool seed 1"):
        assert f"{stage}: done" in printed


def test_an_old_table_is_not_run_again(table, capsys):
    before = contents(table / "output/mini-tiny/rpn-r50-c4")
    weights = (table / RUN / "model_final.pth").read_bytes()
    assert main_table([*TABLE, "--jobs", "1"]) == 0
    assert "3 stages, 0 to run" in capsys.readouterr().out
    assert contents(table / "output/mini-tiny/rpn-r50-c4") == before
    assert (table / RUN / "model_final.pth").read_bytes() == weights


def test_an_old_table_is_reported_with_its_numbers(table, capsys):
    assert main_table([*TABLE, "--report"]) == 0
    assert "Left out" not in capsys.readouterr().out
    report = read_json(table / "output/mini-tiny/tables/2c.json")
    rows = {row["id"]: row for row in report["rows"]}
    measured = read_json(table / RUN / "results.json")["metrics"]["tiny"]["segm"]
    for metric in ("AP", "AP50", "AP75"):
        assert rows["T2c.pool"]["cells"][metric]["ours"]["mean"] == measured[metric]


def test_an_old_run_without_results_is_interrupted(table, capsys):
    (table / RUN / "results.json").unlink()
    assert main_table([*TABLE, "--plan"]) == 0
    printed = capsys.readouterr().out
    assert "3 stages, 1 to run" in printed
    assert "r50_c4_roipool seed 1: interrupted" in printed


def test_an_old_run_of_another_recipe_is_refused(table, capsys):
    own = table / "tiny.yaml"
    own.write_text(own.read_text().replace("MAX_ITER: 300", "MAX_ITER: 301"))
    assert main_table([*TABLE, "--jobs", "1"]) == 2
    assert "SOLVER.MAX_ITER is 300, planned 301" in capsys.readouterr().err


def test_an_old_model_evaluates_to_its_stored_numbers(table):
    words = ["--config-file", f"{RUN}/config.yaml", "--eval-only"]
    pairs = ["MODEL.WEIGHTS", f"{RUN}/model_final.pth", "OUTPUT_DIR", "again"]
    assert main([*words, *pairs]) == 0
    assert_same_metrics(table / "again/inference/results.json", table / RUN / "results.json")


@pytest.mark.slow
def test_the_table_evaluates_an_old_model_to_its_stored_numbers(table):
    assert main_table([*TABLE, "--jobs", "1", "--eval-only"]) == 0
    assert_same_metrics(table / RUN / "inference/results.json", table / RUN / "results.json")


def assert_same_metrics(path, stored):
    """Compare two results; rounding on another machine may move a box by less than an IoU threshold."""
    now, before = (read_json(file)["metrics"]["tiny"] for file in (path, stored))
    assert now.keys() == before.keys() == {"bbox", "segm"}
    for task, values in before.items():
        assert values["AP"] > 40
        assert now[task] == pytest.approx(values, abs=0.5)


def test_an_old_interrupted_run_ends_with_the_weights_of_an_unbroken_one(place):
    lay_out("training", place, output="interrupted")
    assert main(["--config-file", "tiny.yaml", "--resume"]) == 0
    weights = torch.load("output/model_final.pth", weights_only=True)["model"]
    expected = read_json(place / "weights.json")
    assert weights.keys() == expected.keys()
    for name, value in weights.items():
        sums = [value.double().sum().item(), value.double().abs().sum().item()]
        assert sums == pytest.approx(expected[name], rel=2e-4, abs=2e-4), name
    assert read_json(place / "output/results.json")["iterations"] == 44
