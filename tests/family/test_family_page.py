"""The table of heads in the documentation: its numbers from a report and from measured costs, dashes without."""

import importlib.util
import json
from dataclasses import replace

from maskrcnn_repro.benchmark.heads import code_lines, sources
from maskrcnn_repro.errors import TableError
from maskrcnn_repro.tables.paper.additions import register_table
from maskrcnn_repro.tables.paper.experiments import all_experiments, experiment_config
from maskrcnn_repro.tables.paper.numbers import find_table
from maskrcnn_repro.tables.report.model import Cell, Estimate, Interval, ReportRow, Verdict
from maskrcnn_repro.tables.report.plain import to_json
from maskrcnn_repro.tables.report.readme import split_readme
from maskrcnn_repro.tables.report.words import DASH

import pytest

from tests.helpers.html_runs import report_of, write_record
from tests.helpers.paths import ROOT

spec = importlib.util.spec_from_file_location("write_family", ROOT / "scripts/write_family.py")
write_family = importlib.util.module_from_spec(spec)
spec.loader.exec_module(write_family)

pytestmark = pytest.mark.usefixtures("nothing_added")
INTERVAL = Interval(1.0, 3.0, 95.0, (1, 2, 3), 1000)


def timing(ratio, low, high, memory, rounds=5):
    """What the benchmark says of an image or a step."""
    quartiles = {"value": ratio, "low": low, "high": high}
    return {"ratio": quartiles, "peak_memory": memory, "seconds": [1.0] * rounds}


COSTS = {
    "parameters": 71_390_991,
    "multiply_adds": 211_115_827_200,
    "image": timing(1.25, low=1.2, high=1.5, memory=2**30),
    "step": timing(1.5, low=1.2, high=1.6, memory=3 * 2**30),
    "lines": 200,
}


@pytest.fixture
def page(tmp_path):
    page = tmp_path / "family.md"
    page.write_text("Head.\n<!-- results:begin -->\nold\n<!-- results:end -->\nTail.\n")
    return page


def cells_of(page, name):
    lines = split_readme(page)[1].splitlines()
    (line,) = [text for text in lines if text.startswith(f"| {name} ")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_without_runs_there_are_dashes_and_the_claims(page):
    write_family.write(None, None, page)
    assert page.read_text().startswith("Head.\n<!-- results:begin -->\n| head")
    assert page.read_text().endswith("<!-- results:end -->\nTail.\n")
    cells = cells_of(page, "Cascade Mask R-CNN")
    assert cells[2:] == [DASH, DASH, "AP75 bb > Mask R-CNN", *[DASH] * 6]
    names = [name for name in register_table(write_family.TABLES) if name != "family_seconds"]
    tables = [find_table(name) for name in names]
    heads = [row for table in tables for row in table.rows.values() if row.experiment]
    assert page.read_text().count("\n| ") == len(tables) + len(heads)


def test_numbers_stand_in_their_cells_by_hand(page, tmp_path):
    register_table(write_family.TABLES)
    gap = Cell(None, None, Estimate.of({1: 42.0}), Estimate.of({1: 2.0}), INTERVAL)
    less = Cell(None, None, Estimate.of({1: 41.0}), Estimate.of({1: 1.0}))
    row = ReportRow(
        "family.cascade", "Cascade Mask R-CNN", "x", cells={"AP": gap, "AP-seconds": less}
    )
    plain = ReportRow("family.plain", "Mask R-CNN", "y", cells={"AP": gap, "AP-seconds": less})
    origin = [write_record(tmp_path / name, 1, 1, 1, experiment=name) for name in "xy"]
    verdict = Verdict(
        "cascade-stricter", "So.", (("family.cascade", "family.plain"),), "bbAP75", ">", 0.0,
        None, "holds", 4.0, INTERVAL, "",
    )  # fmt: skip
    report = replace(report_of(row, plain), table="family", claims=(verdict,), origin=tuple(origin))
    (tmp_path / "family.json").write_text(json.dumps(to_json(report)))
    (tmp_path / "heads.json").write_text(json.dumps({"heads": {"Cascade Mask R-CNN": COSTS}}))
    write_family.write(tmp_path / "family.json", tmp_path / "heads.json", page)
    assert cells_of(page, "Cascade Mask R-CNN")[2:] == [
        "+2.0 [+1.0, +3.0] 95 %",
        "+1.0",
        "AP75 bb > Mask R-CNN",
        "holds: +4.0 [+1.0, +3.0] 95 %",
        "71.39",
        "211.1",
        "1.25 times, 1.0 GiB",
        "3.0 GiB",  # the ratio's quartiles are 27 % of it apart
        "200",
    ]


def test_a_ratio_of_few_rounds_is_no_steady_one():
    """Ratios of 0.75 and 1.15 have quartiles that are 21 % of their middle apart."""
    few = timing(0.95, low=0.85, high=1.05, memory=2**30, rounds=2)
    assert write_family._time(few) == "1.0 GiB"
    assert write_family._time(few | {"seconds": [1.0] * 5}) == "0.95 times, 1.0 GiB"


def test_the_page_counts_the_lines_of_code_that_there_are():
    """A change of a head's code changes the last column of the table in docs/family.md."""
    names = [name for name in register_table(write_family.TABLES) if name != "family_seconds"]
    tables = [find_table(name) for name in names]
    rows = {row.name: row for table in tables for row in table.rows.values() if row.experiment}
    counted = {}
    for name, row in rows.items():
        plugins = experiment_config(all_experiments()[row.experiment]).get("PLUGINS", ())
        counted[name] = str(sum(map(code_lines, sources(plugins))) or DASH)
    shown = {name: cells_of(write_family.PAGE, name)[-1] for name in rows}
    assert shown == counted | {"Charts alone": DASH}


def test_a_file_that_is_no_report_is_named(page, tmp_path):
    (tmp_path / "family.json").write_text("{}")
    with pytest.raises(TableError, match=r"family\.json is no report of a table: Report lacks"):
        write_family.write(tmp_path / "family.json", None, page)
    assert "old" in page.read_text()
