"""Reports of a hand-made table: means, gaps, what is missing, what is refused, and the layout."""

import json
import math
from dataclasses import replace

import maskrcnn_repro
from maskrcnn_repro.tables.report.model import Estimate, Report
from maskrcnn_repro.tables.report.plain import from_json, to_json
from maskrcnn_repro.tables.report.text import as_markdown, as_text, describe_average
from maskrcnn_repro.tables.report.words import DASH
from maskrcnn_repro.tables.runs.plan import plan
from maskrcnn_repro.tables.runs.stage import Setting
from maskrcnn_repro.tables.runs.zoo import zoo_stage

import pytest

from tests.helpers.fake_runs import METRICS, Fake, report_of, row, table, write_run


@pytest.fixture(autouse=True)
def _no_data(monkeypatch):
    """What lies in this machine's cache is no part of these tests."""
    monkeypatch.setattr(
        "maskrcnn_repro.tables.report.gather.data_origin", lambda name: {"sha256": None}
    )


@pytest.fixture
def fake(tmp_path, monkeypatch):
    return Fake(tmp_path, monkeypatch)


def record(fake, name, seed, ap, box, **changed):
    """Write a finished run with these APs; return its folder."""
    stage = plan([name], [seed], fake.setting, fake.experiments).stages[-1]
    stage.write_note()
    write_run(stage, metrics={"segm": {"AP": ap}, "bbox": {"AP": box}}, **changed)
    return stage.folder


ROWS = (
    row("other", None, ap=20.0, ours=False),
    row("a", "a", ap=30.0, box=38.0),
    row("b", "b", ap=33.5, box=None, departs="Half the data."),
    row("c", None, ap=35.0, box=40.0, why_not="Weights were not published."),
    row("gap", None, ap=3.5, gap_of=("T.b", "T.a")),
)


def fake_report(fake, *rows, **options):
    shown = table(*(rows or ROWS), **options)
    return report_of(shown, fake.setting, fake.experiments, METRICS)


def cells(report, name):
    return next(row for row in report.rows if row.id == f"T.{name}").cells


def test_means_spreads_and_gaps_by_hand(fake):
    for seed, a, b in ((1, 40.0, 44.0), (2, 42.0, 45.0), (3, 44.0, 49.0)):
        record(fake, "a", seed, a, 50.0)
        record(fake, "b", seed, b, 51.0)
    report = fake_report(fake)
    assert cells(report, "a")["AP"].ours == Estimate(42.0, 2.0, (1, 2, 3))
    assert cells(report, "a")["AP"].ours_gap is None
    b = cells(report, "b")["AP"]
    assert (b.paper, b.paper_gap) == (33.5, 3.5)
    assert b.ours.mean == 46.0
    assert b.ours.spread == pytest.approx(math.sqrt(7))
    # Gaps of 4, 3 and 5: their spread is that of pairs, smaller than either row's.
    assert b.ours_gap == Estimate(4.0, 1.0, (1, 2, 3))
    assert cells(report, "gap")["AP"].ours == Estimate(4.0, 1.0, (1, 2, 3))
    assert cells(report, "gap")["AP"].paper == 3.5
    assert cells(report, "gap")["AP"].paper_gap is None
    assert cells(report, "other")["AP"].paper_gap is None


def test_gaps_pair_only_the_seeds_that_both_rows_have(fake):
    record(fake, "a", 1, 40.0, 50.0)
    record(fake, "b", 1, 43.0, 50.0)
    record(fake, "b", 2, 49.0, 50.0)
    b = cells(fake_report(fake), "b")["AP"]
    assert b.ours.mean == 46.0
    assert b.ours_gap == Estimate(3.0, None, (1,))


def test_the_seeds_of_a_report_can_be_limited(fake):
    record(fake, "a", 1, 40.0, 50.0)
    record(fake, "a", 2, 44.0, 50.0)
    report = report_of(table(*ROWS), fake.setting, fake.experiments, METRICS, seeds=1)
    assert cells(report, "a")["AP"].ours == Estimate(40.0, None, (1,))


def test_a_report_says_of_which_seeds_its_rows_are_means(fake):
    assert describe_average(fake_report(fake)) == ""
    record(fake, "a", 1, 40.0, 50.0)
    record(fake, "b", 1, 43.0, 50.0)
    assert describe_average(fake_report(fake)) == "one training a row, seed 1"
    record(fake, "a", 2, 40.0, 50.0)
    assert describe_average(fake_report(fake)) == (
        "mean ± standard deviation over seeds 1, 2 (Model a); seed 1 (Model b), and a gap over the seeds that both rows have"
    )
    record(fake, "b", 2, 43.0, 50.0)
    assert describe_average(fake_report(fake)) == "mean ± standard deviation over seeds 1, 2"


def test_a_baseline_that_is_not_shown_goes_by_its_id(fake):
    record(fake, "a", 1, 40.0, 50.0)
    report = replace(fake_report(fake), rows=())
    assert f"gap to “{report.baseline_row}”" in as_text(report)


def test_text_shows_both_gaps_missing_cells_reasons_and_departures(fake):
    record(fake, "a", 1, 40.0, 50.0)
    record(fake, "a", 2, 41.0, 52.0)
    write_run(plan(["b"], [1], fake.setting, fake.experiments).stages[-1], finished=False)
    text = as_text(fake_report(fake))
    lines = [line.rstrip() for line in text.splitlines()]
    assert lines[0] == "Table fake: Two models"
    assert str(maskrcnn_repro.BACKEND) in lines[1]
    assert "Paper: COCO minival; ours: mini_coco_val" in lines[1]
    assert "seeds 1, 2" in lines[2]
    assert "gap to “Model a”" in lines[3]
    start = next(i for i, line in enumerate(lines) if line.startswith("row"))
    assert [" ".join(line.split()) for line in lines[start : start + 8]] == [
        "row AP AP AP bb AP bb",
        "paper ours paper ours",
        "----------- ----------- ---------- ----------- ----------",
        f"Model other 20.0 {DASH} {DASH} {DASH}",
        "Model a 30.0 40.5 ± 0.7 38.0 51.0 ± 1.4",
        f"Model b [a] 33.5 (+3.5) {DASH} {DASH} {DASH}",
        f"Model c [b] 35.0 (+5.0) {DASH} 40.0 (+2.0) {DASH}",
        f"Model gap 3.5 {DASH} {DASH} {DASH}",
    ]
    assert (
        "[a] departs from the paper: Half the data. unfinished: seed 1 at model_0000004.pth."
        in text
    )
    assert "[b] cannot be run: Weights were not published." in text
    assert "Not run yet: T.b." in text


def test_wide_tables_are_broken_into_blocks_of_three_metrics(fake):
    columns = {f"m{i}": replace(METRICS["AP"], name=f"m{i}") for i in range(5)}
    rows = [row("a", "a")]
    report = report_of(
        table(*rows, columns=tuple(columns)), fake.setting, fake.experiments, columns
    )
    assert as_text(report).count("Model a ") == 2


def test_held_out_columns_name_the_images_of_each_side(fake):
    record(fake, "a", 1, 40.0, 50.0)
    text = as_markdown(fake_report(fake, *ROWS, held_out=("AP",)))
    assert "AP paper test" in text
    assert "AP ours mini_coco_val" in text
    assert "AP bb paper |" in text


def test_json_and_markdown_say_the_same(fake):
    folder = record(fake, "a", 1, 40.0, 50.0)
    report = fake_report(fake)
    tree = json.loads(json.dumps(to_json(report)))
    assert from_json(Report, tree) == report
    by_id = {r["id"]: r for r in tree["rows"]}
    assert by_id["T.a"]["cells"]["AP"]["ours"] == {"mean": 40.0, "spread": None, "seeds": [1]}
    assert by_id["T.b"]["cells"]["AP"]["paper_gap"] == 3.5
    assert by_id["T.b"]["cells"]["bbAP"] == {
        "paper": None,
        "paper_gap": None,
        "ours": None,
        "ours_gap": None,
        "ours_interval": None,
        "detectron2_weights": None,
    }
    assert by_id["T.c"]["why_not"] == "Weights were not published."
    assert tree["origin"][0]["results"] == str(folder / "results.json")
    text = as_markdown(report)
    assert text.startswith("## Table fake: Two models\n")
    assert "| Model a" in text


def test_an_empty_table_is_all_dashes(fake):
    report = fake_report(fake)
    assert report.origin == ()
    assert "no record yet" in as_text(report)


def test_a_later_evaluation_of_the_same_training_counts(fake):
    record(fake, "a", 1, 40.0, 50.0)
    stage = plan(["a"], [1], fake.setting, fake.experiments).stages[-1]
    again = stage.folder / "inference"
    again.mkdir()
    text = stage.results.read_text().replace("40.0", "41.0")
    (again / "config.yaml").write_text((stage.folder / "config.yaml").read_text())
    (again / "results.json").write_text(text)  # as old: does not
    assert cells(fake_report(fake), "a")["AP"].ours.mean == 40.0
    (again / "results.json").write_text(text.replace("2026-01-01", "2026-01-02"))
    assert cells(fake_report(fake), "a")["AP"].ours.mean == 41.0


# --- what does not belong there


def refused(report, folder):
    return [text for text in report.refused if text.startswith(f"{folder}")]


def test_a_record_of_another_level_is_left_out_and_named(fake):
    record(fake, "a", 1, 40.0, 50.0)
    folder = record(fake, "b", 1, 99.0, 99.0)
    path = folder / "config.yaml"
    path.write_text(path.read_text().replace("MAX_ITER: 10", "MAX_ITER: 90000"))
    report = fake_report(fake)
    assert cells(report, "b")["AP"].ours is None
    (text,) = refused(report, folder)
    assert "SOLVER.MAX_ITER is 90000, planned 10" in text
    assert f"Left out: {text}" in as_text(report)


def test_a_record_of_another_backend_is_left_out_and_named(fake):
    folder = record(fake, "a", 1, 40.0, 50.0, code={"backend": {"name": "other"}, "commit": None})
    report = fake_report(fake)
    assert cells(report, "a")["AP"].ours is None
    assert "made on the other Detectron2" in refused(report, folder)[0]


def test_a_record_of_another_version_of_the_data_is_left_out_and_named(fake):
    record(fake, "a", 1, 40.0, 50.0)
    record(fake, "a", 2, 42.0, 50.0)
    data = {"TRAIN": [], "TEST": [{"name": "mini_coco_val", "sha256": "f" * 64}]}
    folder = record(fake, "b", 1, 99.0, 99.0, datasets=data)
    report = fake_report(fake)
    assert cells(report, "b")["AP"].ours is None
    assert cells(report, "a")["AP"].ours.mean == 41.0
    assert "another version of data set mini_coco_val" in refused(report, folder)[0]


def test_a_training_in_another_precision_than_most_is_named(fake):
    for seed, precision in enumerate(("bfloat16", "bfloat16", "float32"), start=1):
        record(fake, "a", seed, 40.0, 50.0, precision={"training": precision})
    (note,) = fake_report(fake).notes
    assert note == "a seed 3 was trained in float32, most others in bfloat16."


def test_the_data_on_this_machine_decides_which_version_is_right(fake, monkeypatch):
    right = {"mini_coco_val": "f" * 64, "mini_coco_train": None}
    monkeypatch.setattr(
        "maskrcnn_repro.tables.report.gather.data_origin", lambda name: {"sha256": right[name]}
    )
    folder = record(fake, "a", 1, 40.0, 50.0)
    report = fake_report(fake)
    assert cells(report, "a")["AP"].ours is None
    assert "(SHA-256 00000000, not ffffffff)" in refused(report, folder)[0]


def test_an_unreadable_record_is_named_and_the_rest_reported(fake):
    record(fake, "a", 1, 40.0, 50.0)
    folder = record(fake, "b", 1, 44.0, 50.0)
    (folder / "config.yaml").write_bytes(b"\xff\xfe broken")
    report = fake_report(fake)
    assert cells(report, "a")["AP"].ours.mean == 40.0
    assert "config.yaml cannot be read" in refused(report, folder)[0]


@pytest.mark.parametrize(
    "changed",
    [
        {"metrics": "lost"},
        {"metrics": {"mini_coco_val": {"segm": {"AP": "high"}}}},
        {"seed": None},
        {"machine": {}},
        {"datasets": {"TEST": [{"name": "mini_coco_val"}]}},
    ],
)
def test_a_record_that_lacks_something_is_named_and_the_rest_reported(fake, changed):
    record(fake, "a", 1, 40.0, 50.0)
    folder = record(fake, "b", 1, 44.0, 50.0)
    results = folder / "results.json"
    results.write_text(json.dumps(json.loads(results.read_text()) | changed))
    report = fake_report(fake)
    assert cells(report, "a")["AP"].ours.mean == 40.0
    assert cells(report, "b")["AP"].ours is None
    assert f"{folder / 'results.json'} is no result of this project" in as_text(report)


# --- Detectron2's weights


def test_detectron2s_weights_have_a_column_of_their_own(fake):
    setting = Setting("paper", root=fake.setting.root)
    stage = zoo_stage("r50_c4", setting, since="")
    stage.write_note()
    metrics = {"segm": {"AP": 34.4}, "bbox": {"AP": 39.8}}
    write_run(stage, metrics=metrics, iterations=0, weights="some.pkl")
    rows = [row("r50c4", "r50_c4", ap=30.3)]
    rows = [type(r)(**{**vars(r), "id": "T2a.r50c4"}) for r in rows]
    experiments = {**fake.experiments, "r50_c4": fake.experiments["joint"]}
    report = report_of(table(*rows, baseline="T2a.r50c4"), setting, experiments, METRICS)
    assert report.rows[0].cells["AP"].detectron2_weights == 34.4
    assert report.rows[0].cells["AP"].ours is None
    text = as_text(report)
    assert "Detectron2" in text
    assert "34.4" in text
    assert report.origin[0].weights == "some.pkl"
    assert "Not run yet: T2a.r50c4." in text
