"""The paper's findings as the page shows them: outcome, gap, interval, and a strip of the gap plot."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from maskrcnn_repro.tables.paper.claims import Claim
from maskrcnn_repro.tables.paper.numbers import Metric, tables
from maskrcnn_repro.tables.report.explanations import Explanation, explanation
from maskrcnn_repro.tables.report.html.gaps import Ends, Gap, axis, scale, signed, strip
from maskrcnn_repro.tables.report.report import TableReport
from maskrcnn_repro.tables.report.statistics import Interval
from maskrcnn_repro.tables.report.verdicts import Verdict

from markupsafe import Markup

OUTCOMES: Mapping[str, str] = {
    "holds": "\N{CHECK MARK}",
    "fails": "\N{MULTIPLICATION X}",
    "undecided": "?",
    "missing": "\N{EN DASH}",
}
"""Outcome to its mark: it is told without colours, too."""


@dataclass(frozen=True)
class ClaimView:
    """One claim.

    Attributes:
        verdict: the claim, and what the records say of it.
        mark: of the outcome.
        compared: which rows, in which metric.
        numbers: ours and the paper's gap, as text.
        plot: the strip; None where nothing is measured yet.
        explanation: what we think where the claim does not hold; None otherwise.
    """

    verdict: Verdict
    mark: str
    compared: str
    ours: str
    interval: str
    theirs: str
    plot: Markup
    explanation: Explanation | None


@dataclass(frozen=True)
class ClaimSection:
    """All claims.

    Attributes:
        claims: in the order of showing.
        scale: of their strips.
        rests: on which seeds and how many images the intervals rest; several where claims differ.
    """

    claims: tuple[ClaimView, ...]
    scale: Markup
    rests: tuple[str, ...]


def claim_section(
    verdicts: Sequence[Verdict], reports: Sequence[TableReport], metrics: Mapping[str, Metric]
) -> ClaimSection:
    """Return what the page shows of the claims.

    Args:
        verdicts: in the order of showing.
        reports: the tables shown.
        metrics: all columns.
    """
    shown = [report.table for report in reports]
    names = {
        row.id: (row.name, table.id)
        for table in (*tables().values(), *shown)
        for row in table.rows.values()
    }
    gaps = [_gap(verdict) for verdict in verdicts]
    ends = scale(gaps)
    level = reports[0].level if reports else ""
    return ClaimSection(
        tuple(
            _view(verdict, gap, ends, names, metrics, explanation(verdict, level))
            for verdict, gap in zip(verdicts, gaps, strict=True)
        ),
        axis(ends, "claims-scale"),
        tuple(dict.fromkeys(_rests(one.interval) for one in verdicts if one.interval)),
    )


def band(claim: Claim) -> Ends:
    """Return the gaps for which a claim holds, AP points."""
    return (-claim.margin, claim.margin) if claim.direction == "≈" else (0.0, math.inf)


def compared(
    claim: Claim, names: Mapping[str, tuple[str, str]], metrics: Mapping[str, Metric]
) -> str:
    """Return which rows a claim compares, in which metric.

    Args:
        claim: the claim.
        names: row id to the row's name and its table's id.
        metrics: all columns.
    """
    titles = " \N{MINUS SIGN} ".join(metrics[name].title for name in claim.metrics())
    pairs = [_pair(first, second, names) for first, second in claim.rows]
    return f"{titles}: {'; this gap against that of '.join(pairs)}"


def _pair(first: str, second: str, names: Mapping[str, tuple[str, str]]) -> str:
    (one, here), (other, there) = (names.get(row, (row, "")) for row in (first, second))
    if here == there:
        return f"{one} against {other}{f' ({here})' if here else ''}"
    return f"{one}{f' ({here})' if here else ''} against {other}{f' ({there})' if there else ''}"


def _rests(interval: Interval) -> str:
    seeds = ", ".join(map(str, interval.seeds))
    return f"seed{'s' * (len(interval.seeds) > 1)} {seeds} and {interval.images:,} images"


def _gap(verdict: Verdict) -> Gap:
    found = verdict.interval
    interval = (found.low, found.high) if found else None
    return Gap(verdict.gap, interval, verdict.claim.paper_gap, band(verdict.claim))


def _view(
    verdict: Verdict,
    gap: Gap,
    ends: Ends,
    names: Mapping[str, tuple[str, str]],
    metrics: Mapping[str, Metric],
    known: Explanation | None,
) -> ClaimView:
    ours = "not measured" if gap.ours is None else signed(gap.ours)
    interval = ""
    if verdict.interval:
        low, high = (signed(end) for end in (verdict.interval.low, verdict.interval.high))
        interval = f"{verdict.interval.level:.0f} %: {low} to {high}"
    theirs = signed(verdict.claim.paper_gap)
    label = f"Gap in AP points: ours {ours}{f', {interval}' if interval else ''}; paper {theirs}."
    return ClaimView(
        verdict=verdict,
        mark=OUTCOMES[verdict.outcome],
        compared=compared(verdict.claim, names, metrics),
        ours=ours,
        interval=interval,
        theirs=theirs,
        plot=strip(gap, ends, f"strip-{verdict.claim.id}", label),
        explanation=known,
    )
