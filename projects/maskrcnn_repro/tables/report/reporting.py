"""Reports of several tables at once: records are read once, claims are judged, files are written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from maskrcnn_repro.errors import OutputError
from maskrcnn_repro.tables.paper.claims import Claim
from maskrcnn_repro.tables.paper.experiments import Experiment
from maskrcnn_repro.tables.paper.numbers import Metric, Table
from maskrcnn_repro.tables.report.evidence import Evidence
from maskrcnn_repro.tables.report.gather import gather
from maskrcnn_repro.tables.report.layout import as_json, as_markdown
from maskrcnn_repro.tables.report.report import TableReport, experiments_of, report
from maskrcnn_repro.tables.report.resampled import Resampler
from maskrcnn_repro.tables.report.verdicts import claim_rows, verdicts
from maskrcnn_repro.tables.runs.plan import not_at_level
from maskrcnn_repro.tables.runs.stage import Setting
from maskrcnn_repro.utils.files import write_text


@dataclass(frozen=True)
class Known:
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
    known: Known,
    resampler: Resampler,
    *,
    seeds: int | None = None,
) -> list[TableReport]:
    """Put tables together from the records that there are, each with the verdicts on its claims.

    A claim belongs to the table that its first row lies in.

    Args:
        chosen: the tables.
        setting: level, overrides, folder.
        known: all tables, claims and so on.
        resampler: draws images again.
        seeds: use seeds 1 to this number; all by default.
    """
    rows = {row.id: row for table in known.tables.values() for row in table.rows.values()}
    claims = [
        claim
        for claim in known.claims.values()
        if any(claim_rows(claim)[0] in table.rows for table in chosen)
    ]
    compared = [rows[row].experiment for claim in claims for row in claim_rows(claim)]
    names = dict.fromkeys([*(one for table in chosen for one in experiments_of(table)), *compared])
    here = [n for n in names if n and not not_at_level(known.experiments[n], setting.level)]
    found = gather(here, setting, known.experiments, seeds)
    evidence = Evidence(found, known.columns, resampler)
    # All that is asked for below, at once: this takes long, and tells how long.
    evidence.prepare(
        [
            *((row, name) for one in chosen for row in one.rows.values() for name in one.columns),
            *((rows[r], name) for one in claims for r in claim_rows(one) for name in one.metrics()),
        ]
    )
    judged = verdicts(claims, evidence, rows)
    made = []
    for table in chosen:
        one = report(
            table, setting, known.experiments, known.columns, found=found, resampler=resampler
        )
        own = tuple(v for v in judged if claim_rows(v.claim)[0] in table.rows)
        made.append(replace(one, verdicts=own))
    return made


def write_report(made: TableReport, folder: Path, columns: Mapping[str, Metric]) -> str:
    """Write a report as JSON and as Markdown, and return their places, for people.

    Args:
        made: with all rows: a later look at two of them must not cut the files.
        folder: gets ``TABLE.json`` and ``TABLE.md``.
        columns: all metrics.

    Raises:
        OutputError: a file cannot be written.
    """
    texts = {".json": as_text(as_json(made)), ".md": as_markdown(made, columns)}
    files = [folder / f"{made.table.id}{suffix}" for suffix in texts]
    for file, text in zip(files, texts.values(), strict=True):
        write(file, text)
    return ", ".join(map(str, files))


def as_text(tree: Any) -> str:
    """Return plain values as JSON for a file that people may read."""
    return json.dumps(tree, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write(file: Path, text: str) -> None:
    """Write a text file in one step.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        write_text(file, text)
    except OSError as error:
        raise OutputError(f"{file} cannot be written: {error.strerror or error}.") from error
