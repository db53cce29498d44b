"""The paper's claims at all kept levels, side by side."""

from dataclasses import replace

from maskrcnn_repro.tables.report.by_level import claims_by_level
from maskrcnn_repro.tables.report.claims_text import describe_gap, tally
from maskrcnn_repro.tables.report.model import Interval, Verdict
from maskrcnn_repro.tables.report.statistics import EARLIER, POOLED
from maskrcnn_repro.tables.report.words import DASH


def verdict(name, outcome, gap=None, ends=None, seeds=(1, 2, 3), images=1000, method=""):
    interval = Interval(*ends, 95.0, seeds, images, method) if ends else None
    pair = (("T2c.alignave", "T2c.pool"),)
    return Verdict(name, "So.", pair, "AP", ">", 0.0, 3.4, outcome, gap, interval)


def test_each_level_has_a_column_beside_the_papers_gaps():
    holds = verdict("align-ave-over-pool", "holds", 2.04, (1.0, 3.06))
    fails = replace(holds, outcome="fails", gap=-2.0, interval=None)
    alone = verdict("align-ave-over-pool", "images only", 1.0, (0.5, 1.5), (1,), 72, POOLED)
    late = replace(verdict("fcn-over-mlp", "undecided", 0.1), direction="≈", margin=1.5)
    levels = {
        # Out of the paper's order.
        "mini": [late, holds],
        "small": [alone, replace(late, outcome="missing", gap=None)],
        "empty": [verdict("align-ave-over-pool", "missing")],
        "other": [fails],
    }
    lines = claims_by_level(levels).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[:4]]
    assert cells[0] == ["claim", "claimed gap", "paper's gap", "mini", "small", "other"]
    assert cells[2] == [
        "`align-ave-over-pool`",
        "> 0",
        "+3.4",
        "+2.0 [+1.0, +3.1] holds",
        "+1.0 [+0.5, +1.5] images only",
        "-2.0 fails",
    ]
    assert cells[3] == ["`fcn-over-mlp`", "within ±1.5", "+3.4", "+0.1 undecided", DASH, DASH]
    assert lines[4:] == [
        "",
        "- mini: Of 17 claims: holds 1, fails 0, undecided 1, missing 15; seeds of an interval: 3, images: 1,000.",
        "- small: Of 17 claims: holds 0, fails 0, undecided 0, images only 1, missing 16; seeds of an interval: 1, images: 72.",
        "- other: Of 17 claims: holds 0, fails 1, undecided 0, missing 16.",
        f"- Intervals (95 %; 90 % of claims within a margin), mini: {EARLIER}; small: {POOLED}. Widths of different methods cannot be compared.",
    ]


def test_an_end_beside_a_limit_shows_the_decimal_that_tells():
    alike = replace(
        verdict("fcn-over-mlp", "undecided", 0.8, (0.04, 1.5004)), direction="≈", margin=1.5
    )
    above = verdict("fcn-over-mlp", "holds", 1.2, (0.04, 2.35))
    assert describe_gap(above) == "+1.2 [+0.04, +2.35] 95 %"
    # Zero is no limit of the other claim.
    assert describe_gap(alike) == "+0.8 [+0.040, +1.500] 95 %"
    assert describe_gap(replace(alike, interval=replace(alike.interval, high=1.46))).endswith(
        "+1.46] 95 %"
    )
    # An end that lies on a limit looks so.
    assert describe_gap(replace(alike, interval=replace(alike.interval, high=1.5))).endswith(
        "+1.5] 95 %"
    )


def test_without_a_judged_claim_there_is_no_table():
    assert claims_by_level({"mini": [verdict("fcn-over-mlp", "missing")], "small": []}) == ""


def test_claims_that_were_not_asked_are_missing_beside_others_of_the_paper_by_hand():
    alone = verdict("align-ave-over-pool", "holds")
    assert tally([alone]) == "Of 1 claim: holds 1, fails 0, undecided 0, missing 0"
    assert tally([alone], ("align-ave-over-pool", "fpn-over-c4")) == (
        "Of 2 claims: holds 1, fails 0, undecided 0, missing 1"
    )
    assert tally([replace(alone, id="of-a-plug-in")], ("fpn-over-c4",)) == (
        "Of 1 claim: holds 1, fails 0, undecided 0, missing 0"
    )
