"""The small JSON records behind a report, as they are kept with the code: ``results/``.

``LEVEL/BACKEND/EXPERIMENT/seedK.json`` is a run's ``results.json`` with what it was made from;
``LEVEL/BACKEND/tables/TABLE.json`` and ``.md`` are the report; ``LEVEL/BACKEND/claims.json`` has all claims of the
tables there. No file names a folder of the machine that made it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from maskrcnn_repro._backend import BACKEND
from maskrcnn_repro.errors import TableError
from maskrcnn_repro.old_names import current_experiment, former_experiments
from maskrcnn_repro.tables.report.layout import as_json, as_markdown
from maskrcnn_repro.tables.report.report import TableReport
from maskrcnn_repro.tables.report.reporting import Known, as_text, write
from maskrcnn_repro.tables.runs.plan import plan
from maskrcnn_repro.tables.runs.records import State, identity, read_note
from maskrcnn_repro.tables.runs.stage import Setting, Stage, StoreStage

TABLES = "tables"
CLAIMS = "claims.json"
# A path from the root of the disk, not part of an address or of a relative path.
_ABSOLUTE = re.compile(r"(?<![\w.:/~-])/(?:[\w.@%+~-]+/)*([\w.@%+~-]+)")


def save_reports(made: Sequence[TableReport], setting: Setting, known: Known, place: Path) -> Path:
    """Save the records of reports, the tables and their claims; a table with neither is left out.

    What an earlier report saved of the same experiments is replaced: other seeds of them go.

    Args:
        made: the reports, whole.
        setting: that they were made with.
        known: all experiments and metrics.
        place: the folder ``results``.

    Returns:
        Where they are.

    Raises:
        OutputError: a file cannot be written.
    """
    folder = place / setting.label / BACKEND.name
    saved: dict[Path, str] = {}
    root = str(setting.folder)
    for one in made:
        if not one.records and not one.verdicts:
            continue
        _add_records(one, setting, known, saved)
        tree = as_json(one)
        for origin in tree["origin"]:
            path = Path(origin["results"])
            origin.update(results=_name(path, setting).as_posix(), record=identity(path))
        saved[Path(TABLES, f"{one.table.id}.json")] = as_text(scrubbed(tree, root))
        saved[Path(TABLES, f"{one.table.id}.md")] = scrubbed(as_markdown(one, known.columns), root)
    for name, text in saved.items():
        write(folder / name, text)
    current = {name.parent.as_posix() for name in saved if name.parts[0] != TABLES}
    for experiment in {*current, *(old for name in current for old in former_experiments(name))}:
        for file in (folder / experiment).glob("seed*.json"):
            if file.relative_to(folder) not in saved:
                file.unlink()
    order = list(known.claims)
    claims = [claim for tree in read_tables(folder).values() for claim in tree["claims"]]
    claims.sort(key=lambda claim: order.index(claim["id"]))
    write(folder / CLAIMS, as_text({"claims": claims}))
    return folder


def read_tables(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the saved tables of a level and backend by id, in order of their ids.

    Raises:
        TableError: a file cannot be read.
    """
    return {file.stem: read_saved(file) for file in sorted((folder / TABLES).glob("*.json"))}


def read_saved(file: Path) -> dict[str, Any]:
    """Return what a saved file holds.

    Raises:
        TableError: it cannot be read.
    """
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise TableError(f"{file} cannot be read: {error}.") from error


def scrubbed(value: Any, root: str) -> Any:
    """Return plain values without folders of this machine.

    Args:
        value: texts, numbers, lists and dicts of them.
        root: the folder of all runs; what lies in it keeps its name from there on.
    """
    if isinstance(value, dict):
        return {key: scrubbed(one, root) for key, one in value.items()}
    if isinstance(value, list):
        return [scrubbed(one, root) for one in value]
    if not isinstance(value, str):
        return value
    return _ABSOLUTE.sub(r"\1", value.replace(f"{root}/", ""))


def _add_records(one: TableReport, setting: Setting, known: Known, saved: dict[Path, str]) -> None:
    """Add each record of a table, and those of the trainings that it was made from."""
    for record in one.records:
        name = _name(record.path, setting)
        saved[name] = _text(record.path, setting, known)
        for stage in _earlier(name, setting, known):
            other = _name(stage.results, setting)
            if other not in saved and stage.status().state is State.DONE:
                saved[other] = _text(stage.results, setting, known)


def _earlier(name: Path, setting: Setting, known: Known) -> list[Stage]:
    """Return the trainings before the one whose record has this name."""
    experiment, seed = name.parent.as_posix(), int(name.stem.removeprefix("seed"))
    if experiment not in known.experiments:  # weights of Detectron2's
        return []
    stages = plan([experiment], [seed], setting, known.experiments).stages[:-1]
    return [stage for stage in stages if not isinstance(stage, StoreStage)]


def _run_folder(results: Path) -> Path:
    """Return the folder of the run that left these results: its own or its last evaluation's."""
    return results.parent.parent if results.parent.name == "inference" else results.parent


def _name(results: Path, setting: Setting) -> Path:
    folder = _run_folder(results).relative_to(setting.folder)
    return Path(current_experiment(folder.parent.as_posix()), f"{folder.name}.json")


def _text(results: Path, setting: Setting, known: Known) -> str:
    tree = read_saved(results)
    for sets in tree["datasets"].values():
        for one in sets:
            one.pop("json", None)
    tree["code"]["backend"].pop("location", None)
    # Of a kernel's release only its kind: "Linux".
    tree["machine"]["system"] = str(tree["machine"].get("system", "")).split("-")[0]
    experiment = _name(results, setting).parent.as_posix()
    trains = experiment in known.experiments and not known.experiments[experiment].evaluates
    head = {
        "experiment": experiment,
        "kind": "training" if trains else "evaluation",
        "level": setting.label,
        "overrides": list(setting.overrides),
        "overlays": [file.name for file in setting.overlays],
        "record": identity(results),
        "inputs": (read_note(_run_folder(results)) or {}).get("inputs", {}),
    }
    return as_text(scrubbed({**head, **tree}, str(setting.folder)))
