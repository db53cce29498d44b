"""What is said of a claim that does not hold: beside the outcome it was written for, and nowhere else."""

from dataclasses import replace

from maskrcnn_repro.errors import TableError
from maskrcnn_repro.tables.paper.claims import claims
from maskrcnn_repro.tables.paper.data_file import FOLDER, Node, read_data
from maskrcnn_repro.tables.report import explanations as module
from maskrcnn_repro.tables.report.explanations import explanation, parse_explanations
from maskrcnn_repro.tables.report.verdict_layout import claims_markdown, explained, verdict_json
from maskrcnn_repro.tables.report.verdicts import Verdict

import pytest

FAILS = Verdict(claims()["warp-like-pool"], "fails", 4.0)
WRITTEN = {"outcome": "fails", "because": "Few cells.", "would_tell": "Larger images."}


@pytest.fixture
def written(monkeypatch):
    made = parse_explanations(Node({"mini": {"warp-like-pool": dict(WRITTEN)}}, "file"))
    monkeypatch.setattr(module, "_read", lambda: made)


@pytest.mark.usefixtures("written")
def test_it_stands_beside_its_outcome_at_its_level():
    assert explanation(FAILS, "mini").because == "Few cells."
    assert explanation(FAILS, "mini-nucleus") is None
    assert explanation(replace(FAILS, outcome="holds"), "mini") is None
    assert explanation(replace(FAILS, claim=claims()["fpn-over-c4"]), "mini") is None


@pytest.mark.usefixtures("written")
def test_console_and_markdown_tell_it():
    told = "warp-like-pool fails, as we see it: Few cells. What would tell: Larger images."
    here, elsewhere = (verdict_json(FAILS, level) for level in ("mini", "paper"))
    assert explained([here, elsewhere]) == [told]
    assert claims_markdown([here]).endswith(f"\n\n- {told}")
    assert "as we see it" not in claims_markdown([elsewhere])
    here["explanation"]["told"] = "The gap shrank."
    assert explained([here]) == [f"{told} It told: The gap shrank."]
    # What earlier versions saved has no such keys.
    del here["explanation"]["told"]
    assert explained([here]) == [told]
    del here["explanation"]
    assert explained([here]) == []


def test_those_that_come_with_the_package_are_whole():
    found = parse_explanations(read_data(FOLDER / "explanations.yaml"))
    for one in (one for level in found.values() for one in level.values()):
        assert one.outcome in {"fails", "undecided"}
        assert one.because.endswith(".")
        assert one.would_tell.endswith(".")
        assert one.told is None or one.told.endswith(".")


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
        parse_explanations(Node({"mini": {name: dict(one) for name, one in tree.items()}}, "file"))
