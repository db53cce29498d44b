"""Whether a finding of the paper holds here: its gap, how sure that is, and what follows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from maskrcnn_repro.tables.paper.claims import Claim
from maskrcnn_repro.tables.paper.numbers import Row
from maskrcnn_repro.tables.report.evidence import Comparison, Evidence
from maskrcnn_repro.tables.report.statistics import Interval

Outcome = Literal["holds", "fails", "undecided", "missing"]
LEVELS = {">": 95.0, "≥": 95.0, "≈": 90.0}
"""Direction of a claim to the confidence, per cent, of the interval that decides it. Two models are alike if both
one-sided tests at 5 % say that neither is better by more than the margin: that is the 90 % interval."""
ONE_SEED = "one seed: images alone"


@dataclass(frozen=True)
class Verdict:
    """What the records say of a claim.

    Attributes:
        claim: the claim.
        outcome: ``holds``; ``fails``: the opposite holds; ``undecided``: the records cannot tell;
            ``missing``: a row has no record.
        gap: mean over seeds, AP points; None if a row is missing.
        interval: the one that decides; None without a gap, or if the images cannot be drawn again.
        note: what a reader should know beside it; may be empty.
    """

    claim: Claim
    outcome: Outcome
    gap: float | None = None
    interval: Interval | None = None
    note: str = ""


def judge(direction: str, margin: float, found: Interval) -> Outcome:
    """Return what an interval says: it lies wholly where the claim has it, wholly elsewhere, or neither.

    Args:
        direction: ``>``, ``≥`` or ``≈``.
        margin: of ``≈``, AP points.
        found: at the level of :data:`LEVELS`.
    """
    low, high = found.low, found.high
    if direction == "≈":
        holds, fails = -margin <= low and high <= margin, low > margin or high < -margin
    else:
        holds, fails = low > 0 or (direction == "≥" and low == 0), high < 0
    return "holds" if holds else "fails" if fails else "undecided"


def verdicts(
    claims: Iterable[Claim], evidence: Evidence, rows: Mapping[str, Row]
) -> tuple[Verdict, ...]:
    """Judge claims by the records of their rows.

    Args:
        claims: in the order of the result.
        evidence: with the records of the experiments of all their rows.
        rows: the rows that claims name, by id.
    """
    return tuple(_verdict(one, evidence, rows) for one in claims)


def claim_rows(claim: Claim) -> list[str]:
    """Return the ids of a claim's rows, each once."""
    return list(dict.fromkeys(row for pair in claim.rows for row in pair))


def _verdict(claim: Claim, evidence: Evidence, rows: Mapping[str, Row]) -> Verdict:
    compared = [rows[row] for row in claim_rows(claim)]
    absent = [row for row in compared if not evidence.records(row)]
    if absent:
        note = f"no record of {', '.join(row.id for row in absent)}"
        refused = sum(len(evidence.found.refused.get(row.experiment or "", ())) for row in absent)
        return Verdict(claim, "missing", note=f"{note}; left out: {refused}" if refused else note)
    level = LEVELS[claim.direction]
    found = evidence.compare(compared, claim.metrics(), claim.gap, level)
    if found is None:
        return Verdict(claim, "missing", note=f"no seed with {claim.quantity} of all its rows")
    outcome = (
        judge(claim.direction, claim.margin, found.interval) if found.interval else "undecided"
    )
    more = {seed for row in compared for seed in evidence.records(row)} - set(found.seeds)
    return Verdict(claim, outcome, found.gap, found.interval, _note(found, more))


def _note(found: Comparison, more: Iterable[int]) -> str:
    texts = [found.note]
    if found.interval and len(found.seeds) == 1:
        texts.append(ONE_SEED)
    if set(more) - set(found.left_out):
        seeds = ", ".join(map(str, found.seeds))
        texts.append(f"on seed{'s' * (len(found.seeds) > 1)} {seeds}, which all rows have")
    if found.left_out:
        texts.append(f"images of seed {', '.join(map(str, found.left_out))} cannot be drawn again")
    return "; ".join(text for text in texts if text)
