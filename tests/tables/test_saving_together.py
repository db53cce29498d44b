"""Saving some tables keeps what others were made from: refused before anything is written, or left as it is."""

import json
import shutil
from dataclasses import replace

import maskrcnn_repro
from maskrcnn_repro import _location
from maskrcnn_repro.commands import tables as cli
from maskrcnn_repro.tables.report.readme import BEGIN, END, results_block
from maskrcnn_repro.tables.runs.plan import plan
from maskrcnn_repro.tables.runs.runner import Failure

import pytest

from tests.helpers.commands import table as main_table
from tests.helpers.fake_detections import FAR, NEAR, detect, use_truth, write_truth
from tests.helpers.fake_runs import METRICS, Fake, row, table, write_run
from tests.tables.test_saving import CLAIMS, ORIGIN

LATER = "2026-02-02T00:00:00+00:00"


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Tables 2b and 2c of the same two experiments, and 2d of another one; README and findings beside the results."""
    fake = Fake(tmp_path, monkeypatch)
    fake.truth = write_truth(tmp_path)
    use_truth(monkeypatch, fake.truth)
    pair = row("a", "a", ap=30.0), row("b", "b", ap=33.5)
    again = [replace(each, id=each.id.replace("T.", "U.")) for each in pair]
    shown = {
        "2b": replace(table(*again, baseline="U.a", columns=("AP",)), id="2b"),
        "2c": replace(table(*pair, columns=("AP",)), id="2c"),
        "2d": replace(table(row("c", "joint"), baseline="T.c", columns=("AP",)), id="2d"),
    }
    monkeypatch.setattr(cli, "find_table", shown.__getitem__)
    for name, value in {
        "all_experiments": fake.experiments,
        "all_metrics": METRICS,
        "tables": shown,
        "all_tables": shown,
        "all_claims": CLAIMS,
    }.items():
        monkeypatch.setattr(cli, name, lambda value=value: value)
    monkeypatch.setattr(cli, "write_report_page", lambda *args, **options: 0)
    monkeypatch.setattr(_location, "RESULTS", tmp_path / "nothing kept")
    fake.results = tmp_path / "checkout/results"
    fake.kept = fake.results / "paper" / maskrcnn_repro.BACKEND.name
    (tmp_path / "checkout/docs").mkdir(parents=True)
    for name in ("README.md", "docs/findings.md"):
        (tmp_path / "checkout" / name).write_text(f"{BEGIN}\n{END}\n")
    return fake


def run(fake, *seeds, names="ab", **changed):
    """Write finished runs of experiments, and the RPN before them."""
    rpn = plan(["rpn"], [1], fake.setting, fake.experiments).stages[-1]
    rpn.write_note()
    write_run(rpn, metrics={"box_proposals": {"AR@100": 50.0}}, **ORIGIN)
    for name in names:
        for seed in seeds:
            offset = FAR if name == "a" else NEAR
            detect(fake, fake.truth, name, seed, offset, **{**ORIGIN, **changed})


def save(fake, *words, runs=False):
    options = ["--level", "paper", "--output", str(fake.setting.root)]
    reports = [] if runs else ["--report"]
    return main_table([*words, *reports, "--save-records", str(fake.results), *options])


def contents(fake):
    """Return every file of the checkout with its bytes."""
    return {file: file.read_bytes() for file in fake.results.parent.rglob("*.*") if file.is_file()}


def identity_of(fake, name):
    return json.loads((fake.kept / name).read_text())["record"]


def test_a_table_without_runs_leaves_the_kept_one(fake, capsys):
    run(fake, 1, names=["a", "b", "joint"])
    assert save(fake, "2c", "2d") == 0
    shutil.rmtree(fake.setting.folder / "joint")
    kept = fake.kept / "tables/2d.json"
    before = kept.read_bytes()
    assert json.loads(before)["origin"]
    capsys.readouterr()
    assert save(fake, "2c", "2d") == 0
    said = f"Not kept: table 2d has no run in {fake.setting.folder}; what is kept of it stays.\n"
    assert said in capsys.readouterr().out
    assert kept.read_bytes() == before
    claims = json.loads((fake.kept / "claims.json").read_text())["claims"]
    assert [claim["id"] for claim in claims] == ["b-over-a", "c-over-a"]
    # One that never had a run is renewed.
    run(fake, 1)
    kept.write_text(json.dumps({**json.loads(before), "origin": [], "title": "Of old"}))
    assert save(fake, "2c", "2d") == 0
    assert json.loads(kept.read_text())["title"] == "Two models"


def test_a_kept_table_that_cannot_be_read_is_not_passed_over(fake, capsys):
    run(fake, 1, names=["a", "b", "joint"])
    assert save(fake, "2c", "2d") == 0
    shutil.rmtree(fake.setting.folder / "joint")
    (fake.kept / "tables/2d.json").write_text("{")
    before = contents(fake)
    assert save(fake, "2c", "2d") == 2
    assert "tables/2d.json cannot be read" in capsys.readouterr().err
    assert contents(fake) == before


def test_after_a_failed_stage_nothing_is_kept(fake, capsys, monkeypatch):
    run(fake, 1, 2)
    assert save(fake, "2c") == 0
    before = contents(fake)
    shutil.rmtree(fake.setting.folder / "a/seed2")
    failed = plan(["a"], [2], fake.setting, fake.experiments).stages[-1]
    monkeypatch.setattr(cli, "check_configs", lambda *args: None)
    monkeypatch.setattr(cli, "run_stages", lambda *args: [Failure(failed, "exit status 3")])
    capsys.readouterr()
    assert save(fake, "2c", "--seeds", "2", runs=True) == 1
    printed = capsys.readouterr()
    assert "a seed 2 failed: exit status 3" in printed.err
    assert "Not kept, as stages failed: --report --save-records keeps what" in printed.out
    assert contents(fake) == before


def test_a_record_that_another_table_names_does_not_go(fake, capsys):
    run(fake, 1, 2)
    assert save(fake, "2b", "2c") == 0
    before = contents(fake)
    capsys.readouterr()
    assert save(fake, "2b", "--seeds", "1") == 2
    error = capsys.readouterr().err
    assert "table 2c, which is kept, was made from a/seed2.json, which would go; nothing" in error
    command = "maskrcnn table 2b 2c --level paper --report --save-records."
    assert f"Save these tables together: {command}" in error
    assert contents(fake) == before
    assert save(fake, "2b", "2c", "--seeds", "1") == 0
    assert not (fake.kept / "a/seed2.json").exists()


def test_a_record_that_another_table_names_is_not_another_run_s(fake, capsys):
    run(fake, 1)
    assert save(fake, "2b", "2c") == 0
    run(fake, 1, written=LATER)
    before = contents(fake)
    capsys.readouterr()
    assert save(fake, "2c") == 2
    error = capsys.readouterr().err
    assert "table 2b, which is kept, was made from a/seed1.json, which would become anoth" in error
    assert contents(fake) == before
    assert save(fake, "2c", "2b") == 0
    assert results_block(fake.results)


@pytest.mark.parametrize("seeds", [(1, 3), (1, 2, 3)])
def test_runs_that_are_added_take_no_kept_record_s_place(fake, seeds, capsys, monkeypatch):
    run(fake, 1, 2)
    assert save(fake, "2c") == 0
    monkeypatch.setattr(_location, "RESULTS", fake.results)
    shutil.rmtree(fake.setting.folder)
    run(fake, *seeds, written=LATER)
    before = contents(fake)
    capsys.readouterr()
    assert save(fake, "2c", "--kept", "--seeds", "3") == 2
    error = capsys.readouterr().err
    folder = fake.setting.folder / "a/seed1"
    assert f"{fake.kept / 'a/seed1.json'} keeps another run of a seed 1 than {folder}" in error
    assert contents(fake) == before
    for name in ("a/seed1", "b/seed1", "a/seed2", "b/seed2"):
        shutil.rmtree(fake.setting.folder / name, ignore_errors=True)
    assert save(fake, "2c", "--kept", "--seeds", "3") == 0
    after = contents(fake)
    unchanged = [file for file in before if file.match("[ab]/*seed*") or file.match("rpn/*")]
    assert {file: after[file] for file in unchanged} == {file: before[file] for file in unchanged}
    assert (fake.kept / "a/seed3.json").is_file()


def test_runs_take_the_place_of_kept_records_that_stand_for_none(fake, monkeypatch):
    run(fake, 1)
    assert save(fake, "2c") == 0
    monkeypatch.setattr(_location, "RESULTS", fake.results)
    for file in fake.kept.glob("[ab]/seed1.json"):
        file.write_text(json.dumps({**json.loads(file.read_text()), "recipe_sha256": "f" * 64}))
    earlier = identity_of(fake, "a/seed1.json")
    run(fake, 1, written=LATER)
    assert save(fake, "2c", "--kept", "--seeds", "1") == 0
    assert identity_of(fake, "a/seed1.json") != earlier
