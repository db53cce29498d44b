"""What a claim of the paper compares, in words, and where its gap would have to lie."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from maskrcnn_repro.tables.paper.claims import terms
from maskrcnn_repro.tables.report.claims_text import bounds, interval_ends
from maskrcnn_repro.tables.report.html.gaps import Ends, Gap
from maskrcnn_repro.tables.report.model import Interval, Verdict
from maskrcnn_repro.tables.report.words import set_minus


def claim_gap(verdict: Verdict) -> Gap:
    """Return what the strip of a claim shows."""
    interval = (verdict.interval.low, verdict.interval.high) if verdict.interval else None
    return Gap(verdict.gap, interval, verdict.paper_gap, band(verdict))


def band(verdict: Verdict) -> Ends:
    """Return the gaps for which a claim holds, AP points."""
    is_alike = verdict.direction == "≈"
    return (-verdict.margin, verdict.margin) if is_alike else (0.0, math.inf)


def claim_ends(verdict: Verdict) -> tuple[str, ...]:
    """Return the ends of a claim's interval as the page shows them; none without an interval."""
    return format_ends(verdict.interval, bounds(verdict)) if verdict.interval else ()


def format_ends(interval: Interval, limits: Sequence[float] = (0.0,)) -> tuple[str, ...]:
    """Return :func:`interval_ends` with typographic signs."""
    return tuple(set_minus(end) for end in interval_ends(interval, limits))


def describe_rows(
    verdict: Verdict, names: Mapping[str, tuple[str, str]], titles: Mapping[str, str]
) -> str:
    """Return which rows a claim compares, in which metric.

    Args:
        verdict: the claim.
        names: row id to the row's name and its table's id.
        titles: metric to its heading.
    """
    metric = " \N{MINUS SIGN} ".join(titles[name] for name in terms(verdict.quantity))
    pairs = [_pair(first, second, names) for first, second in verdict.rows]
    return f"{metric}: {'; this gap against that of '.join(pairs)}"


def _pair(first: str, second: str, names: Mapping[str, tuple[str, str]]) -> str:
    (name, table), (other, other_table) = (names.get(row, (row, "")) for row in (first, second))
    if table == other_table:
        return f"{name} against {other}{f' ({table})' if table else ''}"
    sides = ((name, table), (other, other_table))
    return " against ".join(f"{row}{f' ({number})' if number else ''}" for row, number in sides)
