"""The paper's claims at all kept levels, side by side."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from maskrcnn_repro.tables.paper.claims import claims
from maskrcnn_repro.tables.report.claims_text import (
    bounds,
    describe_condition,
    interval_ends,
    tally,
)
from maskrcnn_repro.tables.report.model import Verdict
from maskrcnn_repro.tables.report.statistics import EARLIER
from maskrcnn_repro.tables.report.words import DASH, format_signed

from tabulate import tabulate


def claims_by_level(levels: Mapping[str, Sequence[Verdict]]) -> str:
    """Return a table in Markdown: a row for each claim, the paper's gap, and gap, interval and outcome of each level.

    Below it stands what each level's outcomes rest on, and how its intervals were computed.

    Args:
        levels: heading of a column to its verdicts; a level at which no claim was judged has no column.

    Returns:
        An empty text if no claim was judged at any level.
    """
    judged = {
        name: {v.id: v for v in verdicts if v.outcome != "missing"}
        for name, verdicts in levels.items()
    }
    judged = {name: verdicts for name, verdicts in judged.items() if verdicts}
    if not judged:
        return ""
    every = {v.id: v for verdicts in levels.values() for v in verdicts}
    order = list(claims())
    lines = [
        [
            f"`{name}`",
            describe_condition(every[name]),
            format_signed(every[name].paper_gap),
            *(_cell(verdicts.get(name)) for verdicts in judged.values()),
        ]
        for name in sorted(every, key=lambda name: (*order, name).index(name))
    ]
    headers = ["claim", "claimed gap", "paper's gap", *judged]
    align = ("left", "left", "right", *("left" for _ in judged))
    table = tabulate(lines, headers, "pipe", colalign=align, disable_numparse=True)
    below = [f"- {name}: {_describe_base(levels[name])}" for name in judged]
    return "\n".join([table, "", *below, *_methods(judged)])


def _cell(verdict: Verdict | None) -> str:
    """Return ``+3.6 [+3.2, +4.0] holds``."""
    if verdict is None:
        return DASH
    interval = verdict.interval
    between = [f"[{', '.join(interval_ends(interval, bounds(verdict)))}]"] if interval else []
    return " ".join([format_signed(verdict.gap), *between, verdict.outcome])


def _describe_base(verdicts: Collection[Verdict]) -> str:
    """Return what the outcomes of a level are, and on how many seeds and images they rest."""
    counted = tally(list(verdicts), claims())
    intervals = [verdict.interval for verdict in verdicts if verdict.interval]
    if not intervals:
        return f"{counted}."
    seeds = _span(len(interval.seeds) for interval in intervals)
    return f"{counted}; seeds of an interval: {seeds}, images: {_span(each.images for each in intervals)}."


def _span(numbers: Iterable[int]) -> str:
    """Return ``72``, or ``1 to 6``."""
    values = set(numbers)
    return " to ".join(f"{value:,}" for value in sorted({min(values), max(values)}))


def _methods(judged: Mapping[str, Mapping[str, Verdict]]) -> list[str]:
    """Return, in a line or none, by which method the intervals of each level were computed."""
    levels: dict[str, list[str]] = {}
    for name, verdicts in judged.items():
        methods = {v.interval.method or EARLIER for v in verdicts.values() if v.interval}
        for method in sorted(methods):
            levels.setdefault(method, []).append(name)
    said = "; ".join(f"{', '.join(names)}: {method}" for method, names in levels.items())
    apart = " Widths of different methods cannot be compared." if len(levels) > 1 else ""
    return [f"- Intervals (95 %; 90 % of claims within a margin), {said}.{apart}"] if said else []
