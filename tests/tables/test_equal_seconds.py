"""Mask AP after as many seconds as the baseline: of the shorter training, in the row of the whole one."""

from maskrcnn_repro.errors import TableError
from maskrcnn_repro.tables.paper.additions import parse_addition
from maskrcnn_repro.tables.paper.data_file import Node
from maskrcnn_repro.tables.paper.experiments import Experiment, experiments
from maskrcnn_repro.tables.paper.numbers import Metric, Row, Table
from maskrcnn_repro.tables.report.equal_seconds import TASK, add_equal_seconds, with_iterations
from maskrcnn_repro.tables.report.evidence import Evidence
from maskrcnn_repro.tables.report.gather import gather, value_of
from maskrcnn_repro.tables.report.html.origin import origins
from maskrcnn_repro.tables.report.model import Report, ReportRow
from maskrcnn_repro.tables.report.plain import from_json, to_json
from maskrcnn_repro.tables.report.report import _origins

import pytest

from tests.helpers.fake_detections import FAR, NEAR, detect, use_truth, write_truth
from tests.helpers.fake_runs import Fake
from tests.helpers.paths import ROOT

COLUMN = Metric("AP-seconds", "AP, equal time", TASK, "AP")
EVALUATED = next(name for name, item in experiments().items() if item.evaluates)
ROW = Row("T.a", "A", {}, experiment="a", equal_seconds="b")


@pytest.fixture
def gathered(tmp_path, monkeypatch):
    fake, truth = Fake(tmp_path, monkeypatch), write_truth(tmp_path)
    use_truth(monkeypatch, truth)
    for experiment, seed, offset in (("a", 1, NEAR), ("a", 2, NEAR), ("b", 1, FAR), ("b", 3, FAR)):
        detect(fake, truth, experiment, seed, offset)
    return gather(["a", "b"], fake.setting, fake.experiments)


def test_a_row_has_both_numbers_of_the_same_seed(gathered):
    add_equal_seconds(gathered, [ROW])
    records = gathered.records["a"]
    assert {seed: value_of(record, COLUMN) for seed, record in records.items()} == {
        1: pytest.approx(10),
        2: None,
    }
    assert value_of(records[1], Metric("AP", "AP", "segm", "AP")) == pytest.approx(70)


def test_the_note_says_how_long_the_shorter_training_is(gathered):
    short = Experiment("b", "b.yaml", "fpn", overrides=("SOLVER.MAX_ITER", "640"), shortens="a")
    note = with_iterations(ROW, {"b": short}, gathered).note
    assert note == "Equal time: a training of 640 iterations, its schedule as long."
    # The baseline's own training is not shorter, and what was not trained is not told of.
    assert with_iterations(ROW, {"b": Experiment("b", "b.yaml", "fpn")}, gathered).note is None
    gathered.records.clear()
    assert with_iterations(ROW, {"b": short}, gathered).note is None


@pytest.mark.parametrize(
    ("parts", "row", "words"),
    [
        ({"iterations": 0}, {}, "iterations must be at least 1, not 0"),
        ({"shortens": "r50_fpm"}, {}, "experiment 'r50_fpm' does not exist"),
        ({"shortens": EVALUATED}, {}, f"shortens {EVALUATED}, which is no whole training"),
        ({}, {"equal_seconds": "shart"}, "equal_seconds: experiment 'shart' does not exist"),
    ],
)
def test_mistakes_of_a_file_are_told(parts, row, words):
    tree = {
        "experiments": {"short": {"shortens": "r50_fpn", "iterations": 9, **parts}},
        "tables": {
            "own": {
                "title": "Own",
                "columns": ["AP"],
                "baseline": "own.a",
                "rows": {"own.a": {"name": "A", "experiment": "short", **row}},
            }
        },
    }
    with pytest.raises(TableError, match=words):
        parse_addition(Node(tree, "own.yaml"), ROOT)


def test_the_shorter_training_stands_in_the_origin_of_its_number(gathered):
    table = Table("t", "T", "split", ("AP",), {"T.a": ROW}, "T.a")
    names = [(run.experiment, run.seed) for run in _origins(table, Evidence(gathered, {}), {})]
    assert names == [("a", 1), ("a", 2), ("b", 1)]


def test_the_shorter_training_is_shown_with_its_row(gathered, tmp_path):
    table = Table("t", "T", "split", ("AP",), {"T.a": ROW}, "T.a")
    rows = (ReportRow.of(ROW, cells={}, unfinished=(), not_at_level=None), ReportRow("T.o", "O"))
    runs = _origins(table, Evidence(gathered, {}), {})
    report = Report(
        "t", "T", "mini", (), (), "embedded", "split", ("mini_coco_val",), "T.a", rows, origin=runs
    )
    groups = origins([report], tmp_path)
    assert [(group.name, len(group.runs)) for group in groups] == [("a", 2), ("b", 1)]
    assert groups[1].shared["Rows"] == "A (t)"
    assert report.only({"T.a"}).origin == runs
    assert report.only({"T.o"}).origin == ()
    # Rows of earlier files lack it.
    tree = to_json(rows[0])
    assert from_json(ReportRow, tree) == rows[0]
    del tree["equal_seconds"]
    assert from_json(ReportRow, tree).sources == ("a", "detectron2/a")
