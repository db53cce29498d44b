"""The page of findings is not written from damaged results, and no part of them vanishes from it."""

import json
import re
import shutil

from maskrcnn_repro.errors import TableError
from maskrcnn_repro.tables.report.html import Shown, write_page
from maskrcnn_repro.tables.report.kept_reading import kept_report
from maskrcnn_repro.tables.report.readme import readme_block, results_block

import pytest

from tests.helpers.html_runs import Page
from tests.helpers.paths import ROOT


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"record": None}, "is no kept record: it lacks 'record'"),
        ({"kind": None}, "is no kept record: it lacks 'kind'"),
        ({"level": 3}, "is no kept record: it lacks 'level'"),
        ({"metrics": {}}, "is no kept record: it has no metrics"),
        ({"train_seconds": "long"}, "is no result of this project: 'long' is no finite number"),
        ({"train_seconds": float("nan")}, "is no result of this project: nan is no finite number"),
        ({"seed": "1"}, "is no result of this project: '1' is no whole number"),
        ({"code": None}, "is no result of this project: a value is of another type"),
    ],
)
def test_findings_are_not_written_from_a_damaged_record(tmp_path, changed, said):
    folder = shutil.copytree(ROOT / "results/mini-greyscale", tmp_path / "mini-greyscale")
    file = folder / "embedded/rpn_r50_c4/seed1.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changed}))
    with pytest.raises(TableError, match=f"^{re.escape(f'{file} {said}')}"):
        results_block(tmp_path)


def test_a_level_does_not_vanish_with_its_claims(tmp_path):
    folder = shutil.copytree(ROOT / "results/mini-greyscale", tmp_path / "mini-greyscale")
    (folder / "embedded/claims.json").unlink()
    (folder / "embedded/seeds.json").write_text("{}")
    with pytest.raises(TableError, match=r"claims\.json cannot be read: No such file"):
        results_block(tmp_path)


def test_claims_of_another_time_than_the_tables_are_refused(tmp_path):
    folder = shutil.copytree(ROOT / "results/mini-double_size", tmp_path / "mini-double_size")
    block = readme_block(tmp_path)
    file = folder / "embedded/claims.json"
    text = file.read_text()
    file.write_text(text.replace('"fails"', '"holds"'))
    with pytest.raises(
        TableError, match=r"claims\.json is not of the tables beside it; save these"
    ):
        readme_block(tmp_path)
    file.write_text("{}")
    with pytest.raises(TableError, match=r"claims\.json holds no claims"):
        readme_block(tmp_path)
    file.write_text(text)
    assert readme_block(tmp_path) == block


def test_a_table_names_records_of_its_own_level_alone(tmp_path):
    folder = shutil.copytree(ROOT / "results/mini-greyscale", tmp_path / "mini-greyscale")
    file = folder / "embedded/tables/class-agnostic.json"
    tree = json.loads(file.read_text())
    place = f"../embedded/{tree['origin'][0]['results']}"
    tree["origin"][0]["results"] = place
    file.write_text(json.dumps(tree))
    with pytest.raises(TableError, match=f"^{re.escape(f'{file} names {place!r}, which is no')}"):
        results_block(tmp_path)


@pytest.mark.parametrize(
    "changed", [{"iterations": "many"}, {"code": ["a"]}, {"machine": "a"}, {"train_seconds": "x"}]
)
def test_a_damaged_record_is_named_below_its_table_and_costs_its_facts_alone(tmp_path, changed):
    folder = shutil.copytree(ROOT / "results/mini-nucleus", tmp_path / "mini-nucleus")
    file = folder / "embedded/r50_c4/seed1.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changed}))
    report, _ = kept_report("2c", "mini-nucleus", tmp_path)
    assert f"2c.json was made from a lost record: {file} is no result" in " ".join(report.notes)
    write_page(tmp_path / "page.html", [Shown(report)])
    page = Page((tmp_path / "page.html").read_text())
    assert "r50_c4" in " ".join(page.text_of("span", class_="run"))
    with pytest.raises(TableError, match="maskrcnn table 2c --level mini --overlay FOLDER/nucleus"):
        results_block(tmp_path)
