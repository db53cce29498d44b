"""The numbers of kept tables against the records that they were made from: what was changed by hand shows."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence

from maskrcnn_repro.tables.paper.claims import Claim, all_claims
from maskrcnn_repro.tables.report.gather import value_of
from maskrcnn_repro.tables.report.model import (
    DETECTRON2,
    Estimate,
    Report,
    ReportColumn,
    ReportRow,
    Verdict,
)
from maskrcnn_repro.tables.report.verdicts import get_least_ap, judge
from maskrcnn_repro.tables.report.words import Outcome
from maskrcnn_repro.tables.runs.records import Record

TOLERANCE = 0.005
"""AP points between means of the same numbers: half of the last digit that a report shows."""

Values = Mapping[tuple[str, str], Mapping[int, float]]
"""Row and metric to the record's number of each seed."""


def values_of(reports: Iterable[Report], records: Mapping[str, Record]) -> Values:
    """Return the numbers of all rows of a level.

    Args:
        reports: its tables.
        records: by the names in their origin; one that is absent gives no number.
    """
    values: dict[tuple[str, str], dict[int, float]] = {}
    for report in reports:
        for row in report.rows:
            for run in report.runs(row):
                if run.experiment.startswith(DETECTRON2) or run.results not in records:
                    continue
                for column in report.columns:
                    value = value_of(records[run.results], column)
                    if value is not None:
                        values.setdefault((row.id, column.name), {})[run.seed] = value
    return values


def changed_numbers(report: Report, values: Values) -> Iterator[str]:
    """Yield a clause for each number of a table that its records do not give.

    Compared are means, their spreads, gaps to the baseline, and gaps and outcomes of claims. What records lack is
    not compared. Of intervals only that they hold their gap and give the outcome is.

    Args:
        report: the table.
        values: of all tables of its level, on which claims rest.
    """
    for row in report.rows:
        for column in report.columns:
            yield from _changed_cell(report, row, column, values)
    for verdict in report.claims:
        claim = all_claims().get(verdict.id)
        if claim:
            yield from _changed_claim(verdict, claim, values)


def _changed_cell(
    report: Report, row: ReportRow, column: ReportColumn, values: Values
) -> Iterator[str]:
    name, place = column.name, f"{column.title} of row {row.id}"
    cell = row.cells[name]
    own = values.get((row.id, name), {})
    gaps = _differences(row.gap_of or (row.id, report.baseline_row), name, values)
    if cell.ours:
        yield from _differing(place, cell.ours, gaps if row.gap_of else own)
    if cell.ours_gap:
        yield from _differing(f"gap in {place}", cell.ours_gap, gaps)
    gap, interval = cell.ours if row.gap_of else cell.ours_gap, cell.ours_interval
    if gap and interval and not interval.low <= gap.mean <= interval.high:
        yield f"has an interval of the gap in {place} without that gap"


def _differences(rows: Sequence[str], name: str, values: Values) -> dict[int, float]:
    """Return the first row's numbers minus the second's, by the seeds that both have."""
    first, second = (values.get((row, name), {}) for row in rows)
    return {seed: first[seed] - second[seed] for seed in first.keys() & second.keys()}


def _changed_claim(verdict: Verdict, claim: Claim, values: Values) -> Iterator[str]:
    gap, interval = verdict.gap, verdict.interval
    if gap is None:
        if verdict.outcome != "missing":
            yield f"says {verdict.outcome!r} of claim {verdict.id}, which has no gap"
        return
    numbers = [values.get(pair, {}) for pair in claim.values()]
    shared = set.intersection(*map(set, numbers))
    gaps = {seed: _gap(claim, values, seed) for seed in shared}
    seeds = interval.seeds if interval else tuple(shared)
    yield from _differing(f"gap of claim {verdict.id}", Estimate(gap, None, seeds), gaps)
    if interval and not interval.low <= gap <= interval.high:
        yield f"has an interval of claim {verdict.id} without its gap"
    outcome = _outcome(verdict, claim, values, len(seeds))
    if all(numbers) and verdict.outcome != outcome:
        yield f"says {verdict.outcome!r} of claim {verdict.id}, its numbers {outcome!r}"


def _outcome(verdict: Verdict, claim: Claim, values: Values, seeds: int) -> Outcome:
    """Return the outcome of a claim with a gap, as :mod:`verdicts` gives it."""
    if not all(
        any(
            _mean(values, row, name) >= get_least_ap(claim)
            for row in pair
            for name in claim.metrics()
        )
        for pair in claim.rows
    ):
        return "too little learnt"
    if seeds == 1:
        return "images only"
    interval = verdict.interval
    return judge(verdict.direction, verdict.margin, interval) if interval else "undecided"


def _mean(values: Values, row: str, name: str) -> float:
    numbers = values.get((row, name))
    return statistics.fmean(numbers.values()) if numbers else 0.0


def _gap(claim: Claim, values: Values, seed: int) -> float:
    return float(claim.gap(lambda row, name: values[row, name][seed]))


def _differing(place: str, shown: Estimate, values: Mapping[int, float]) -> Iterator[str]:
    """Yield what an estimate says otherwise than the values of its seeds, where all of them are there."""
    if not shown.seeds or not set(shown.seeds) <= values.keys():
        return
    own = Estimate.of({seed: values[seed] for seed in shown.seeds})
    if own and abs(own.mean - shown.mean) > TOLERANCE:
        yield f"says {shown.mean:.2f} for the {place}, its records {own.mean:.2f}"
    if own and own.spread and shown.spread and abs(own.spread - shown.spread) > TOLERANCE:
        yield f"says a spread of {shown.spread:.2f} for the {place}, its records {own.spread:.2f}"
