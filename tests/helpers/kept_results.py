"""Reports put together again from what ``results/`` keeps.

Means and gaps follow from the kept records. Intervals and verdicts need the detections, which are not kept: they are
read from the table's JSON.
"""

import re
from dataclasses import replace
from pathlib import Path

from maskrcnn_repro.old_names import current_experiment
from maskrcnn_repro.tables.paper.claims import claims
from maskrcnn_repro.tables.paper.experiments import experiments
from maskrcnn_repro.tables.paper.numbers import find_table, metrics
from maskrcnn_repro.tables.report.gather import Found
from maskrcnn_repro.tables.report.layout import as_json, as_markdown
from maskrcnn_repro.tables.report.report import report
from maskrcnn_repro.tables.report.reporting import as_text
from maskrcnn_repro.tables.report.saving import read_saved
from maskrcnn_repro.tables.report.statistics import Interval
from maskrcnn_repro.tables.report.verdicts import Verdict
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
    kept = (RESULTS / name).parents[1]
    table_report = kept_report(name)
    tree = as_json(table_report)
    for origin in tree["origin"]:
        origin["record"] = read_saved(kept / origin["results"])["record"]
    return as_text(tree), as_markdown(table_report, metrics())


def stored_json(name):
    """Return the JSON of a kept table, its experiments under the names of today."""
    text = (RESULTS / f"{name}.json").read_text(encoding="utf-8")
    return re.sub(r'(?<="experiment": ")[^"]+', lambda match: current_experiment(match[0]), text)


def kept_report(name):
    """Return the report of a kept table."""
    kept = (RESULTS / name).parents[1]
    tree = read_saved((RESULTS / name).with_suffix(".json"))
    table = find_table(tree["table"])
    level = tree["level"].partition("-")[0]
    overlays = tuple(map(Path, tree["overlays"]))
    setting = Setting(level, tuple(tree["overrides"]), overlays=overlays)
    records = _records(kept, [origin["results"] for origin in tree["origin"]])
    numbers = report(table, setting, experiments(), metrics(), found=records)
    pairs = zip(numbers.rows, tree["rows"], strict=True)
    rows = [_with_intervals(row, stored) for row, stored in pairs]
    verdicts = tuple(_verdict(claim) for claim in tree["claims"])
    return replace(numbers, rows=tuple(rows), verdicts=verdicts, backend=tree["backend"])


def _records(kept, names):
    gathered = Found()
    for name in names:
        record = replace(read_record(kept / name), path=Path(name))
        experiment = current_experiment(Path(name).parent.as_posix())
        gathered.records.setdefault(experiment, {})[record.seed] = record
    return gathered


def _with_intervals(row, tree):
    cells = {
        name: replace(cell, ours_interval=_interval(tree["cells"][name]["ours_interval"]))
        for name, cell in row.cells.items()
    }
    return replace(row, cells=cells)


def _interval(tree):
    return None if tree is None else Interval(**{**tree, "seeds": tuple(tree["seeds"])})


def _verdict(tree):
    return Verdict(
        claims()[tree["id"]],
        tree["outcome"],
        tree["gap"],
        _interval(tree["interval"]),
        tree["note"],
    )
