"""What lies in ``results/`` is what today's code writes from its records, to the byte."""

import json

import maskrcnn_repro  # noqa: F401
from maskrcnn_repro.tables.paper.claims import claims

import pytest

from tests.helpers.kept_results import NAMES, RESULTS, rendered, stored_json


@pytest.mark.parametrize("name", NAMES)
def test_a_kept_table_is_rendered_again_to_the_byte(name):
    tree, text = rendered(name)
    assert tree == stored_json(name)
    assert text == (RESULTS / f"{name}.md").read_text(encoding="utf-8")


def test_every_kept_table_has_both_files():
    assert {path.with_suffix("") for path in RESULTS.rglob("tables/*.md")} == {
        RESULTS / name for name in NAMES
    }


@pytest.mark.parametrize("folder", sorted({name.rpartition("/tables")[0] for name in NAMES}))
def test_kept_claims_are_those_of_the_tables_beside_them(folder):
    files = (RESULTS / folder / "tables").glob("*.json")
    kept = [claim for file in files for claim in json.loads(file.read_text())["claims"]]
    kept.sort(key=lambda claim: list(claims()).index(claim["id"]))
    text = json.dumps({"claims": kept}, indent=2, ensure_ascii=False) + "\n"
    assert text == (RESULTS / folder / "claims.json").read_text(encoding="utf-8")
