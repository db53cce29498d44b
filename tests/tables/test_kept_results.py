"""What lies in ``results/``: every text follows from its JSON, byte for byte, and a fresh clone shows it."""

import json
import re
import shutil

from maskrcnn_repro import _location
from maskrcnn_repro.errors import TableError
from maskrcnn_repro.tables.report.exchange import files as exchange
from maskrcnn_repro.tables.report.explanations import explanation
from maskrcnn_repro.tables.report.html.claims import claim_ends
from maskrcnn_repro.tables.report.kept import json_text
from maskrcnn_repro.tables.report.kept_reading import KeptReports, kept_report, read_report
from maskrcnn_repro.tables.report.model import Interval, Report, Verdict
from maskrcnn_repro.tables.report.plain import from_json, to_json
from maskrcnn_repro.tables.report.statistics import EARLIER, METHODS, POOLED
from maskrcnn_repro.tables.report.text import as_markdown
from maskrcnn_repro.tables.report.words import format_with_minus
from maskrcnn_repro.tables.runs.reading import read_json

import pytest

from tests.helpers.commands import table as main_table
from tests.helpers.html_runs import Page
from tests.helpers.kept_results import FILES, NAMES, RESULTS, rendered, stored_json

ADDED = ("columns", "gap_of", "derived", "note", "experiment", "split", "method", "margin_reason")
"""Keys of rows, runs and intervals that files of the first version lack."""


def name_of(file):
    return file.relative_to(RESULTS).as_posix()


@pytest.mark.parametrize("name", NAMES)
def test_a_kept_table_is_rendered_again_from_its_records_to_the_byte(name):
    tree, text = rendered(name)
    assert tree == stored_json(name)
    assert text == (RESULTS / f"{name}.md").read_text()


def test_every_kept_table_has_both_files():
    assert {path.with_suffix("") for path in RESULTS.rglob("tables/*.md")} == {
        RESULTS / name for name in NAMES
    }


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_markdown_and_json_follow_from_the_json(file):
    report = read_report(file)
    assert as_markdown(report) == file.with_suffix(".md").read_text()
    assert json_text(to_json(report)) == file.read_text()


@pytest.mark.parametrize("folder", sorted(RESULTS.glob("*/*")), ids=name_of)
def test_claims_are_those_of_the_tables(folder):
    if not (folder / "tables").is_dir():
        pytest.skip("no tables are kept of it")
    claims = [from_json(Verdict, tree) for tree in read_json(folder / "claims.json")["claims"]]
    tables = KeptReports(folder).tables.values()
    assert sorted(claims, key=str) == sorted((v for table in tables for v in table.claims), key=str)


def intervals(value):
    if isinstance(value, dict):
        if {"low", "high"} <= set(value):
            yield value
        value = list(value.values())
    for item in value if isinstance(value, list) else ():
        yield from intervals(item)


@pytest.mark.parametrize("file", [*FILES, *RESULTS.glob("*/*/claims.json")], ids=name_of)
def test_every_kept_interval_names_its_method(file):
    methods = {each.get("method") for each in intervals(json.loads(file.read_text()))}
    assert methods <= {*METHODS, EARLIER}


def first_version(value, key=""):
    """Return a tree as the first version wrote it: rows, runs and intervals had fewer keys."""
    if isinstance(value, list):
        return [first_version(item, key) for item in value]
    if not isinstance(value, dict):
        return value
    drop = set(ADDED) - (
        {"experiment"} if key == "rows" else {"note"} if key == "claims" else set()
    )
    return {name: first_version(item, name) for name, item in value.items() if name not in drop}


# A file of the first version names no method of its intervals, which is then the earlier one.
OF_FIRST_METHOD = [
    file
    for file in FILES
    if {each.get("method") for each in intervals(read_json(file))} <= {EARLIER}
]


@pytest.mark.parametrize("file", OF_FIRST_METHOD, ids=name_of)
def test_a_file_of_the_first_version_gives_the_same_text(file, tmp_path):
    old = tmp_path / file.name
    old.write_text(json_text(first_version(read_json(file))))
    assert '"method": ' not in old.read_text()
    assert as_markdown(read_report(old)) == file.with_suffix(".md").read_text()
    # Written again it is the same file: nothing is invented.
    assert json_text(to_json(from_json(Report, read_json(old)))) == old.read_text()


def test_an_interval_is_read_as_it_was_written():
    interval = Interval(-0.25, 1.5, 90.0, (1, 2), 1000, POOLED)
    tree = to_json(interval)
    assert tree == {
        "low": -0.25, "high": 1.5, "level": 90.0, "seeds": [1, 2], "images": 1000, "method": POOLED,
    }  # fmt: skip
    assert from_json(Interval, tree) == interval
    del tree["method"]
    assert from_json(Interval, tree).method == ""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{}", "Report lacks 'table'"),
        ('{"table": "2c", "rows": 3}', "Report lacks 'title'"),
        ("[]", "it holds no results"),
        ("{", "Expecting property name"),
        ('{"table": 2, "rows": 3}', "2 is no text."),
    ],
)
def test_a_kept_report_that_is_none_is_named_once(tmp_path, text, reason):
    (tmp_path / "2c.json").write_text(text)
    with pytest.raises(TableError, match=f"2c.json cannot be read: {reason}") as told:
        read_report(tmp_path / "2c.json")
    assert str(told.value).count("cannot be read") == 1
    assert not str(told.value).endswith("..")


@pytest.mark.parametrize(
    ("kind", "tree", "said"),
    [
        (Verdict, {"outcome": "maybe"}, "'maybe' is none of 'holds', 'fails', 'undecided'"),
        (Verdict, {"gap": float("nan")}, "nan is no number below 1e+12"),
        (Interval, {"seeds": 1}, "1 is no list of as many values as it should be"),
        (Interval, {"images": 1.5}, "1.5 is no whole number below 1e+12"),
        (Report, {"notes": [True]}, "True is no text"),
    ],
)
def test_a_value_of_another_type_is_told_in_words(kind, tree, said):
    report = read_report(RESULTS / "mini/embedded/tables/2c.json")
    claim = next(claim for claim in report.claims if claim.interval)
    whole = {Report: report, Verdict: claim, Interval: claim.interval}[kind]
    with pytest.raises(TypeError, match=re.escape(said)):
        from_json(kind, {**to_json(whole), **tree})


def test_a_kept_table_of_another_place_is_refused(tmp_path):
    folder = tmp_path / "mini/embedded/tables"
    folder.mkdir(parents=True)
    file = folder / "2c.json"
    for source, said in (
        ("mini/embedded/tables/2d.json", "is of table '2d', level 'mini', not of its place"),
        ("mini-nucleus/embedded/tables/2c.json", "is of table '2c', level 'mini-nucleus', not of"),
    ):
        shutil.copy(RESULTS / source, file)
        sentence = f"{file} {said}"
        with pytest.raises(TableError, match=f"^{re.escape(sentence)}"):
            kept_report("2c", "mini", tmp_path)
        with pytest.raises(TableError, match=f"^{re.escape(sentence)}"):
            KeptReports(folder.parent).tables  # noqa: B018


def test_the_kept_page_is_small_whole_and_of_the_kept_numbers():
    text = (RESULTS / "mini/report.html").read_text()
    assert len(text) < 2_000_000
    page = Page(text)
    assert page.unbalanced == []
    assert not re.search(r"[\s(](/[\w.-]+){3,}", re.sub(r'src="data:[^"]+"', "", text))
    claims = [
        from_json(Verdict, tree)
        for tree in read_json(RESULTS / "mini/embedded/claims.json")["claims"]
    ]
    measured = page.text_of("td", class_="num")[::2]
    for claim, said in zip(claims, measured, strict=True):
        low, high = claim_ends(claim)
        level = f"{claim.interval.level:.0f}"
        assert said == f"ours {format_with_minus(claim.gap)}{level} %: {low} to {high}", claim.id
    kept = page.text_of("p", class_="kept")
    assert sum("Curves and pictures: not kept." in text for text in kept) == 13
    (other,) = (text for text in kept if "are of other runs of these rows: seeds 1, 2, 3" in text)
    assert "RoIPool" in other
    # Ground truth and six rows, four images each.
    assert len(page.attributes("img")) == 4 * 7


# --- --report in a fresh clone


def test_a_fresh_clone_shows_the_kept_report_and_says_so(tmp_path, capsys):
    assert main_table(["2c", "--report", "--output", str(tmp_path)]) == 0
    first, title, *rest = capsys.readouterr().out.strip().splitlines()
    assert first.startswith("As kept in results/mini/")
    assert first.endswith(f"(there is no run in {tmp_path / 'mini'}):")
    assert title.startswith("Table 2c")
    kept, _ = kept_report("2c", "mini", RESULTS)
    gap = next(verdict for verdict in kept.claims if verdict.id == "align-ave-over-pool")
    (line,) = (line for line in rest if line.startswith("claim align-ave-over-pool"))
    assert f"{gap.gap:+.1f} [{gap.interval.low:+.1f}, {gap.interval.high:+.1f}] 95 %" in line
    # The page is there; a table of no runs is not written beside them.
    assert "Curves and pictures: not kept." in (tmp_path / "mini/report.html").read_text()
    assert not (tmp_path / "mini/tables").exists()


@pytest.mark.embedded_only
def test_rows_of_a_kept_report_can_be_looked_at_alone(tmp_path, capsys):
    assert main_table(["2c", "--report", "--rows", "pool", "--output", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "RoIPool" in printed
    assert "RoIWarp max" not in printed
    assert "\n3 records, last of" in printed


def test_kept_files_that_cannot_be_read_are_told(tmp_path, capsys, monkeypatch):
    results = tmp_path / "results"
    shutil.copytree(RESULTS / "mini/embedded/tables", results / "mini/embedded/tables")
    (results / "mini/embedded/tables/2c.json").write_text("{")
    monkeypatch.setattr(_location, "RESULTS", results)
    assert main_table(["2c", "--report", "--output", str(tmp_path)]) == 2
    assert "2c.json cannot be read" in capsys.readouterr().err


def test_what_is_lost_beside_a_kept_table_is_told(tmp_path):
    place = tmp_path / "mini/embedded"
    shutil.copytree(RESULTS / "mini/embedded", place)
    assert kept_report("2c", "mini", tmp_path)[0].notes == ()
    (place / "r50_c4/seed2.json").unlink()
    shutil.copy(place / "r50_c4/seed3.json", place / "r50_c4/seed1.json")
    (place / "claims.json").write_text('{"claims": [')
    other, lost, claims = kept_report("2c", "mini", tmp_path)[0].notes
    table = place / "tables/2c.json"
    assert lost == (
        f"{table} was made from a lost record: {place / 'r50_c4/seed2.json'} cannot be read: No such file or directory."
    )
    assert other == f"{table} was made from another run than {place / 'r50_c4/seed1.json'} holds."
    assert claims.startswith(f"{place / 'claims.json'} cannot be read: ")


def test_a_damaged_comparison_of_operations_is_named_and_not_replaced_by_nothing(tmp_path):
    folder = shutil.copytree(RESULTS / "small/embedded", tmp_path / "small/embedded")
    report = kept_report("2c", "small", tmp_path)[0]
    assert exchange.find_stored(report)
    assert exchange.damage(report) == ""
    file, picture = folder / exchange.FILE, folder / exchange.PNG
    tree, pixels = read_json(file), picture.read_bytes()
    picture.write_bytes(b"abc")
    assert exchange.damage(report) == f"{picture} is not the picture of exchange.json"
    picture.write_bytes(pixels)
    for changed, said in (
        ({**tree, "sizes": []}, "an object is pictured, and none is counted"),
        ({**tree, "pictured": {**tree["pictured"], "cell": [0, 0]}}, "a cell of"),
    ):
        file.write_text(json.dumps(changed))
        assert exchange.find_stored(report) is None
        assert exchange.damage(report).startswith(f"{file}: {said}")
    # Where runs are added to kept records it stays for whoever mends it.
    exchange.keep(report, folder, adds=True)
    assert file.is_file()
    exchange.keep(report, folder)
    assert not file.exists()
    assert exchange.damage(report) == ""


def test_another_backends_report_stands_in_for_none(tmp_path):
    shutil.copytree(RESULTS / "mini/embedded/tables", tmp_path / "mini/other/tables")
    report, folder = kept_report("2c", "mini", tmp_path)
    assert (report.table, folder) == ("2c", tmp_path / "mini/other")
    assert kept_report("2c", "paper", tmp_path) is None


@pytest.mark.parametrize("words", [["--eval-only"], ["--report", "--save-records"]])
def test_kept_reports_are_neither_evaluated_nor_saved_again(words, tmp_path, capsys):
    assert main_table(["2c", "--kept", *words, "--output", str(tmp_path)]) == 2
    assert f"so that {words[-1]} would be ignored" in capsys.readouterr().err


def test_runs_are_added_where_the_kept_records_are(tmp_path, capsys):
    words = ["2c", "--kept", "--seeds", "3", "--report", "--save-records"]
    assert main_table([*words, str(tmp_path), "--output", str(tmp_path)]) == 2
    said = f"adds runs to the records in {RESULTS}, not to those in {tmp_path}."
    assert said in capsys.readouterr().err


def test_no_kept_seed_is_left_out_of_a_table_that_is_saved(tmp_path, capsys):
    words = ["2c", "--kept", "--seeds", "2", "--report", "--save-records", str(RESULTS)]
    assert main_table([*words, "--output", str(tmp_path)]) == 2
    assert "seed 3 is kept, and the tables saved with it would be without it" in " ".join(
        capsys.readouterr().err.split()
    )


def test_a_kept_claim_has_todays_words_and_its_own_numbers(tmp_path):
    folder = tmp_path / "results/mini/embedded"
    shutil.copytree(RESULTS / "mini/embedded", folder)
    file = folder / "claims.json"
    tree = json.loads(file.read_text())
    claim = next(claim for claim in tree["claims"] if claim["id"] == "warp-like-pool")
    claim |= {
        "margin_reason": "Of old.",
        "explanation": {"because": "Of old.", "would_tell": "No."},
    }
    file.write_text(json.dumps(tree))
    verdict = next(v for v in KeptReports(folder).verdicts if v.id == "warp-like-pool")
    assert verdict.margin_reason.startswith("Our choice: 1.5")
    assert verdict.explanation == explanation("warp-like-pool", "fails", "mini")
    assert verdict.gap == claim["gap"]
