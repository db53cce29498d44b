"""The paper's numbers as data: consistent with themselves, and refused where they are wrong."""

from maskrcnn_repro.errors import TableError
from maskrcnn_repro.tables.paper.data_file import Node, read_data
from maskrcnn_repro.tables.paper.numbers import (
    Row,
    Table,
    find_row,
    find_table,
    index_rows,
    metrics,
    parse,
    parse_uses,
    tables,
)

import pytest

EVERY_ROW = [(table, row) for table in tables().values() for row in table.rows.values()]
OWN = [(table, row) for table, row in EVERY_ROW if row.ours and row.gap_of is None]


def test_a_row_reads_as_printed():
    row = tables()["2c"].rows["T2c.alignave"]
    assert (row.name, row.ours, row.experiment) == ("RoIAlign ave", True, "r50_c4")
    assert dict(row.metrics) == {"AP": 30.3, "AP50": 51.2, "AP75": 31.5}
    assert tables()["1"].rows["T1.fcis"].metrics["AP75"] is None


def test_all_tables_are_there_in_the_order_of_the_paper():
    order = "1 2a 2b class-agnostic 2c 2d fpn-roialign 2e 3 4 5 6 7 8 9"
    assert list(tables()) == order.split()


def test_row_ids_are_unique():
    ids = [row.id for _, row in EVERY_ROW]
    assert len(ids) == len(set(ids))


def test_every_own_row_has_an_experiment_or_a_reason():
    for _, row in OWN:
        assert (row.experiment is None) != (row.why_not is None), row.id
    assert [row.id for _, row in OWN if row.why_not] == ["T8.3", "T8.6", "T9.4"]


def test_other_methods_and_printed_gaps_have_no_experiment():
    rest = [row for _, row in EVERY_ROW if not row.ours or row.gap_of is not None]
    assert len([row for row in rest if not row.extra]) == 17
    assert all(row.experiment is None and row.why_not is None for row in rest)


def test_printed_gaps_are_the_differences_of_their_rows():
    checked = 0
    for table, row in EVERY_ROW:
        if row.gap_of is None:
            continue
        first, second = (table.rows[name].metrics for name in row.gap_of)
        for name, gap in row.metrics.items():
            if first[name] is not None and second[name] is not None:
                assert gap == pytest.approx(first[name] - second[name], abs=1e-9), (row.id, name)
                checked += 1
    assert checked == 10


def test_rows_of_one_experiment_have_the_same_numbers_on_the_same_images():
    seen = {}
    for table, row in OWN:
        for name, value in row.metrics.items():
            key = (row.experiment, row.departs, table.split, name)
            if row.experiment and value is not None:
                assert seen.setdefault(key, value) == value, (row.id, name)
    assert seen["r50_c4", None, "COCO minival (val2017)", "AP"] == 30.3


def test_class_columns_of_cityscapes_average_to_its_ap():
    classes = ["person", "rider", "car", "truck", "bus", "train", "mcycle", "bicycle"]
    for name in ("T7.fine", "T7.coco"):
        row = find_row(name)
        mean = sum(row.metrics[column] for column in classes) / 8
        assert mean == pytest.approx(row.metrics["AP"], abs=0.051)


def test_columns_without_public_annotations_are_marked():
    assert tables()["3"].held_out == set(tables()["3"].columns)
    assert set(tables()["7"].columns) - tables()["7"].held_out == {"AP_val"}
    assert not tables()["2a"].held_out


def test_a_metric_says_where_results_have_it():
    metric = metrics()["mcycle"]
    assert (metric.task, metric.key) == ("segm", "AP-motorcycle")


def test_extra_rows_stand_below_the_papers_and_have_no_numbers():
    rows = list(tables()["2c"].rows.values())
    assert [row.extra for row in rows] == [False] * 5 + [True] * 2
    assert not rows[-1].metrics
    assert rows[-1].gap_of == ("X2c.halfpixel", "T2c.alignave")


def test_an_extra_row_is_an_experiment_or_a_gap():
    row = {"table": "2c", "name": "n", "note": "n", "experiment": "r50_c4", "gap_of": ["a", "b"]}
    with pytest.raises(TableError, match=r"extra_rows: x is either an experiment or the gap"):
        parse_uses(Node({"rows": {}, "extra_rows": {"x": row}}, "f"))


def paper(**changes):
    row = {"name": "one", "metrics": {"AP": 1.0}}
    row.update(changes.pop("row", {}))
    table = {
        "title": "t",
        "split": "s",
        "columns": ["AP"],
        "baseline": "a",
        "rows": {"a": {k: v for k, v in row.items() if v is not ...}},
    }
    table.update(changes)
    metric = {"AP": {"title": "AP", "task": "segm", "key": "AP"}}
    tree = {"metrics": metric, "tables": {"1": {k: v for k, v in table.items() if v is not ...}}}
    return Node(tree, "paper.yaml")


def test_a_correct_file_parses():
    _, table_by_id = parse(paper(), {}, {})
    assert table_by_id["1"].rows["a"].metrics == {"AP": 1.0}


def test_a_row_stands_once():
    extra = Row("a", "again", {}, extra=True)
    with pytest.raises(TableError, match="1: row 'a' stands among the extra rows, too"):
        parse(paper(), {}, {"1": [extra]})
    rows = parse(paper(), {}, {})[1]["1"].rows
    other = Table("2", "t", "s", ("AP",), rows, "a")
    with pytest.raises(TableError, match=r"f: row 'a' stands in the tables '1' and '2'; give"):
        index_rows([Table("1", "t", "s", ("AP",), rows, "a"), other], "f")


ROW = "paper.yaml: tables: 1: rows: a"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"row": {"metrics": {"APP": 1.0}}},
            f"{ROW}: metrics: metric 'APP' does not exist. Did you",
        ),
        ({"row": {"metrics": {}}}, f"{ROW}: metrics lacks 'AP'; a dash is null."),
        (
            {"row": {"metrics": {"AP": "1"}}},
            f"{ROW}: metrics: AP must be a number or null, not '1'.",
        ),
        ({"row": {"metrics": {"AP": True}}}, "AP must be a number or null, not True."),
        ({"row": {"metrics": 3}}, f"{ROW}: metrics must be a mapping, not 3 (int)."),
        ({"row": {"name": ...}}, f"{ROW} lacks 'name'."),
        ({"row": {"name": 5}}, f"{ROW}: name must be a string, not 5 (int)."),
        ({"row": {"nmae": "x"}}, f"{ROW} has an unknown key 'nmae'."),
        ({"row": {"gap_of": ["a"]}}, f"{ROW}: gap_of needs two rows, not 1."),
        ({"row": {"gap_of": ["a", "b"]}}, "paper.yaml: tables: 1: row 'b' does not exist."),
        ({"baseline": "aa"}, "paper.yaml: tables: 1: row 'aa' does not exist."),
        ({"columns": ["AP", "AP5O"]}, "tables: 1: columns: metric 'AP5O' does not exist. Did you"),
        ({"title": ...}, "paper.yaml: tables: 1 lacks 'title'."),
        ({"split": None}, "paper.yaml: tables: 1: split must be a string, not None (NoneType)."),
    ],
)
def test_wrong_data_are_refused_with_their_place(changes, message):
    with pytest.raises(TableError) as error:
        parse(paper(**changes), {}, {})
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("use", "message"),
    [
        ({}, "rows: a needs either an experiment or the reason why_not."),
        ({"experiment": "r50_c4", "why_not": "no"}, "rows: a needs either an experiment or"),
        ({"experiment": "r50_c5"}, "rows: a: experiment 'r50_c5' does not exist. Did you mean"),
        ({"experiments": "r50_c4"}, "rows: a"),
    ],
)
def test_a_row_needs_an_experiment_that_exists_or_a_reason(use, message):
    with pytest.raises(TableError) as error:
        parse_uses(Node({"rows": {"a": use}, "extra_rows": {}}, "experiments.yaml"))
    assert message in str(error.value)


def test_an_experiment_for_a_row_that_does_not_exist_is_refused():
    uses, _ = parse_uses(Node({"rows": {"b": {"why_not": "x"}}, "extra_rows": {}}, "f"))
    with pytest.raises(TableError, match=r"experiments.yaml: row 'b' does not exist"):
        parse(paper(), uses, {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2\n", "'a' stands here twice"),
        ("a: [", "is no YAML"),
        ("? [a, b]\n: 1", r"\['a', 'b'\] can be no key"),
        ("[" * 100_000, "is no YAML"),
        ("- a\n", "must be a mapping"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused(tmp_path, text, message):
    file = tmp_path / "data.yaml"
    file.write_text(text)
    with pytest.raises(TableError, match=message):
        read_data(file)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(TableError, match=r"none\.yaml cannot be read: No such file"):
        read_data(tmp_path / "none.yaml")


def test_unknown_tables_and_rows_suggest_what_there_is():
    with pytest.raises(
        TableError, match=r"Table 'class-agnostc' does not exist\. Did you mean 'class"
    ):
        find_table("class-agnostc")
    with pytest.raises(
        TableError, match=r"Row 'T2c\.alingmax' does not exist\. Did you mean 'T2c\.alignmax'"
    ):
        find_row("T2c.alingmax")
    with pytest.raises(TableError, match=r"Row of table 2c 'T2b\.softmax' does not exist"):
        find_row("T2b.softmax", find_table("2c"))
