"""Where every number of a report comes from: what each run says of itself."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskrcnn_repro.errors import TableError
from maskrcnn_repro.tables.report.model import DETECTRON2, Origin, Report
from maskrcnn_repro.tables.report.places import is_kept
from maskrcnn_repro.tables.runs.reading import read_json
from maskrcnn_repro.tables.runs.records import read_record
from maskrcnn_repro.utils.provenance import facts_of


@dataclass(frozen=True)
class Run:
    """One run.

    Attributes:
        seed: of the training.
        seconds: of training and evaluation, if known.
        facts: name of each fact to its value.
    """

    seed: int
    seconds: float | None
    facts: Mapping[str, str]


@dataclass(frozen=True)
class Group:
    """All runs of one experiment: what they share is said once.

    Attributes:
        name: the experiment.
        runs: by seed.
    """

    name: str
    runs: tuple[Run, ...]

    @property
    def seconds(self) -> float | None:
        """Of all runs; None if one does not say it."""
        times = [run.seconds for run in self.runs]
        return None if None in times else sum(time for time in times if time is not None)

    @property
    def shared(self) -> dict[str, str]:
        """Facts in which all runs agree."""
        first, *others = (run.facts for run in self.runs)
        return {
            key: value
            for key, value in first.items()
            if all(other.get(key) == value for other in others)
        }

    def own(self, run: Run) -> dict[str, str]:
        """Return the facts in which a run is not like all others."""
        return {key: value for key, value in run.facts.items() if key not in self.shared}


def origins(reports: Iterable[Report], beside: Path) -> list[Group]:
    """Return all runs behind some tables, each once, by experiment and seed.

    Args:
        reports: the tables.
        beside: folder that paths are given from.
    """
    uses: dict[str, list[str]] = {}
    runs: dict[str, Origin] = {}
    for report in reports:
        for row in report.rows:
            for run in (run for run in report.origin if run.experiment in row.sources):
                runs[run.results] = run
                uses.setdefault(run.results, []).append(f"{row.name} ({report.table})")
    groups: dict[str, list[Run]] = {}
    for run in sorted(runs.values(), key=lambda run: (_title(run), run.seed)):
        groups.setdefault(_title(run), []).append(_run(run, uses[run.results], beside))
    return [Group(name, tuple(group)) for name, group in groups.items()]


def _title(run: Origin) -> str:
    name = run.experiment.removeprefix(DETECTRON2)
    return name if name == run.experiment else f"{name}, Detectron2's weights"


def _run(run: Origin, uses: Iterable[str], beside: Path) -> Run:
    tree: dict[str, Any] = {}
    # A file that is gone since, or no longer a record, leaves its facts out.
    with contextlib.suppress(TableError):
        read_record(Path(run.results))
        tree = read_json(Path(run.results))
    machine = tree.get("machine") or {}
    made_by = facts_of(tree.get("code"), machine)
    times = [tree.get(key) for key in ("train_seconds", "eval_seconds")]
    facts = {
        "Rows": "; ".join(uses),
        "Iterations": f"{tree['iterations']:,}" if "iterations" in tree else "",
        "Training": _duration(times[0]),
        "Precision of training": str((tree.get("precision") or {}).get("training") or ""),
        "Evaluation": _duration(times[1]),
        "Backend": made_by.get("Backend", ""),
        "Commit": run.commit or "of no checkout",
        "Config, SHA-256": str(tree.get("config_sha256", "")),
        "Data, SHA-256": "; ".join(f"{key} {value or '-'}" for key, value in run.data.items()),
        "Started from": run.weights or "random weights",
        "Machine": made_by.get("Machine", ""),
        "Threads": str(machine.get("threads") or ""),
        "Processes": str(machine.get("processes") or ""),
        "Versions": made_by.get("Versions", ""),
        "Plug-ins": made_by.get("Plug-ins", ""),
        "Written": run.written,
        "Record": "kept with the code" if is_kept(Path(run.results)) else "",
        "Weights, SHA-256": str(tree.get("weights_sha256") or ""),
        "File": os.path.relpath(run.results, beside),
    }
    seconds = None if None in times else sum(time for time in times if time is not None)
    return Run(run.seed, seconds, {key: value for key, value in facts.items() if value})


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
