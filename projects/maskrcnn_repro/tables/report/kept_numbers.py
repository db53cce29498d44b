"""The numbers of kept tables against the records that they were made from: what was changed by hand shows."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence

from maskrcnn_repro.tables.paper.claims import Claim, all_claims
from maskrcnn_repro.tables.report.gather import value_of
from maskrcnn_repro.tables.report.model import DETECTRON2, Report, Verdict
from maskrcnn_repro.tables.report.verdicts import judge
from maskrcnn_repro.tables.runs.records import Record

TOLERANCE = 0.005
"""AP points between means of the same numbers: half of the last digit that a report shows."""

DECIDED = ("holds", "fails", "undecided")
"""Outcomes that :func:`judge` gives of an interval."""

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
    """Yield a clause for each number of a table that its records do not give: means, gaps to the baseline, claims.

    What records lack is not compared. Of intervals only that they hold their gap and give the outcome is.

    Args:
        report: the table.
        values: of all tables of its level, on which claims rest.
    """
    for row in report.rows:
        for column in report.columns:
            cell, place = row.cells[column.name], f"{column.title} of row {row.id}"
            own = values.get((row.id, column.name), {})
            base = values.get((report.baseline_row, column.name), {})
            gaps = {seed: own[seed] - base[seed] for seed in own.keys() & base.keys()}
            if cell.ours and not row.gap_of:
                yield from _differing(place, cell.ours.mean, own, cell.ours.seeds)
            if cell.ours_gap:
                gap = cell.ours_gap
                yield from _differing(f"gap in {place}", gap.mean, gaps, gap.seeds)
    for verdict in report.claims:
        yield from _changed_claim(verdict, values)


def _changed_claim(verdict: Verdict, values: Values) -> Iterator[str]:
    claim, interval = all_claims().get(verdict.id), verdict.interval
    if claim is None or verdict.gap is None or interval is None:
        return
    shared = set(interval.seeds).intersection(*(values.get(pair, {}) for pair in claim.values()))
    gaps = {seed: _gap(claim, values, seed) for seed in shared}
    yield from _differing(f"gap of claim {verdict.id}", verdict.gap, gaps, interval.seeds)
    if not interval.low <= verdict.gap <= interval.high:
        yield f"has an interval of claim {verdict.id} without its gap"
    outcome = judge(verdict.direction, verdict.margin, interval)
    if verdict.outcome in DECIDED and verdict.outcome != outcome:
        yield f"says {verdict.outcome!r} of claim {verdict.id}, its interval {outcome!r}"


def _gap(claim: Claim, values: Values, seed: int) -> float:
    return float(claim.gap(lambda row, name: values[row, name][seed]))


def _differing(
    place: str, shown: float, values: Mapping[int, float], seeds: Sequence[int]
) -> Iterator[str]:
    if not seeds or not set(seeds) <= values.keys():
        return
    mean = statistics.fmean(values[seed] for seed in seeds)
    if abs(mean - shown) > TOLERANCE:
        yield f"says {shown:.2f} for the {place}, its records {mean:.2f}"
