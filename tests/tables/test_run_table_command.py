"""The command lines: what they select, what they refuse before anything runs, what they leave."""

import json
import os
import subprocess
import sys
from dataclasses import replace

from maskrcnn_repro.commands import table_runs
from maskrcnn_repro.commands import tables as cli
from maskrcnn_repro.commands.table_reports import print_reports, write_report_page
from maskrcnn_repro.commands.table_views import View
from maskrcnn_repro.errors import TableError
from maskrcnn_repro.tables.paper.numbers import find_table
from maskrcnn_repro.tables.paper.selection import select
from maskrcnn_repro.tables.report.kept_reading import read_report
from maskrcnn_repro.tables.report.report import PaperData
from maskrcnn_repro.tables.runs import runner as runner_module
from maskrcnn_repro.tables.runs.plan import plan
from maskrcnn_repro.tables.runs.processes import environments
from maskrcnn_repro.tables.runs.stage import Setting
from maskrcnn_repro.tables.runs.zoo import CONFIGS, zoo_stage, zoo_stages

import pytest
import torch

from tests.helpers.commands import experiment as main_experiment
from tests.helpers.commands import table as main_table
from tests.helpers.fake_runs import METRICS, Fake, row, table, write_run
from tests.helpers.kept_results import RESULTS
from tests.helpers.paths import ROOT


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Stand fake experiments and a fake table in the place of the real ones."""
    fake = Fake(tmp_path, monkeypatch)
    shown = table(
        row("a", "a", ap=30.0, box=38.0),
        row("b", "b", ap=33.5, box=40.0),
        row("c", None, ap=35.0, why_not="Weights were not published."),
    )
    monkeypatch.setattr(cli, "all_experiments", lambda: fake.experiments)
    monkeypatch.setattr(cli, "find_experiment", fake.experiments.__getitem__)
    monkeypatch.setattr(cli, "find_table", {"fake": shown}.__getitem__)
    monkeypatch.setattr(cli, "all_metrics", lambda: METRICS)
    monkeypatch.setattr(cli, "tables", lambda: {"fake": shown})
    monkeypatch.setattr(cli, "all_tables", lambda: {"fake": shown})
    monkeypatch.setattr(runner_module, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(
        "maskrcnn_repro.tables.report.gather.data_origin", lambda name: {"sha256": None}
    )
    return fake


def command(fake, *words, overrides=()):
    options = ["--level", "paper", "--output", str(fake.setting.root)]
    if "--report" not in words:
        options += ["--num-gpus", "1"]
    return [*words, *options, *(["--", *overrides] if overrides else [])]


def test_a_table_is_run_reported_and_written(fake, capsys):
    fake.plan("a", "b")
    assert main_table(command(fake, "fake")) == 0
    printed = capsys.readouterr().out
    assert "4 stages, 4 to run, 1 side by side." in printed
    assert "Model b  33.5 (+3.5)  30.0 (+0.0)" in " ".join(printed.split("\n")).replace("   ", " ")
    written = json.loads((fake.setting.folder / "tables/fake.json").read_text())
    assert written["rows"][0]["cells"]["AP"]["ours"]["mean"] == 30.0
    assert "| Model a" in (fake.setting.folder / "tables/fake.md").read_text()
    assert "Model b" in (fake.setting.folder / "report.html").read_text()
    assert main_table(command(fake, "fake")) == 0
    assert "4 stages, 0 to run" in capsys.readouterr().out
    assert len(fake.calls()) == 4


def test_a_failure_gives_exit_status_1_after_the_report(fake, capsys):
    table_plan = fake.plan("a", "b")
    fake.place(table_plan.stages[2], ".fail").touch()
    assert main_table(command(fake, "fake")) == 1
    printed = capsys.readouterr()
    assert "Model b" in printed.out
    assert "a seed 1 failed: exit status 3\n    Traceback: out of memory\n" in printed.err
    assert f"All of it: {table_plan.stages[2].folder / 'console.txt'}" in printed.err


def test_a_page_that_cannot_be_written_gives_exit_status_1(fake, capsys):
    (fake.setting.folder / "report.html").mkdir(parents=True)
    assert main_table(command(fake, "fake", "--report")) == 1
    assert "report.html cannot be written" in capsys.readouterr().err


def test_a_plan_runs_nothing(fake, capsys):
    assert main_table(command(fake, "fake", "--plan", "--rows", "a")) == 0
    printed = capsys.readouterr().out
    assert "a seed 1: missing" in printed
    assert "b seed 1" not in printed
    assert fake.calls() == []
    assert not fake.setting.folder.exists()


def test_a_report_alone_runs_nothing_and_writes_all_rows_whatever_it_prints(fake, capsys):
    assert main_table(command(fake, "fake", "--report", "--rows", "a")) == 0
    assert "Not run yet: T.a." in capsys.readouterr().out
    written = json.loads((fake.setting.folder / "tables/fake.json").read_text())
    assert [entry["id"] for entry in written["rows"]] == ["T.a", "T.b", "T.c"]
    assert fake.calls() == []


@pytest.mark.parametrize(
    ("kept", "nor"),
    [(False, " (records are kept, which --kept --seeds "), (True, ", nor a record in results/")],
)
def test_tables_without_a_record_overwrite_neither_page_nor_table(tmp_path, capsys, kept, nor):
    setting = Setting("mini", root=tmp_path)
    report = replace(read_report(RESULTS / "mini/embedded/tables/2c.json"), origin=(), claims=())
    files = [setting.folder / name for name in ("report.html", "tables/2c.json")]
    files[1].parent.mkdir(parents=True)
    for file in files:
        file.write_text("of before")
    view = View(report, {row.id for row in report.rows})
    assert print_reports([view], setting, PaperData({}, {}, {}, {}), kept=kept) == 0
    assert write_report_page([view], files[0]) == 0
    printed = capsys.readouterr().out
    assert f"There is no finished run of these rows in {setting.folder}{nor}" in printed
    assert f"Not written: {files[0]} stays as it is" in printed
    assert [file.read_text() for file in files] == ["of before"] * 2


@pytest.mark.slow
def test_a_report_of_nothing_has_no_spread(fake, capsys):
    assert main_table(command(fake, "fake", "--report", "--kept", "--seeds", "2")) == 0
    assert "Standard deviation between seeds" not in capsys.readouterr().out


def test_overrides_go_to_a_trial_of_their_own(fake, capsys):
    overrides = ("SOLVER.CHECKPOINT_PERIOD", "3")
    trial = Setting("paper", overrides, fake.setting.root)
    fake.plan("a", setting=trial)
    assert main_table(command(fake, "fake", "--rows", "a", overrides=overrides)) == 0
    assert trial.run_folder("a", 1).joinpath("results.json").is_file()
    assert not fake.setting.folder.exists()
    assert "A trial with SOLVER.CHECKPOINT_PERIOD 3: not a result." in capsys.readouterr().out


def test_stored_checkpoints_are_evaluated_again(fake, capsys, monkeypatch):
    for stage in fake.plan("a").stages:
        stage.write_note()
        write_run(stage)
    trained = plan(["a"], [1], fake.setting, fake.experiments).stages[-1]
    note = (trained.folder / "stage.json").read_bytes()
    # What the fake child copies: a later evaluation in the training's folder.
    again = fake.place(trained) / "inference"
    again.mkdir()
    (again / "config.yaml").write_text((trained.folder / "config.yaml").read_text())
    text = trained.results.read_text().replace("30.0", "31.0").replace("2026-01-01", "9999-01-01")
    (again / "results.json").write_text(text)
    assert main_table(command(fake, "fake", "--eval-only")) == 0
    printed = capsys.readouterr().out
    assert "b seed 1 is left out: missing." in printed
    assert "31.0" in printed
    assert fake.calls() == ["train a/seed1 resumed"]
    assert (trained.folder / "stage.json").read_bytes() == note


def test_without_a_finished_training_there_is_nothing_to_evaluate_again(fake, capsys):
    assert main_table(command(fake, "fake", "--eval-only")) == 2
    printed = capsys.readouterr()
    assert "a seed 1 is left out: missing." in printed.out
    assert "--eval-only: no training of these rows is finished in" in printed.err
    assert fake.calls() == []


def test_one_experiment_is_run_with_its_stages(fake, capsys):
    fake.plan("a")
    assert main_experiment(command(fake, "a")) == 0
    assert fake.calls() == ["train rpn/seed1", "store rpn/seed1", "train a/seed1"]
    assert capsys.readouterr().out.endswith(
        f"Results: {fake.setting.run_folder('a', 1) / 'results.json'}\n"
    )


def test_a_run_stops_when_nobody_reads_its_progress_any_longer(fake, capsys, monkeypatch):
    def closed(*args):
        raise BrokenPipeError

    dropped = []
    monkeypatch.setattr(table_runs, "drop_stdout", lambda: dropped.append(1))
    monkeypatch.setattr(table_runs.Console, "started", closed)
    assert main_table(command(fake, "fake", "--rows", "a")) == 130
    assert dropped
    assert "The same command goes on where this one was." in capsys.readouterr().err


# --- the real tables

LISTS = (["list", "2c"], ["list", "2b", "--sizes"])


@pytest.mark.parametrize(
    "words", [["table"], *(pytest.param(words, marks=pytest.mark.slow) for words in LISTS)]
)
def test_a_reader_that_has_read_enough_is_no_failure(words):
    lists = subprocess.Popen(
        [sys.executable, "-m", "maskrcnn_cli", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "projects"), *sys.path])},
    )
    lists.stdout.close()  # before anything is written
    assert lists.stderr.read() == b""
    assert lists.wait(60) == 0


def test_without_arguments_the_tables_are_listed(capsys):
    assert main_table([]) == 0
    printed = capsys.readouterr().out
    assert "2c: RoI operations" in printed
    assert "T2c.pool" in printed
    assert "r50_c4_roipool" in printed
    assert "cannot be run: Non-local blocks" in printed


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["2x"], "Table '2x' does not exist. There are 1, 2a"),
        (["class-agnostics"], "Did you mean 'class-agnostic'?"),
        (["2c", "--rows", "pol"], "Row 'pol' does not exist. Did you mean 'pool'?"),
        (["2c", "--level", "mimi"], "Level 'mimi' does not exist. Did you mean 'mini'?"),
        (["7", "--level", "mini"], "has no overlay for experiments of family 'cityscapes'"),
        (["8", "--rows", "T8.3"], "T8.3: ResNeXt-101 weights"),
        (["--rows", "pool"], "Name a table first"),
        (["--overlay", "examples/nucleus.yaml"], "Name a table first"),
        (["--seeds", "3"], "Name a table first"),
        (["2c", "--weights", "pool=a.pkl"], "--weights needs table 2a and --eval-only"),
        (["2c", "--", "SOLVER.MAX_ITER"], "'SOLVER.MAX_ITER' has no value"),
        (["2c", "--", "SOLVER.MAX_ITERS", "5"], "Did you mean 'SOLVER.MAX_ITER'"),
        (
            ["2a", "--eval-only", "--level", "paper", "--weights", "r50_c=a.pkl"],
            "Row 'r50_c' does not exist. Did you mean",
        ),
        (
            ["2a", "--eval-only", "--level", "paper", "--weights", "T2a.r50c4=nowhere.pkl"],
            "the file 'nowhere.pkl' does not exist",
        ),
        (["2C"], "Table '2C' does not exist. Did you mean '2c'?"),
        (["all", "2x"], "Table '2x' does not exist."),
        (["2c", "--report", "--save-records"], "--save-records: there is no finished run in"),
        (["2c", "--report", "--seeds", "2"], "its report kept in results/ is of all its seeds"),
        (["2c", "--report", "--seeds", "2"], "give --kept, too, for records of seeds 1 to 2"),
        (
            ["7", "--plan", "--rows", "claims"],
            "--rows claims: no finding is about a row of table 7",
        ),
        (["2a", "--eval-only", "--weights", "T2a.r50c4"], "give --level paper, not mini"),
    ],
)
def test_mistakes_are_one_sentence_before_anything_runs(tmp_path, capsys, words, text):
    place = words.index("--") if "--" in words else len(words)
    options = ["--output", str(tmp_path / "output")] if not words[0].startswith("--") else []
    assert main_table([*words[:place], *options, *words[place:]]) == 2
    printed = capsys.readouterr()
    assert text in printed.err
    assert printed.err.startswith("Error: ")
    assert printed.err.count("\n") == 1
    assert not (tmp_path / "output").exists()


def test_an_experiment_that_does_not_exist_is_told(tmp_path, capsys):
    assert main_experiment(["r50_c4_roipol", "--output", str(tmp_path)]) == 2
    assert "Did you mean 'r50_c4_roipool'" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["2c", "--seeds", "0"], ["2c", "--jobs", "two"]])
def test_counts_are_numbers_from_1(words, capsys):
    assert main_table(words) == 2
    assert "is no number from 1 upwards" in capsys.readouterr().err


def test_seeds_are_bounded(capsys):
    assert main_table(["2c", "--seeds", "2000", "--plan"]) == 2
    assert "2000 trainings of each row are more than anyone waits for" in capsys.readouterr().err


def test_rows_are_named_by_id_by_its_end_or_by_experiment():
    every = [find_table("2b"), find_table("2c")]
    (selection,) = select(every, ["pool", "T2c.warpmax", "r50_c4_roiwarp_ave"])
    assert [r.id for r in selection.rows] == ["T2c.pool", "T2c.warpmax", "T2c.warpave"]
    both = select(every, ["r50_c4"])
    assert [(s.table.id, [r.id for r in s.rows]) for s in both] == [
        ("2b", ["T2b.sigmoid"]),
        ("2c", ["T2c.alignave"]),
    ]
    (claimed,) = select([find_table("2b")], ["claims"])
    assert [row.id for row in claimed.rows] == ["T2b.softmax", "T2b.sigmoid"]
    with pytest.raises(TableError, match="Rows of table 2b, 2c"):
        select(every, ["nothing"])


def test_the_script_has_help_with_examples_from_anywhere(tmp_path):
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts/run_table.py"), "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": ""},
    )
    assert done.returncode == 0, done.stderr
    assert "examples:" in done.stdout


def test_detectron2s_weights_are_evaluated_under_their_own_config(tmp_path):
    weights = tmp_path / "model_final.pkl"
    weights.touch()
    setting = Setting("paper", root=tmp_path)
    rows = list(find_table("2a").rows.values())
    (stage,) = zoo_stages([f"T2a.r50c4={weights}"], rows, setting, since="")
    heads = stage.config.MODEL.ROI_HEADS.NAME, stage.config.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION
    assert heads == ("Res5ROIHeads", 14)
    assert stage.config.MODEL.ROI_OP.NAME == ""
    assert stage.config.MODEL.WEIGHTS == str(weights)
    assert "--eval-only" in stage.command_line()
    assert stage.folder == tmp_path / "paper/detectron2/r50_c4/seed1"


@pytest.mark.parametrize("name", CONFIGS)
def test_the_published_file_is_the_default(name, tmp_path):
    stage = zoo_stage(name, Setting("paper", root=tmp_path))
    assert stage.config.MODEL.WEIGHTS.startswith(
        "detectron2://COCO-InstanceSegmentation/mask_rcnn_"
    )


def test_children_get_threads_and_gpus_of_their_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    places = environments(jobs=2, threads=3, gpus=2)
    assert [p["CUDA_VISIBLE_DEVICES"] for p in places] == ["4,5", "6,7"]
    assert [p["OMP_NUM_THREADS"] for p in places] == ["3", "3"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "CUDA_VISIBLE_DEVICES" not in environments(2, None, 1)[0]
