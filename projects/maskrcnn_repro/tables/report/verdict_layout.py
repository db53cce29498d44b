"""Verdicts and intervals as text for a console, as Markdown, and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, get_args

from maskrcnn_repro.tables.report.explanations import explanation
from maskrcnn_repro.tables.report.statistics import Interval
from maskrcnn_repro.tables.report.verdicts import Outcome, Verdict

from tabulate import tabulate


def claim_lines(found: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return one line for each claim: ``claim ID holds +7.3 [+6.1, +8.4] 95 %  paper +3.4``.

    Args:
        found: as :func:`verdict_json` returns them.
    """
    every = list(found)
    name, outcome, ours = (
        max((len(text(one)) for one in every), default=0)
        for text in (lambda one: one["id"], lambda one: one["outcome"], _measured)
    )
    lines = []
    for one in every:
        paper = f"paper {signed(one['paper_gap'])}, {_asked(one['direction'], one['margin'])}"
        note = f" ({one['note']})" if one["note"] else ""
        head = f"claim {one['id']:<{name}}  {one['outcome']:<{outcome}}"
        lines.append(f"{head}  {_measured(one):<{ours}}  {paper}{note}")
    return lines


def tally(found: Iterable[Mapping[str, Any]]) -> str:
    """Return how many claims there are of each outcome: ``Of 17 claims: holds 14, fails 1, …``.

    Args:
        found: as :func:`verdict_json` returns them.
    """
    outcomes = [one["outcome"] for one in found]
    counts = [f"{name} {outcomes.count(name)}" for name in get_args(Outcome)]
    return f"Of {len(outcomes)} claims: {', '.join(counts)}"


def claims_markdown(found: Iterable[Mapping[str, Any]]) -> str:
    """Return claims as a table in Markdown, with what we think of those that do not hold.

    Args:
        found: as :func:`verdict_json` returns them.
    """
    every = list(found)
    headers = ["claim", "claimed gap", "gap here", "paper's gap", "outcome"]
    lines = [
        [
            f"{one['statement']} (`{one['id']}`)",
            _asked(one["direction"], one["margin"]),
            _measured(one),
            signed(one["paper_gap"]),
            f"{one['outcome']}: {one['note']}" if one["note"] else one["outcome"],
        ]
        for one in every
    ]
    align = ("left", "left", "right", "right", "left")
    table = tabulate(lines, headers, "pipe", colalign=align, disable_numparse=True)
    below = [f"- {text}" for text in explained(every)]
    return "\n".join([table, *([""] if below else []), *below])


def explained(found: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return a sentence or two for each claim that does not hold and whose reason we think we know.

    Args:
        found: as :func:`verdict_json` returns them.
    """
    return [
        f"{one['id']} {one['outcome']}, as we see it: {text['because']} What would tell: {text['would_tell']}"
        + (f" It told: {text['told']}" if text.get("told") else "")
        for one in found
        if (text := one.get("explanation"))
    ]


def verdict_json(one: Verdict, level: str) -> dict[str, Any]:
    """Return a verdict as plain values.

    Args:
        one: the verdict.
        level: that it was found at, such as ``mini``.
    """
    claim = one.claim
    known = explanation(one, level)
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
        "explanation": (
            {"because": known.because, "would_tell": known.would_tell, "told": known.told}
            if known
            else None
        ),
    }


def interval_json(one: Interval | None) -> dict[str, Any] | None:
    """Return an interval as plain values."""
    if one is None:
        return None
    ends = {"low": one.low, "high": one.high, "level": one.level}
    return {**ends, "seeds": list(one.seeds), "images": one.images}


def interval_text(one: Mapping[str, Any]) -> str:
    """Return ``[+6.1, +8.4] 95 %``.

    Args:
        one: as :func:`interval_json` returns it.
    """
    return f"[{signed(one['low'])}, {signed(one['high'])}] {one['level']:.0f} %"


def signed(value: float) -> str:
    """Return AP points with their sign; -0.04 is no -0.0."""
    return f"{round(value, 1) + 0.0:+.1f}"


def _measured(one: Mapping[str, Any]) -> str:
    """Return gap and interval of what :func:`verdict_json` returns, as far as there are any."""
    gap = [] if one["gap"] is None else [signed(one["gap"])]
    return " ".join([*gap, *([interval_text(one["interval"])] if one["interval"] else [])])


def _asked(direction: str, margin: float) -> str:
    return f"within ±{margin:.1f}" if direction == "≈" else f"{direction} 0"
