"""Claims as text: lines for a console, a table in Markdown, and what a reader should know beside them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import get_args

from maskrcnn_repro.errors import counted
from maskrcnn_repro.tables.report.correction import correct_verdicts
from maskrcnn_repro.tables.report.model import Interval, Spread, Verdict
from maskrcnn_repro.tables.report.statistics import EARLIER
from maskrcnn_repro.tables.report.words import DASH, Outcome, format_signed

from tabulate import tabulate

_DECISIVE: tuple[Outcome, ...] = ("holds", "fails", "undecided")


def claim_lines(verdicts: Sequence[Verdict]) -> list[str]:
    """Return one line for each claim: ``claim ID holds +7.3 [+6.1, +8.4] 95 %  Holm 0.002: holds  paper +3.4``."""
    remains = correct_verdicts(verdicts)
    cells = [
        (v.id, v.outcome, describe_gap(v), *([f"Holm {holm_text(v, remains)}"] if remains else []))
        for v in verdicts
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for verdict, words in zip(verdicts, cells, strict=True):
        head = "  ".join(f"{word:<{width}}" for word, width in zip(words, widths, strict=True))
        note = f" ({verdict.note})" if verdict.note else ""
        lines.append(
            f"claim {head}  paper {format_signed(verdict.paper_gap)}, {describe_condition(verdict)}{note}"
        )
    return lines


def tally(verdicts: Sequence[Verdict], every: Collection[str] = ()) -> str:
    """Return how many claims there are of each outcome: ``Of 17 claims: holds 14, fails 1, …``.

    Args:
        verdicts: of the claims that tables at hand judge.
        every: ids that belong together: where some of them are judged, the others count as missing.
    """
    judged = {verdict.id for verdict in verdicts}
    absent = set(every) - judged if judged & set(every) else ()
    outcomes: list[Outcome] = [verdict.outcome for verdict in verdicts]
    outcomes += ["missing"] * len(absent)
    return f"Of {counted(len(outcomes), 'claim')}: {_count_outcomes(outcomes, (*_DECISIVE, 'missing'))}"


def claims_markdown(verdicts: Sequence[Verdict], *, are_all: bool = False) -> str:
    """Return claims as a table in Markdown, with hypotheses about those that do not hold; see :func:`correct_verdicts`."""
    remains = correct_verdicts(verdicts, are_all=are_all)
    headers = ["claim", "claimed gap", "gap here", "paper's gap", "outcome"]
    lines = [
        [
            f"{verdict.statement} (`{verdict.id}`)",
            describe_condition(verdict),
            describe_gap(verdict),
            format_signed(verdict.paper_gap),
            f"{verdict.outcome}: {verdict.note}" if verdict.note else verdict.outcome,
            *([holm_text(verdict, remains)] if remains else []),
        ]
        for verdict in verdicts
    ]
    align = ("left", "left", "right", "right", "left", "left")[: len(lines[0])]
    headers += ["by Holm: p, outcome"] if remains else []
    table = tabulate(lines, headers, "pipe", colalign=align, disable_numparse=True)
    notes = annotate_verdicts(verdicts, are_all=are_all)
    below = [f"- {text}" for text in (*notes, *explain_failures(verdicts))]
    return "\n".join([table, *([""] if below else []), *below])


def annotate_verdicts(verdicts: Sequence[Verdict], *, are_all: bool = False) -> list[str]:
    """Return what a reader of verdicts should know: Holm's correction, margins, how intervals were computed."""
    texts = []
    if remains := correct_verdicts(verdicts, are_all=are_all):
        texts.append(
            f"With Holm's correction for {len(remains)} claim{'s' * (len(remains) > 1)} judged at once: "
            f"{_count_outcomes((outcome for _, outcome in remains.values()), _DECISIVE)}. "
            "Among so many claims one or another holds or fails by chance; corrected, the chance that any does is at most 5 % where all "
            "trainings' seeds vary alike, and up to 18 % where they do not."
        )
    reasons: dict[str, list[str]] = {}
    for verdict in verdicts:
        if verdict.margin_reason:
            reasons.setdefault(f"±{verdict.margin:.1f}: {verdict.margin_reason}", []).append(
                verdict.id
            )
    texts += [f"Margin of {', '.join(names)} {reason}" for reason, names in reasons.items()]
    methods = Counter(v.interval.method or EARLIER for v in verdicts if v.interval)
    if methods:
        said = "; ".join(f"{method} ({count})" for method, count in methods.items())
        texts.append(f"Intervals: {said}.")
    return texts


def spread_lines(spreads: Iterable[Spread]) -> list[str]:
    """Return how much seeds of a training differ, by the pool, in a line or none."""
    texts = [
        f"{spread.quantity} {spread.deviation:.2f} ({counted(spread.freedom, 'degree')} of freedom, "
        f"{counted(spread.trainings, 'training')}{_describe_spread(spread)})"
        for spread in spreads
    ]
    return [f"Standard deviation between seeds, pooled: {'; '.join(texts)}."] if texts else []


def _describe_spread(spread: Spread) -> str:
    return f", without {', '.join(spread.wider)}, whose seeds lie further apart" * bool(
        spread.wider
    )


def explain_failures(verdicts: Iterable[Verdict]) -> list[str]:
    """Return hypothesis, deciding run and its result for each claim that does not hold and has them."""
    return [
        f"{verdict.id}: {verdict.outcome}. Hypothesis: {why.because} Deciding run: {why.would_tell}"
        + (f" Result: {why.told}" if why.told else "")
        for verdict in verdicts
        if (why := verdict.explanation)
    ]


def describe_gap(verdict: Verdict) -> str:
    """Return gap and interval of a claim, as far as there are any."""
    gap = [] if verdict.gap is None else [format_signed(verdict.gap)]
    interval = verdict.interval
    return " ".join([*gap, *([interval_text(interval, bounds(verdict))] if interval else [])])


def interval_text(interval: Interval, limits: Sequence[float] = (0.0,)) -> str:
    """Return ``[+6.1, +8.4] 95 %``; see :func:`interval_ends`."""
    return f"[{', '.join(interval_ends(interval, limits))}] {interval.level:.0f} %"


def interval_ends(interval: Interval, limits: Sequence[float] = (0.0,)) -> tuple[str, str]:
    """Return both ends with one decimal, or with up to three where an end would look as if it lay on a limit.

    Args:
        interval: of a difference.
        limits: that decide what the interval says, AP points.
    """
    pair = interval.low, interval.high
    digits = next(
        (
            d
            for d in (1, 2)
            if all(round(e, d) != limit or e == limit for e in pair for limit in limits)
        ),
        3,
    )
    return format_signed(interval.low, digits), format_signed(interval.high, digits)


def bounds(verdict: Verdict) -> tuple[float, ...]:
    """Return the gaps at which a claim's outcome changes, AP points."""
    return (-verdict.margin, verdict.margin) if verdict.direction == "≈" else (0.0,)


def holm_text(verdict: Verdict, remains: Mapping[str, tuple[float, Outcome]]) -> str:
    """Return ``0.012: holds``, what Holm's correction leaves of an outcome; a dash for none."""
    if verdict.id not in remains:
        return DASH
    p, outcome = remains[verdict.id]
    return f"{'< 0.0001' if p < 0.0001 else f'{p:.2g}'}: {outcome}"


def describe_condition(verdict: Verdict) -> str:
    """Return where a claim has its gap: ``> 0``, ``within ±1.5``."""
    is_alike = verdict.direction == "≈"
    return f"within ±{verdict.margin:.1f}" if is_alike else f"{verdict.direction} 0"


def _count_outcomes(outcomes: Iterable[Outcome], always: Sequence[Outcome]) -> str:
    """Return how many there are of each outcome: of those in ``always``, and of others that there are."""
    counts = Counter(outcomes)
    names: tuple[Outcome, ...] = get_args(Outcome)
    return ", ".join(f"{name} {counts[name]}" for name in names if counts[name] or name in always)
