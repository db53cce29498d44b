"""What is said of a claim that does not hold: beside the outcome it was written for, and nowhere else."""

from dataclasses import replace

from maskrcnn_repro.errors import TableError
from maskrcnn_repro.tables.paper.claims import claims
from maskrcnn_repro.tables.paper.data_file import FOLDER, Node, read_data
from maskrcnn_repro.tables.report import explanations as module
from maskrcnn_repro.tables.report.claims_text import claims_markdown, explain_failures
from maskrcnn_repro.tables.report.explanations import explanation, parse_explanations
from maskrcnn_repro.tables.report.model import Explanation, Verdict
from maskrcnn_repro.tables.report.plain import from_json, to_json

import pytest

WRITTEN = {"outcome": "fails", "because": "Few cells.", "would_tell": "Larger images."}


@pytest.fixture
def written(monkeypatch):
    explanations = parse_explanations(Node({"mini": {"warp-like-pool": dict(WRITTEN)}}, "file"))
    monkeypatch.setattr(module, "_read", lambda: explanations)


@pytest.mark.usefixtures("written")
def test_it_stands_beside_its_outcome_at_its_level():
    assert explanation("warp-like-pool", "fails", "mini").because == "Few cells."
    assert explanation("warp-like-pool", "fails", "mini-nucleus") is None
    assert explanation("warp-like-pool", "holds", "mini") is None
    assert explanation("fpn-over-c4", "fails", "mini") is None


def test_console_and_markdown_tell_it():
    told = "warp-like-pool: fails. Hypothesis: Few cells. Deciding run: Larger images."
    claim = claims()["warp-like-pool"]
    asked = claim.id, claim.statement, claim.rows, claim.quantity, claim.direction, claim.margin
    elsewhere = Verdict(*asked, claim.paper_gap, "fails", 4.0)
    here = replace(elsewhere, explanation=Explanation("Few cells.", "Larger images."))
    assert explain_failures([here, elsewhere]) == [told]
    assert claims_markdown([here]).endswith(f"\n\n- {told}")
    assert "Hypothesis" not in claims_markdown([elsewhere])
    shrank = replace(here, explanation=replace(here.explanation, told="The gap shrank."))
    assert explain_failures([shrank]) == [f"{told} Result: The gap shrank."]
    # What earlier versions saved has no such keys.
    tree = to_json(here)
    del tree["explanation"]["told"]
    assert from_json(Verdict, tree) == here
    del tree["explanation"]
    assert from_json(Verdict, tree) == elsewhere


def test_those_that_come_with_the_package_are_whole():
    levels = parse_explanations(read_data(FOLDER / "explanations.yaml"))
    for outcome, entry in (pair for level in levels.values() for pair in level.values()):
        assert outcome in {"fails", "undecided", "too little learnt"}
        assert entry.because.endswith(".")
        assert entry.would_tell.endswith(".")
        assert entry.told is None or entry.told.endswith(".")


@pytest.mark.parametrize(
    ("tree", "text"),
    [
        (
            {"warp-like-pol": WRITTEN},
            "Claim 'warp-like-pol' does not exist. Did you mean 'warp-like-pool'",
        ),
        (
            {"warp-like-pool": WRITTEN | {"outcome": "failed"}},
            "outcome 'failed' is none of holds, fails",
        ),
        ({"warp-like-pool": {"outcome": "fails"}}, "mini: warp-like-pool lacks 'because'"),
    ],
)
def test_mistakes_are_named(tree, text):
    with pytest.raises(TableError, match=text):
        parse_explanations(
            Node({"mini": {name: dict(fields) for name, fields in tree.items()}}, "file")
        )
