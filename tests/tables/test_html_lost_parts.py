"""A page does not take the place of one that holds more, unless it is the one beside the runs."""

import maskrcnn_repro  # noqa: F401
from maskrcnn_repro.commands import table_reports as cli
from maskrcnn_repro.commands.table_views import View
from maskrcnn_repro.tables.report.html.lost_parts import find_lost_parts
from maskrcnn_repro.tables.report.model import Origin

from tests.helpers.html_runs import report_of
from tests.helpers.paths import ROOT


def test_a_named_page_does_not_take_the_place_of_one_that_holds_more(tmp_path, capsys):
    path = tmp_path / "own.html"
    record = Origin("results.json", 1, None, "CPU", "none", {}, "2026-01-01T00:00:00+00:00")
    first, second = (View(report_of(table=name, origin=(record,)), set()) for name in ("2b", "2d"))
    assert cli.write_report_page([first, second], path, loses=False) == 0
    more = path.read_text()
    assert cli.write_report_page([second], path, loses=False) == 1
    assert capsys.readouterr().err == (
        f"Error: {path} is left as it is, for the new page would lack "
        "\N{LEFT DOUBLE QUOTATION MARK}Table 2b Two models\N{RIGHT DOUBLE QUOTATION MARK}; "
        "name another file, or remove this one first.\n"
    )
    assert path.read_text() == more
    # The page beside the runs is of the last command, whatever it was.
    assert cli.write_report_page([second], path) == 0
    assert cli.write_report_page([second, first], path, loses=False) == 0


def test_what_a_page_loses_is_told_by_section_by_hand():
    section = '<section id="{}">\n<h2><b>{}</b></h2>{}</section>'
    kept = section.format("a", "A", '<figure class="curves">') + section.format("b", "B", "")
    assert find_lost_parts(kept, kept) == []
    assert find_lost_parts(kept, section.format("a", "Another title", "")) == [
        "the curves of \N{LEFT DOUBLE QUOTATION MARK}A\N{RIGHT DOUBLE QUOTATION MARK}",
        "\N{LEFT DOUBLE QUOTATION MARK}B\N{RIGHT DOUBLE QUOTATION MARK}",
    ]
    assert find_lost_parts("<p>Any other page</p>", "") == []
    there = (ROOT / "results/mini/report.html").read_text()
    operations = (
        "\N{LEFT DOUBLE QUOTATION MARK}One object, three operations\N{RIGHT DOUBLE QUOTATION MARK}"
    )
    assert f"the measurements of {operations}" in find_lost_parts(
        there, there.replace("exchange-origin", "")
    )
