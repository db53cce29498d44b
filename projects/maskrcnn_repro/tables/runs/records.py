"""What a run left in its folder, and whether it is what a plan asks for.

A run's ``results.json`` names its origin; ``config.yaml`` beside it is the config that made it. A record
counts only for the config, backend and inputs that it was made with: numbers of different recipes never
stand in one table.
"""

from __future__ import annotations

import enum
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskrcnn_repro.config import get_config, leaves
from maskrcnn_repro.config_history import spelled_today
from maskrcnn_repro.data.proposals.store import ProposalStore
from maskrcnn_repro.errors import TableError, UserError
from maskrcnn_repro.old_names import current_experiment
from maskrcnn_repro.utils.files import write_text
from maskrcnn_repro.utils.provenance import config_hash

import yaml
from detectron2.config import CfgNode

Metrics = Mapping[str, Mapping[str, Mapping[str, float | None]]]
"""Data set, task (``bbox``, ``segm``, ``keypoints``), metric: points, 0 to 100; None: nothing to measure."""

RESULTS = "results.json"
CONFIG = "config.yaml"
RECALL = "recall.json"
NOTE = "stage.json"
"""The runner's own note in a folder: which experiment, what it was made from."""

UNRELATED = frozenset(
    {
        "OUTPUT_DIR",
        # Resolved at start; `results.json` names the machine.
        "MODEL.DEVICE",
        "DATALOADER.NUM_WORKERS",
        "DATALOADER.CACHE_IMAGES",
        "SOLVER.CHECKPOINT_PERIOD",
        "TEST.EVAL_PERIOD",
        "TEST.SHEET_IMAGES",
        "TEST.SHEET_SCORE_THRESH",
    }
)
"""Keys that do not change what is learnt or measured."""


# A value that is too long for its line goes on in indented ones.
_OUTPUT_DIR = re.compile(r"^OUTPUT_DIR: .*(?:\n +.*)*$", re.MULTILINE)
# Of C where PyYAML has it: a plan reads some hundred configs.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class State(enum.Enum):
    """How far a stage is."""

    DONE = "done"
    INTERRUPTED = "interrupted"
    MISSING = "missing"
    STALE = "stale"
    """The folder holds something else than the plan asks for; nothing is written there."""


@dataclass(frozen=True)
class Record:
    """The results of one run."""

    path: Path
    """Its ``results.json``."""
    seed: int
    metrics: Metrics
    iterations: int
    seconds: float | None
    """Training, over all resumptions, and the last evaluation."""
    backend: str
    commit: str | None
    data: Mapping[str, str | None]
    """Data set to the SHA-256 of its JSON."""
    machine: str
    weights: str
    """MODEL.WEIGHTS, as given."""
    written: str
    """ISO 8601, UTC."""
    config_sha256: str


@dataclass(frozen=True)
class Status:
    """How far a stage is, and why."""

    state: State
    note: str = ""
    record: Record | None = None
    seconds: float | None = None
    """What it took, if it is done and that is known."""


@dataclass(frozen=True)
class Expected:
    """What a stage's folder should have been made with."""

    config: CfgNode
    """As a run resolves it at its start."""
    note: Mapping[str, Any]
    """What :func:`write_note` would write now."""
    inputs: frozenset[str] = frozenset()
    """Keys that name files of earlier stages: a note vouches for these, without one they must agree."""
    iterations: int | None = None
    """How many the model was trained for; None if that does not matter."""
    since: str = ""
    """Older evaluations do not count (ISO 8601, UTC)."""


def read_record(path: Path) -> Record:
    """Return the record in a ``results.json``.

    Raises:
        TableError: it cannot be read or lacks something.
    """
    tree = _read_json(path)
    try:
        data = {one["name"]: one["sha256"] for sets in tree["datasets"].values() for one in sets}
        times = [tree["train_seconds"], tree["eval_seconds"]]
        return Record(
            path=path,
            seed=int(tree["seed"]),
            metrics={
                name: {task: _numbers(values) for task, values in tasks.items()}
                for name, tasks in tree["metrics"].items()
            },
            iterations=int(tree["iterations"]),
            seconds=None if None in times else sum(times),
            backend=tree["code"]["backend"]["name"],
            commit=tree["code"]["commit"],
            data=data,
            machine=tree["machine"]["gpu"] or tree["machine"]["cpu"],
            weights=tree["weights"],
            written=str(tree["written"]),
            config_sha256=tree["config_sha256"],
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise TableError(f"{path} is no result of this project: {error!r}.") from error


def _numbers(values: Mapping[str, Any]) -> dict[str, float | None]:
    return {key: None if value is None else float(value) for key, value in values.items()}


def training_status(folder: Path, expected: Expected) -> Status:
    """Tell how far the training with OUTPUT_DIR ``folder`` is."""
    last = folder / "last_checkpoint"
    if not (folder / RESULTS).is_file() and not last.is_file():
        return Status(State.MISSING)
    wrong = mismatch(folder / CONFIG, folder, expected)
    if wrong:
        return Status(State.STALE, wrong)
    reached = last.read_text(encoding="utf-8").strip() if last.is_file() else "no checkpoint"
    if not (folder / RESULTS).is_file():
        return Status(State.INTERRUPTED, f"at {reached}")
    return _with_record(folder, expected, State.INTERRUPTED, f"at {reached}")


def evaluation_status(folder: Path, expected: Expected) -> Status:
    """Tell whether the evaluation with OUTPUT_DIR ``folder`` is done; it is never interrupted."""
    results = folder / "inference"
    if not (results / RESULTS).is_file():
        return Status(State.MISSING)
    wrong = mismatch(results / CONFIG, folder, expected)
    if wrong:
        return Status(State.STALE, wrong)
    return _with_record(results, expected, State.MISSING, "")


def _with_record(folder: Path, expected: Expected, otherwise: State, note: str) -> Status:
    """Return DONE if the results in ``folder`` are whole, of its config and of the last iteration."""
    try:
        record = read_record(folder / RESULTS)
        own = record.config_sha256 in hashes_of_file(folder / CONFIG)
    except TableError as error:
        return Status(otherwise, f"{note}; {error}".removeprefix("; "))
    if record.backend != expected.note["backend"]:
        return Status(State.STALE, _other_backend(record.backend, expected.note["backend"]))
    if not own:
        return Status(otherwise, f"{note}; results.json is of another config".removeprefix("; "))
    if expected.iterations not in (None, record.iterations) or record.written < expected.since:
        return Status(otherwise, note)
    return Status(State.DONE, record=record, seconds=record.seconds)


def stores_status(folder: Path, stores: Sequence[Path], note: Mapping[str, Any]) -> Status:
    """Tell how far the storing of an RPN's proposals is.

    Args:
        folder: holds the stores and the runner's note.
        stores: one folder for each data set.
        note: what :func:`write_note` would write now.
    """
    there = [store for store in stores if store.exists()]
    if not there:
        return Status(State.MISSING)
    try:
        for store in there:
            ProposalStore(store)
        made = read_note(folder) or {}
        wrong = _mismatched_note(made or None, note)
    except UserError as error:
        return Status(State.STALE, str(error))
    if wrong:
        return Status(State.STALE, wrong)
    if len(there) < len(stores) or not (folder / RECALL).is_file():
        return Status(State.INTERRUPTED, f"{len(there)} of {len(stores)} data sets")
    return Status(State.DONE, seconds=made.get("seconds"))


def newest_record(folder: Path, record: Record, expected: Expected) -> Record:
    """Return the record of a later evaluation of the same training, if there is one, else ``record``."""
    again = evaluation_status(folder, expected).record
    return again if again and again.written > record.written else record


def mismatch(config: Path, folder: Path, expected: Expected) -> str:
    """Return why a run is not what is expected; empty if it is.

    Args:
        config: the ``config.yaml`` that made it.
        folder: where the runner's note may lie.
        expected: what it should have been made with.
    """
    try:
        recorded, there = read_config(config), read_note(folder)
    except TableError as error:
        return str(error)
    found = differences(expected.config, recorded, expected.inputs if there else ())
    if found:
        more = f" and {len(found) - 2} more" if len(found) > 2 else ""
        return f"{'; '.join(found[:2])}{more}"
    return _mismatched_note(there, expected.note)


def differences(
    planned: CfgNode, recorded: Mapping[str, Any], ignored: Iterable[str] = ()
) -> list[str]:
    """Return one text for each key that matters and differs, sorted by key.

    Args:
        planned: the config of today.
        recorded: values by dotted key, as :func:`read_config` returns them; a key that is younger than the
            record has its default.
        ignored: further keys that do not matter.
    """
    wanted = dict(leaves(spelled_today(planned)))
    if not wanted.keys() <= recorded.keys():
        recorded = {**dict(leaves(spelled_today(get_config(planned.PLUGINS)))), **recorded}
    texts = []
    for key in sorted({*wanted, *recorded} - UNRELATED - set(ignored)):
        there, here = recorded.get(key, "absent"), wanted.get(key, "absent")
        if there != here:
            texts.append(f"{key} is {there!r}, planned {here!r}")
    return texts


def read_config(path: Path) -> dict[str, Any]:
    """Return the values of a ``config.yaml`` of any version by dotted key, in today's spelling.

    Raises:
        TableError: it cannot be read.
    """
    return dict(leaves(spelled_today(_read_yaml(path))))


def hashes_of_file(path: Path) -> tuple[str, str]:
    """Return the hashes that a run with this ``config.yaml`` may have written into its results.

    First that of today, :func:`config_hash`; then that of the text, which runs of the first version wrote.

    Raises:
        TableError: it cannot be read.
    """
    text = _OUTPUT_DIR.sub("OUTPUT_DIR: ''", _read_text(path))
    return config_hash(_read_yaml(path)), hashlib.sha256(text.encode()).hexdigest()


def identity(results: Path) -> str | None:
    """Return what tells this file's run from any other; None if there is no file."""
    try:
        return hashlib.sha256(results.read_bytes()).hexdigest()[:16]
    except OSError:
        return None


def write_note(folder: Path, note: Mapping[str, Any]) -> None:
    """Write the runner's note into ``folder``."""
    write_text(folder / NOTE, json.dumps(dict(note), indent=2) + "\n")


def read_note(folder: Path) -> dict[str, Any] | None:
    """Return the runner's note in ``folder``, with today's names of experiments; None if the runner did not make it.

    Raises:
        TableError: it cannot be read.
    """
    if not (folder / NOTE).is_file():
        return None
    note = _read_json(folder / NOTE)
    if "experiment" in note:
        note["experiment"] = current_experiment(note["experiment"])
    if "inputs" in note:
        note["inputs"] = {_current_key(key): value for key, value in note["inputs"].items()}
    return note


def _current_key(key: str) -> str:
    """Return the key of a stage with today's name of its experiment: ``r50_c4/seed1`` for ``r50-c4/seed1``."""
    experiment, slash, rest = key.partition("/")
    return f"{current_experiment(experiment)}{slash}{rest}"


def _mismatched_note(there: Mapping[str, Any] | None, note: Mapping[str, Any]) -> str:
    if there is None:
        return ""
    if there.get("backend") != note["backend"]:
        return _other_backend(there.get("backend"), note["backend"])
    for name, source in note["inputs"].items():
        # None: the input is gone, which does not change what was made from it.
        if source is not None and there.get("inputs", {}).get(name) != source:
            return f"it was made from another run of {name} than the one there is now"
    return ""


def _other_backend(there: Any, here: Any) -> str:
    return f"made on the {there} Detectron2, this is the {here} one"


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TableError(f"{path} cannot be read: {_reason(error)}.") from error


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.load(_read_text(path), _Loader)
    except yaml.YAMLError as error:
        raise TableError(f"{path} cannot be read: {_reason(error)}.") from error
    if not isinstance(tree, dict):
        raise TableError(f"{path} holds no config.")
    return tree


def _read_json(path: Path) -> dict[str, Any]:
    try:
        tree = json.loads(_read_text(path))
    except ValueError as error:
        raise TableError(f"{path} cannot be read: {_reason(error)}.") from error
    if not isinstance(tree, dict):
        raise TableError(f"{path} holds no results.")
    return tree


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).split("\n", 1)[0]
