"""Verdicts and intervals as text for a console, as Markdown, and as JSON."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from maskrcnn_repro.tables.statistics import Interval
from maskrcnn_repro.tables.verdicts import Verdict


def as_lines(found: Iterable[Verdict]) -> list[str]:
    """Return one line for each claim: ``claim ID holds +7.3 [+6.1, +8.4] 95 %  paper +3.4``."""
    every = list(found)
    width = max((len(one.claim.id) for one in every), default=0)
    return [f"claim {one.claim.id:<{width}}  {_said(one)}" for one in every]


def tally(found: Iterable[Verdict]) -> str:
    """Return how many claims there are of each outcome: ``14 of 17 claims hold, 1 fails, 2 undecided``."""
    outcomes: list[str] = [one.outcome for one in found]
    verbs = {
        "fails": ("fails", "fail"),
        "undecided": ("undecided",) * 2,
        "missing": ("missing",) * 2,
    }
    others = [
        f"{count} {words[count > 1]}"
        for key, words in verbs.items()
        if (count := outcomes.count(key))
    ]
    return ", ".join([f"{outcomes.count('holds')} of {len(outcomes)} claims hold", *others])


def verdict_json(one: Verdict) -> dict[str, Any]:
    """Return a verdict as plain values."""
    claim = one.claim
    return {
        "id": claim.id,
        "statement": claim.statement,
        "rows": [list(pair) for pair in claim.rows],
        "quantity": claim.quantity,
        "direction": claim.direction,
        "margin": claim.margin,
        "paper_gap": claim.paper_gap,
        "outcome": one.outcome,
        "gap": one.gap,
        "interval": interval_json(one.interval),
        "note": one.note,
    }


def interval_json(one: Interval | None) -> dict[str, Any] | None:
    """Return an interval as plain values."""
    if one is None:
        return None
    ends = {"low": one.low, "high": one.high, "level": one.level}
    return {**ends, "seeds": list(one.seeds), "images": one.images}


def interval_text(one: Interval) -> str:
    """Return ``[+6.1, +8.4] 95 %``."""
    return f"[{signed(one.low)}, {signed(one.high)}] {one.level:.0f} %"


def signed(value: float) -> str:
    """Return AP points with their sign; -0.04 is no -0.0."""
    return f"{round(value, 1) + 0.0:+.1f}"


def _said(one: Verdict) -> str:
    claim = one.claim
    parts = [f"{one.outcome:<9}"]
    if one.gap is not None:
        parts[0] += f"  {signed(one.gap)}"
    if one.interval:
        parts[0] += f" {interval_text(one.interval)}"
    if claim.direction == "≈":
        parts.append(f"margin ±{claim.margin:.1f}")
    parts.append(f"paper {signed(claim.paper_gap)}")
    parts += [f"({one.note})"] if one.note else []
    return "  ".join(parts)
