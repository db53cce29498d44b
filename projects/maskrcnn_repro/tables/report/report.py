"""Puts reports together: ours, from the records that there are, beside the paper's.

Gaps are counted from a table's baseline row. Ours are means over training seeds; a gap is the mean over the
seeds that both rows have, so that what they share (proposals, order of images) cancels.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from maskrcnn_repro._backend import BACKEND
from maskrcnn_repro.errors import UserError
from maskrcnn_repro.tables.paper.additions import experiments_apart
from maskrcnn_repro.tables.paper.claims import Claim
from maskrcnn_repro.tables.paper.experiments import Experiment
from maskrcnn_repro.tables.paper.numbers import Metric, Row, Table
from maskrcnn_repro.tables.report.boundary import TASK, add_boundary_ap
from maskrcnn_repro.tables.report.contradictions import refuse_contradicting
from maskrcnn_repro.tables.report.equal_seconds import add_equal_seconds, with_iterations
from maskrcnn_repro.tables.report.evidence import Evidence
from maskrcnn_repro.tables.report.gather import gather, value_of
from maskrcnn_repro.tables.report.matching import dataset_of
from maskrcnn_repro.tables.report.model import (
    DETECTRON2,
    Cell,
    Estimate,
    Origin,
    Report,
    ReportColumn,
    ReportRow,
    Spread,
)
from maskrcnn_repro.tables.report.resampled import Resampler
from maskrcnn_repro.tables.report.verdicts import claim_rows, verdicts
from maskrcnn_repro.tables.runs.plan import not_at_level
from maskrcnn_repro.tables.runs.records import Record
from maskrcnn_repro.tables.runs.stage import Setting
from maskrcnn_repro.tables.runs.zoo import zoo_record

CONFIDENCE = 95.0
"""Per cent, of the intervals of gaps."""


@dataclass(frozen=True)
class PaperData:
    """What the paper has: all of it, whatever is reported.

    Attributes:
        tables: by id.
        columns: metrics by name.
        experiments: by id.
        claims: by id.
    """

    tables: Mapping[str, Table]
    columns: Mapping[str, Metric]
    experiments: Mapping[str, Experiment]
    claims: Mapping[str, Claim]


def reports(
    chosen: Sequence[Table],
    setting: Setting,
    paper: PaperData,
    resampler: Resampler | None = None,
    *,
    seeds: int | None = None,
    kept: bool = False,
) -> list[Report]:
    """Put tables together from the records that there are, each with the verdicts on its claims.

    A claim belongs to the table that its first row lies in.

    Args:
        chosen: the tables.
        setting: level, overrides, folder.
        paper: all tables, claims and so on.
        resampler: draws images again for the intervals of gaps; without it there are none.
        seeds: use seeds 1 to this number; all by default.
        kept: let records that are kept with the code stand for seeds without a finished run.
    """
    rows = {row.id: row for table in paper.tables.values() for row in table.rows.values()}
    claims = {
        table.id: [claim for claim in paper.claims.values() if claim.rows[0][0] in table.rows]
        for table in chosen
    }
    pairs = [
        (row, name) for table in chosen for row in table.rows.values() for name in table.columns
    ]
    for claim in itertools.chain.from_iterable(claims.values()):
        pairs += [(rows[row], name) for row in claim_rows(claim) for name in claim.metrics()]
    # All of the level, not these rows' alone: the spread between seeds is pooled over them.
    every = paper.experiments.items()
    here = [name for name, item in every if not not_at_level(item, setting.level)]
    gathered = gather(here, setting, paper.experiments, seeds, kept=kept)
    refuse_contradicting(gathered)
    outlined = {row.experiment for row, name in pairs if paper.columns[name].task == TASK}
    add_boundary_ap(gathered, outlined)
    add_equal_seconds(gathered, [row for row, _ in pairs])
    evaluated = {e.id: e.evaluates for e in paper.experiments.values() if e.evaluates}
    evidence = Evidence(gathered, paper.columns, resampler, evaluated)
    # All that is asked for below, at once: this takes long, and tells how long.
    evidence.prepare(pairs)
    complete = []
    for table in chosen:
        own = replace(evidence, unpooled=_unpooled(table, paper.experiments))
        bare = report(table, setting, paper.experiments, own)
        judged = verdicts(claims[table.id], own, rows, setting.label)
        # Beside no number of its own the spread of other rows' seeds would be out of place.
        is_empty = not bare.origin and all(verdict.outcome == "missing" for verdict in judged)
        spreads = () if is_empty else _spreads(table, claims[table.id], own)
        complete.append(replace(bare, claims=judged, spreads=spreads))
    return complete


def _unpooled(table: Table, experiments: Mapping[str, Experiment]) -> set[str]:
    """Return the experiments that a table's pool leaves out: other plug-ins', and trainings of another length.

    Otherwise an interval would depend on which files of plug-ins a command names.
    """
    shortened = {name for name, experiment in experiments.items() if experiment.shortens}
    return shortened | experiments_apart(table.id)


def _spreads(table: Table, claims: Sequence[Claim], evidence: Evidence) -> tuple[Spread, ...]:
    """Return the spreads between seeds that intervals of a table and its claims rest on."""
    if not evidence.resampler:
        return ()
    asked = [*((name,) for name in table.columns), *(claim.metrics() for claim in claims)]
    spreads = [evidence.spread(metrics) for metrics in dict.fromkeys(asked)]
    return tuple(spread for spread in spreads if spread)


def report(
    table: Table, setting: Setting, experiments: Mapping[str, Experiment], evidence: Evidence
) -> Report:
    """Put a table together, without its claims.

    Args:
        table: the table.
        setting: level, overrides, folder.
        experiments: all experiments.
        evidence: with the records of those of its rows that the level has.
    """
    names = sorted({row.experiment for row in table.rows.values() if row.experiment})
    reasons = {name: not_at_level(experiments[name], setting.level) or None for name in names}
    zoo, wrong = _zoo_records(table, setting)
    rows = [
        ReportRow.of(
            with_iterations(row, experiments, evidence.gathered),
            unfinished=tuple(evidence.gathered.unfinished.get(row.experiment or "", ())),
            not_at_level=reasons.get(row.experiment or ""),
            cells={n: _cell(table, row, n, evidence, zoo.get(row.id)) for n in table.columns},
        )
        for row in table.rows.values()
    ]
    records = [r for row in table.rows.values() for r in evidence.records(row).values()]
    trained = [*names, *(row.equal_seconds for row in table.rows.values() if row.equal_seconds)]
    refused, notes = (
        dict.fromkeys(text for name in trained for text in texts.get(name, ()))
        for texts in (evidence.gathered.refused, evidence.gathered.notes)
    )
    # After the cells: problems with drawing images show while their intervals are computed.
    problems = evidence.resampler.problems_of(records) if evidence.resampler else []
    splits = {dataset_of(record) for record in (*records, *zoo.values())}
    return Report(
        table=table.id,
        title=table.title,
        level=setting.label,
        overrides=setting.overrides,
        overlays=tuple(file.name for file in setting.overlays),
        backend=str(BACKEND),
        paper_split=table.split,
        our_splits=tuple(sorted(splits - {""})),
        baseline_row=table.baseline_row,
        rows=tuple(rows),
        refused=(*refused, *problems, *wrong),
        notes=tuple(notes),
        origin=_origins(table, evidence, zoo),
        columns=table_columns(table, evidence.columns),
    )


def table_columns(table: Table, metrics: Mapping[str, Metric]) -> tuple[ReportColumn, ...]:
    """Return the metrics of a table's columns."""
    return tuple(
        ReportColumn(**vars(metrics[name]), held_out=name in table.held_out)
        for name in table.columns
    )


def _zoo_records(table: Table, setting: Setting) -> tuple[dict[str, Record], list[str]]:
    """Return the records of Detectron2's own weights by row, and what is wrong with others."""
    records, wrong = {}, []
    for row in table.rows.values():
        try:
            record = zoo_record(row, setting)
        except UserError as error:
            wrong.append(str(error))
            continue
        if record:
            records[row.id] = record
    return records, wrong


def _cell(table: Table, row: Row, name: str, evidence: Evidence, zoo: Record | None) -> Cell:
    base = table.rows[table.baseline_row]
    paper, paper_base = row.metrics.get(name), base.metrics.get(name)
    is_compared = row.gap_of is None and row.id != base.id
    first, second = (table.rows[name] for name in row.gap_of or (row.id, base.id))
    comparison = None
    if first.id != second.id:
        comparison = evidence.compare(
            [first, second],
            [name],
            lambda value: value(first.id, name) - value(second.id, name),
            CONFIDENCE,
        )
    gap = comparison.values if comparison else {}
    ours = gap if row.gap_of else evidence.values([row], [name], lambda v: v(row.id, name))
    has_paper_gap = is_compared and row.ours
    return Cell(
        paper=paper,
        # More than the decimal that is printed is rounding of the machine.
        paper_gap=round(paper - paper_base, 2)
        if has_paper_gap and paper is not None and paper_base is not None
        else None,
        ours=Estimate.of(ours),
        ours_gap=Estimate.of(gap) if is_compared else None,
        # Of other seeds than the gap beside it, it would not be that gap's.
        ours_interval=comparison.interval if comparison and not comparison.left_out else None,
        detectron2_weights=value_of(zoo, evidence.columns[name]) if zoo else None,
    )


def _origins(table: Table, evidence: Evidence, zoo: Mapping[str, Record]) -> tuple[Origin, ...]:
    """Return the records of a table in the order of its rows, each once."""
    origins: dict[str, Origin] = {}
    for row in table.rows.values():
        records = [(row.experiment or "", record) for record in evidence.records(row).values()]
        records += [
            (row.equal_seconds or "", record)
            for seed, record in evidence.gathered.records.get(row.equal_seconds or "", {}).items()
            if seed in evidence.records(row)
        ]
        records += [(f"{DETECTRON2}{row.experiment}", zoo[row.id])] if row.id in zoo else []
        for experiment, record in records:
            origins[str(record.path)] = Origin(
                results=str(record.path),
                seed=record.seed,
                commit=record.commit,
                machine=record.machine,
                weights=record.weights,
                data=dict(record.data),
                written=record.written,
                experiment=experiment,
                split=dataset_of(record),
                record=record.kept,
            )
    return tuple(origins.values())
