"""Reports put together again from what ``results/`` keeps.

Means and gaps follow from the kept records. Intervals and verdicts need the detections, which are not kept: they are
read from the table's JSON.
"""

import re
from dataclasses import replace
from pathlib import Path

from maskrcnn_repro.old_names import current_experiment
from maskrcnn_repro.tables.paper.experiments import experiments
from maskrcnn_repro.tables.paper.numbers import find_table, metrics
from maskrcnn_repro.tables.report.evidence import Evidence
from maskrcnn_repro.tables.report.gather import Gathered
from maskrcnn_repro.tables.report.kept import json_text
from maskrcnn_repro.tables.report.kept_reading import read_report
from maskrcnn_repro.tables.report.plain import to_json
from maskrcnn_repro.tables.report.report import report
from maskrcnn_repro.tables.report.text import as_markdown
from maskrcnn_repro.tables.runs.reading import read_json
from maskrcnn_repro.tables.runs.records import read_record
from maskrcnn_repro.tables.runs.stage import Setting

from tests.helpers.paths import ROOT

RESULTS = ROOT / "results"
FILES = sorted(RESULTS.glob("*/*/tables/*.json"))
NAMES = [file.relative_to(RESULTS).with_suffix("").as_posix() for file in FILES]
"""``LEVEL/BACKEND/tables/TABLE`` of each kept table."""


def rendered(name):
    """Return the JSON and the Markdown of a kept table as they are written today.

    Args:
        name: one of :data:`NAMES`.
    """
    table_report = kept_report(name)
    return json_text(to_json(table_report)), as_markdown(table_report)


def stored_json(name):
    """Return the JSON of a kept table, its experiments under the names of today."""
    text = (RESULTS / f"{name}.json").read_text(encoding="utf-8")
    return re.sub(r'(?<="experiment": ")[^"]+', lambda match: current_experiment(match[0]), text)


def kept_report(name):
    """Return the report of a kept table."""
    kept = (RESULTS / name).parents[1]
    stored = read_report((RESULTS / name).with_suffix(".json"))
    setting = Setting(
        stored.level.partition("-")[0], stored.overrides, overlays=tuple(map(Path, stored.overlays))
    )
    records = _records(kept, [run.results for run in stored.origin])
    numbers = report(find_table(stored.table), setting, experiments(), Evidence(records, metrics()))
    pairs = zip(numbers.rows, stored.rows, strict=True)
    origin = [
        replace(run, record=read_json(kept / run.results)["record"]) for run in numbers.origin
    ]
    return replace(
        numbers,
        rows=tuple(_with_intervals(row, other) for row, other in pairs),
        claims=stored.claims,
        backend=stored.backend,
        origin=tuple(origin),
    )


def _records(kept, names):
    gathered = Gathered()
    for name in names:
        record = replace(read_record(kept / name), path=Path(name))
        experiment = current_experiment(Path(name).parent.as_posix())
        gathered.records.setdefault(experiment, {})[record.seed] = record
    return gathered


def _with_intervals(row, other):
    cells = {
        name: replace(cell, ours_interval=other.cells[name].ours_interval)
        for name, cell in row.cells.items()
    }
    return replace(row, cells=cells)
