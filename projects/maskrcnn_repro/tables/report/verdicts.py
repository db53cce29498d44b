"""Whether a finding of the paper holds here: its gap, how sure that is, and what follows."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping

from maskrcnn_repro.tables.paper.claims import Claim
from maskrcnn_repro.tables.paper.numbers import Row
from maskrcnn_repro.tables.report.evidence import Comparison, Evidence
from maskrcnn_repro.tables.report.explanations import explanation
from maskrcnn_repro.tables.report.model import Interval, Verdict
from maskrcnn_repro.tables.report.statistics import OWN, chance_beyond
from maskrcnn_repro.tables.report.words import Outcome

LEVELS = {">": 95.0, "≥": 95.0, "≈": 90.0}
"""Direction of a claim to the confidence, per cent, of the interval that decides it. Two models are alike if both
one-sided tests at 5 % say that neither is better by more than the margin: that is the 90 % interval."""
LEARNT = 1.0
"""AP points that at least one row of each compared pair must reach in a claimed metric: models that have learnt nothing
are alike, and none of them is better."""
LEARNT_MARGINS = 2.0
"""So many times the margin of a claim that must be, too: rows below the margin cannot but lie within it."""


_OF_A_PAIR = {1: "", 2: " of a pair"}
OWN_SPREAD = "by the spread of its own seeds alone"


def judge(direction: str, margin: float, interval: Interval) -> Outcome:
    """Return what an interval says: it lies wholly where the claim has it, wholly elsewhere, or neither.

    Args:
        direction: ``>``, ``≥`` or ``≈``.
        margin: of ``≈``, AP points.
        interval: at the level of :data:`LEVELS`.
    """
    low, high = interval.low, interval.high
    if direction == "≈":
        holds, fails = -margin <= low and high <= margin, low > margin or high < -margin
    else:
        holds, fails = low > 0 or (direction == "≥" and low == 0), high < 0
    return "holds" if holds else "fails" if fails else "undecided"


def p_value(direction: str, margin: float, gap: float, interval: Interval) -> float:
    """Return the p-value that belongs to :func:`judge`: at most 0.05 where the interval decides.

    Of ``≈`` within the margin it is the larger one of two one-sided tests, that the gap is not below nor above; past
    the margin that of being no further away than the margin. Otherwise it is two-sided.
    """
    if direction == "≈":
        return chance_beyond(interval, abs(margin - abs(gap)))
    return 2 * chance_beyond(interval, abs(gap))


def verdicts(
    claims: Iterable[Claim], evidence: Evidence, rows: Mapping[str, Row], level: str
) -> tuple[Verdict, ...]:
    """Judge claims by the records of their rows.

    Args:
        claims: in the order of the result.
        evidence: with the records of the experiments of all their rows.
        rows: the rows that claims name, by id.
        level: that the records are of, such as ``mini`` or ``mini-nucleus``.
    """
    return tuple(_verdict(claim, evidence, rows, level) for claim in claims)


def claim_rows(claim: Claim) -> list[str]:
    """Return the ids of a claim's rows, each once."""
    return list(dict.fromkeys(row for pair in claim.rows for row in pair))


def _verdict(claim: Claim, evidence: Evidence, rows: Mapping[str, Row], level: str) -> Verdict:
    compared = [rows[row] for row in claim_rows(claim)]
    comparison = evidence.compare(compared, claim.metrics(), claim.gap, LEVELS[claim.direction])
    outcome: Outcome = "undecided" if comparison else "missing"
    note = _why_missing(claim, compared, evidence) if comparison is None else ""
    p = None
    if comparison:
        outcome, said, p = _outcome(claim, compared, comparison, evidence)
        note = "; ".join(filter(None, (said, _note(comparison, compared, evidence))))
    return Verdict(
        **vars(claim),
        outcome=outcome,
        gap=comparison.gap if comparison else None,
        interval=comparison.interval if comparison else None,
        note=note,
        explanation=explanation(claim.id, outcome, level),
        p=p,
    )


def _outcome(
    claim: Claim, compared: list[Row], comparison: Comparison, evidence: Evidence
) -> tuple[Outcome, str, float | None]:
    """Return the outcome of a gap, what a reader should know of it, and its p-value if seeds decide."""
    interval = comparison.interval
    if not _has_learnt(claim, compared, evidence):
        return (
            "too little learnt",
            f"no row{_OF_A_PAIR[len(claim.rows)]} reaches {get_least_ap(claim):g}",
            None,
        )
    if interval is None:
        return (
            ("images only", "one seed", None)
            if len(comparison.seeds) == 1
            else ("undecided", "", None)
        )
    outcome = judge(claim.direction, claim.margin, interval)
    if len(interval.seeds) == 1:
        return "images only", f"one seed; if the test images alone varied: {outcome}", None
    p = p_value(claim.direction, claim.margin, comparison.gap, interval)
    return outcome, OWN_SPREAD if interval.method == OWN else "", p


def get_least_ap(claim: Claim) -> float:
    """Return the AP points that a row must reach for a claim to be judged; see :data:`LEARNT`."""
    return max(LEARNT, LEARNT_MARGINS * claim.margin * (claim.direction == "≈"))


def _has_learnt(claim: Claim, rows: list[Row], evidence: Evidence) -> bool:
    """Tell whether in each pair a row reaches :func:`get_least_ap` in one of the claim's metrics, as a mean over its seeds."""
    by_id = {row.id: row for row in rows}

    def mean(row: Row, metric: str) -> float:
        values = evidence.values([row], [metric], lambda value: value(row.id, metric))
        return statistics.fmean(values.values())

    return all(
        any(
            mean(by_id[name], metric) >= get_least_ap(claim)
            for name in pair
            for metric in claim.metrics()
        )
        for pair in claim.rows
    )


def _why_missing(claim: Claim, compared: list[Row], evidence: Evidence) -> str:
    absent = [row for row in compared if not evidence.records(row)]
    if not absent:
        return f"no seed with {claim.quantity} of all its rows"
    refused = sum(len(evidence.gathered.refused.get(row.experiment or "", ())) for row in absent)
    left_out = f"; left out: {refused}" if refused else ""
    return f"no record of {', '.join(f'{row.name} ({row.id})' for row in absent)}{left_out}"


def _note(comparison: Comparison, compared: list[Row], evidence: Evidence) -> str:
    """Return what a reader should know of a gap between rows."""
    seeds, left_out = comparison.seeds, comparison.left_out
    texts = [comparison.note]
    if {seed for row in compared for seed in evidence.records(row)} - comparison.values.keys():
        numbers = ", ".join(map(str, seeds))
        texts.append(f"on seed{'s' * (len(seeds) > 1)} {numbers}, which all rows share")
    if left_out:
        texts.append(f"images of seed {', '.join(map(str, left_out))} cannot be drawn again")
    return "; ".join(text for text in texts if text)
