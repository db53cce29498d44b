"""Where every number of a report comes from: what each run says of itself."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskrcnn_repro.tables.report.report import TableReport
from maskrcnn_repro.tables.runs.records import Record

NO_VERSIONS = frozenset({"commit", "backend", "plugins"})
"""What ``code`` of a results.json holds beside versions."""


@dataclass(frozen=True)
class Run:
    """One run.

    Attributes:
        name: its experiment.
        seed: of the training.
        seconds: of training and evaluation, if known.
        facts: name of each fact to its value.
    """

    name: str
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


def origins(reports: Iterable[TableReport], beside: Path) -> list[Group]:
    """Return all runs behind some tables, each once, by experiment and seed.

    Args:
        reports: the tables.
        beside: folder that paths are given from.
    """
    uses: dict[Path, list[str]] = {}
    found: dict[Path, tuple[str, Record]] = {}
    for report in reports:
        for row in report.rows:
            name = row.row.experiment or row.row.id
            weights = [(f"{name}, Detectron2's weights", row.zoo)] if row.zoo else []
            for title, record in [*((name, one) for one in row.records), *weights]:
                found[record.path] = (title, record)
                uses.setdefault(record.path, []).append(f"{row.row.name} ({report.table.id})")
    groups: dict[str, list[Run]] = {}
    for path, (name, record) in found.items():
        groups.setdefault(name, []).append(_run(name, record, uses[path], beside))
    return [
        Group(name, tuple(sorted(groups[name], key=lambda run: run.seed)))
        for name in sorted(groups)
    ]


def short_commit(commit: str | None) -> str:
    """Return twelve digits of a commit, and whether files differed from it."""
    if commit is None:
        return "no checkout"
    return commit[:12] + "-dirty" * commit.endswith("-dirty")


def _run(name: str, record: Record, uses: Iterable[str], beside: Path) -> Run:
    tree = _tree(record.path)
    code, machine = _part(tree, "code"), _part(tree, "machine")
    backend = _part(code, "backend")
    versions = [f"{key} {value}" for key, value in code.items() if key not in NO_VERSIONS and value]
    plugins = [str(one.get("name")) for one in code.get("plugins") or () if isinstance(one, dict)]
    facts = {
        "Rows": "; ".join(uses),
        "Iterations": f"{record.iterations:,}",
        "Training": _duration(tree.get("train_seconds")),
        "Evaluation": _duration(tree.get("eval_seconds")),
        "Backend": " ".join(str(backend.get(key) or "") for key in ("name", "version")).strip(),
        "Commit": record.commit or "of no checkout",
        "Config, SHA-256": record.config_sha256,
        "Data, SHA-256": "; ".join(f"{key} {value or '-'}" for key, value in record.data.items()),
        "Started from": record.weights or "random weights",
        "Machine": "; ".join(
            str(machine[key]) for key in ("gpu", "cpu", "system") if machine.get(key)
        ),
        "Threads": str(machine.get("threads") or ""),
        "Processes": str(machine.get("processes") or ""),
        "Versions": ", ".join(versions),
        "Plug-ins": ", ".join(plugins),
        "Written": record.written,
        "File": os.path.relpath(record.path, beside),
    }
    said = {key: value for key, value in facts.items() if value}
    return Run(name, record.seed, record.seconds, said)


def _tree(path: Path) -> Mapping[str, Any]:
    """Return the file of a record once more: a record has not all that its file says."""
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return tree if isinstance(tree, dict) else {}


def _part(tree: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    part = tree.get(key)
    return part if isinstance(part, dict) else {}


def _duration(seconds: Any) -> str:
    if not isinstance(seconds, int | float):
        return ""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
