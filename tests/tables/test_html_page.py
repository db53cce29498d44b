"""The file of the HTML report: every table and claim of the paper fits, and a place that cannot be written is told."""

import json
from dataclasses import replace

import maskrcnn_repro  # noqa: F401
from maskrcnn_repro.errors import OutputError
from maskrcnn_repro.tables.paper.claims import claims
from maskrcnn_repro.tables.paper.numbers import metrics, tables
from maskrcnn_repro.tables.report.html import Shown, write_page
from maskrcnn_repro.tables.report.model import Cell, ReportRow
from maskrcnn_repro.tables.report.report import table_columns

import pytest

from tests.helpers.html_runs import VERDICTS, Page, report_of


@pytest.fixture
def runs(tmp_path):
    return tmp_path / "output"


def test_all_of_the_papers_tables_and_claims_fit(runs):
    reports = [
        report_of(
            *(
                ReportRow(
                    r.id, r.name, cells={name: Cell(r.metrics.get(name)) for name in table.columns}
                )
                for r in table.rows.values()
            ),
            table=table.id,
            columns=table_columns(table, metrics()),
        )
        for table in tables().values()
    ]
    verdicts = [
        replace(VERDICTS[3], id=claim.id, rows=claim.rows, quantity=claim.quantity)
        for claim in claims().values()
    ]
    reports[0] = replace(reports[0], claims=tuple(verdicts))
    write_page(runs / "report.html", [Shown(report) for report in reports])
    page = Page((runs / "report.html").read_text())
    assert page.unbalanced == []
    anchors = {attrs.get("id") for attrs in page.attributes("section")}
    assert {f"table-{name}" for name in tables()} <= anchors
    rows = {attrs.get("id") for attrs in page.attributes("tr")}
    assert {f"claim-{name}" for name in claims()} <= rows
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(set(ids)) == len(ids)


def test_a_page_that_cannot_be_written_is_an_error_in_words(runs):
    runs.mkdir()
    (runs / "report.html").mkdir()
    with pytest.raises(OutputError, match=r"report\.html cannot be written"):
        write_page(runs / "report.html", ())
    assert json.dumps([path.name for path in runs.iterdir()]) == '["report.html"]'
