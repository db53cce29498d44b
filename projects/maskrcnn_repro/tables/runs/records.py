"""Records of runs: what is read from a run's folder, and whether it is the run that a plan expects.

``results.json`` has the metrics and their origin, ``config.yaml`` beside it the config of the run. A record counts
only for the same config, backend and inputs, so that numbers of different recipes never stand in one table.
"""

from __future__ import annotations

import enum
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from maskrcnn_repro.config import get_config, leaves
from maskrcnn_repro.config_history import spelled_today
from maskrcnn_repro.data.proposals.store import ProposalStore
from maskrcnn_repro.errors import TableError, UserError
from maskrcnn_repro.old_names import current_experiment
from maskrcnn_repro.tables.runs import fields
from maskrcnn_repro.tables.runs.reading import describe_error, read_json, read_text, read_yaml
from maskrcnn_repro.utils.files import write_text
from maskrcnn_repro.utils.lock import traces
from maskrcnn_repro.utils.provenance import config_hash

from detectron2.config import CfgNode

Metrics = Mapping[str, Mapping[str, Mapping[str, float | None]]]
"""Data set to task (``bbox``, ``segm``, ``keypoints``) to metric, in points, 0 to 100; None without ground truth."""

RESULTS = "results.json"
CONFIG = "config.yaml"
RECALL = "recall.json"
NOTE = "stage.json"
"""Written by the runner: which stage the folder is of, and the hashes of its inputs."""

UNRELATED = frozenset(
    {
        "OUTPUT_DIR",
        # `auto` is resolved at the start of a run; `results.json` names the machine.
        "MODEL.DEVICE",
        "DATALOADER.NUM_WORKERS",
        "DATALOADER.CACHE_IMAGES",
        "MODEL.WEIGHTS_MIN_COVERAGE",
        "SOLVER.CHECKPOINT_PERIOD",
        "SOLVER.CHECKPOINT_KEEP",
        "SOLVER.STALL_SECONDS",
        "TEST.EVAL_PERIOD",
        "TEST.BEST_METRIC",
        "TEST.SHEET_IMAGES",
        "TEST.SHEET_SCORE_THRESH",
        "TRACKERS",
    }
)
"""Keys that change neither the trained model nor its metrics."""

# PyYAML continues a long value on indented lines.
_OUTPUT_DIR = re.compile(r"^OUTPUT_DIR: .*(?:\n +.*)*$", re.MULTILINE)


class State(enum.Enum):
    """State of a stage."""

    DONE = "done"
    INTERRUPTED = "interrupted"
    MISSING = "missing"
    STALE = "stale"
    """Its folder holds another run than the plan expects."""


@dataclass(frozen=True)
class Record:
    """The results of one run."""

    path: Path
    """Its ``results.json``."""
    seed: int
    metrics: Metrics
    iterations: int
    seconds: float | None
    """Of the training, over all resumptions, and the last evaluation; None if not recorded."""
    backend: str
    commit: str | None
    data: Mapping[str, str | None]
    """Data set to the SHA-256 of its JSON."""
    machine: str
    weights: str
    """MODEL.WEIGHTS as the run's config has it."""
    written: str
    """Time of writing, ISO 8601, UTC."""
    config_sha256: str
    weights_sha256: str | None = None
    """Of the model's ``state_dict``; None in records of earlier versions."""
    torch: str = ""
    precision: str = ""
    """What the training's convolutions computed in; empty in records of earlier versions."""
    kept: str | None = None
    """In a record that is kept with the code, what identifies the run that it is of."""
    shared_weights: Mapping[str, str] = field(default_factory=dict)
    """In such a record, RPN or backbone that it was trained with, ``rpn_r50_c4/seed1``, to the digest of its weights."""

    @property
    def identity(self) -> str | None:
        """What tells its run from any other; None if its file is gone."""
        return self.kept or identity(self.path)


@dataclass(frozen=True)
class Status:
    """State of a stage, with the reason and, if it is done, its record."""

    state: State
    note: str = ""
    """Why it is stale or interrupted; empty otherwise."""
    record: Record | None = None
    seconds: float | None = None
    """How long it took, if it is done and that is known."""


@dataclass(frozen=True)
class Expected:
    """The run that the folder of a stage should hold."""

    config: CfgNode
    """The config that a run resolves at its start."""
    note: Mapping[str, Any]
    """What ``stage.json`` would contain now."""
    inputs: frozenset[str] = frozenset()
    """Input-path keys; if ``stage.json`` exists its input hashes are compared instead."""
    iterations: int | None = None
    """Of the training; None if any number will do."""
    since: str = ""
    """Evaluations before this time do not count (ISO 8601, UTC)."""


def read_record(path: Path) -> Record:
    """Return the record in a ``results.json``, or in a file that keeps one with the code.

    Raises:
        TableError: the file cannot be read or is incomplete.
    """
    tree = read_json(path)
    try:
        data = {
            fields.text(item["name"]): item["sha256"] and fields.text(item["sha256"])
            for split in tree["datasets"].values()
            for item in split
        }
        times = [tree["train_seconds"], tree["eval_seconds"]]
        return Record(
            path=path,
            seed=fields.whole_number(tree["seed"]),
            metrics={
                name: {task: fields.numbers(values) for task, values in tasks.items()}
                for name, tasks in tree["metrics"].items()
            },
            iterations=fields.whole_number(tree["iterations"]),
            seconds=None if None in times else sum(map(fields.duration, times)),
            backend=fields.word(tree["code"]["backend"]["name"]),
            commit=fields.optional_text(tree["code"]["commit"]),
            data=data,
            machine=fields.word(tree["machine"]["gpu"] or tree["machine"]["cpu"]),
            weights=fields.text(tree["weights"]),
            written=fields.word(tree["written"]),
            config_sha256=fields.text(tree["config_sha256"]),
            weights_sha256=fields.optional_text(tree.get("weights_sha256")),
            torch=str(tree["code"].get("torch") or ""),
            precision=fields.text(tree.get("precision", {}).get("training", "")),
            kept=fields.optional_text(tree.get("record")),
            shared_weights={
                key: fields.text(digest)
                for key, digest in tree.get("shared_weights_sha256", {}).items()
            },
        )
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise TableError(
            f"{path} is no result of this project: {describe_error(error, path)}."
        ) from error


def training_status(folder: Path, expected: Expected) -> Status:
    """Return the status of the training with OUTPUT_DIR ``folder``."""
    last = folder / "last_checkpoint"
    if not (folder / RESULTS).is_file() and not traces(folder):
        return Status(State.MISSING)
    reached = "no checkpoint"
    if last.is_file():
        reached = last.read_text(encoding="utf-8", errors="replace").strip()
    return _status(folder, folder, expected, Status(State.INTERRUPTED, f"at {reached}"))


def evaluation_status(folder: Path, expected: Expected) -> Status:
    """Return the status of the evaluation with OUTPUT_DIR ``folder``; it is never interrupted."""
    if not (folder / "inference" / RESULTS).is_file():
        return Status(State.MISSING)
    return _status(folder / "inference", folder, expected, Status(State.MISSING))


def _status(place: Path, folder: Path, expected: Expected, undone: Status) -> Status:
    """Return DONE if the results in ``place`` are complete, of its config and of the last iteration.

    Args:
        place: may contain the results.
        folder: of the run.
        expected: the run that should be there.
        undone: status of this run without such results.
    """
    difference = mismatch(place / CONFIG, folder, expected)
    if difference:
        return Status(State.STALE, difference)
    if not (place / RESULTS).is_file():
        return undone
    try:
        record = read_record(place / RESULTS)
        if record.backend != expected.note["backend"]:
            return Status(State.STALE, _other_backend(record.backend, expected.note["backend"]))
        if record.config_sha256 not in hashes_of_file(place / CONFIG):
            raise TableError("results.json is of another config")
    except TableError as error:
        return replace(undone, note="; ".join(filter(None, (undone.note, str(error)))))
    if expected.iterations not in (None, record.iterations) or record.written < expected.since:
        return undone
    return Status(State.DONE, record=record, seconds=record.seconds)


def stores_status(folder: Path, stores: Sequence[Path], note: Mapping[str, Any]) -> Status:
    """Return the status of storing an RPN's proposals.

    Args:
        folder: contains the stores and ``stage.json``.
        stores: the store of each data set.
        note: what ``stage.json`` would contain now.
    """
    existing = [store for store in stores if store.exists()]
    if not existing:
        return Status(State.MISSING)
    try:
        for store in existing:
            # Raises for an incomplete store.
            ProposalStore(store)
        recorded = read_note(folder)
    except UserError as error:
        return Status(State.STALE, str(error))
    difference = _mismatched_note(recorded, note)
    if difference:
        return Status(State.STALE, difference)
    if len(existing) < len(stores) or not (folder / RECALL).is_file():
        return Status(State.INTERRUPTED, f"{len(existing)} of {len(stores)} data sets")
    return Status(State.DONE, seconds=(recorded or {}).get("seconds"))


def newest_record(folder: Path, record: Record, expected: Expected) -> Record:
    """Return the record of a later evaluation of the same training, or ``record`` if there is none."""
    repeated = evaluation_status(folder, expected).record
    return repeated if repeated and repeated.written > record.written else record


def mismatch(config: Path, folder: Path, expected: Expected) -> str:
    """Return how a run differs from the expected one; empty if it does not.

    Args:
        config: the ``config.yaml`` of the run.
        folder: may contain ``stage.json``.
        expected: the run that should be there.
    """
    try:
        recorded, note = read_config(config), read_note(folder)
    except TableError as error:
        return str(error)
    texts = differences(expected.config, recorded, expected.inputs if note else ())
    if texts:
        more = f" and {len(texts) - 2} more" if len(texts) > 2 else ""
        return f"{'; '.join(texts[:2])}{more}"
    return _mismatched_note(note, expected.note)


def differences(
    planned: CfgNode, recorded: Mapping[str, Any], ignored: Iterable[str] = ()
) -> list[str]:
    """Return a text for each key with different values, sorted by key, without :data:`UNRELATED` keys.

    Args:
        planned: the planned config.
        recorded: values by dotted key, as :func:`read_config` returns them; a key added to the config since then
            has its default.
        ignored: further keys that are not compared.
    """
    values = dict(leaves(spelled_today(planned)))
    if not values.keys() <= recorded.keys():
        recorded = {**dict(leaves(spelled_today(get_config(planned.PLUGINS)))), **recorded}
    texts = []
    for key in sorted({*values, *recorded} - UNRELATED - set(ignored)):
        before, now = recorded.get(key, "absent"), values.get(key, "absent")
        if before != now:
            texts.append(f"{key} is {before!r}, planned {now!r}")
    return texts


def read_config(path: Path) -> dict[str, Any]:
    """Return the values of a ``config.yaml`` by dotted key; keys of earlier versions are translated to today's.

    Raises:
        TableError: the file cannot be read.
    """
    return dict(leaves(spelled_today(read_yaml(path))))


def hashes_of_file(path: Path) -> tuple[str, str]:
    """Return the hashes that a run with this ``config.yaml`` may have written into its ``results.json``.

    The first is :func:`config_hash`; the second that of the file's text, which runs of the first version wrote.

    Raises:
        TableError: the file cannot be read.
    """
    text = _OUTPUT_DIR.sub("OUTPUT_DIR: ''", read_text(path))
    return config_hash(read_yaml(path)), hashlib.sha256(text.encode()).hexdigest()


def identity(results: Path) -> str | None:
    """Return a hash of a results file, which identifies its run; None if there is no such file."""
    try:
        return hashlib.sha256(results.read_bytes()).hexdigest()[:16]
    except OSError:
        return None


def run_folder(results: Path) -> Path:
    """Return the folder of the run that left these results: its own or its last evaluation's."""
    return results.parent.parent if results.parent.name == "inference" else results.parent


def write_note(folder: Path, note: Mapping[str, Any]) -> None:
    """Write ``stage.json`` into ``folder``."""
    write_text(folder / NOTE, json.dumps(dict(note), indent=2) + "\n")


def read_note(folder: Path) -> dict[str, Any] | None:
    """Return ``stage.json`` of ``folder``, with today's names of experiments; None if no runner wrote it.

    Raises:
        TableError: the file cannot be read.
    """
    if not (folder / NOTE).is_file():
        return None
    note = read_json(folder / NOTE)
    try:
        fields.text(note.get("experiment", ""))
        for source in note.get("inputs", {}).values():
            fields.optional_text(source)
        if note.get("seconds") is not None:
            fields.duration(note["seconds"])
    except (ArithmeticError, AttributeError, TypeError, ValueError) as error:
        raise TableError(
            f"{folder / NOTE} is no note of a stage: {describe_error(error, folder / NOTE)}."
        ) from error
    if "experiment" in note:
        note["experiment"] = current_experiment(note["experiment"])
    if "inputs" in note:
        note["inputs"] = {_current_key(key): value for key, value in note["inputs"].items()}
    return note


def _current_key(key: str) -> str:
    """Return the key of a stage with today's name of its experiment: ``r50_c4/seed1`` for ``r50-c4/seed1``."""
    experiment, slash, rest = key.partition("/")
    return f"{current_experiment(experiment)}{slash}{rest}"


def _mismatched_note(recorded: Mapping[str, Any] | None, note: Mapping[str, Any]) -> str:
    """Return how the recorded ``stage.json``, if there is any, differs from today's; empty if it does not."""
    if recorded is None:
        return ""
    if recorded.get("backend") != note["backend"]:
        return _other_backend(recorded.get("backend"), note["backend"])
    for name, source in note["inputs"].items():
        # None: the input was deleted, which does not make the run stale.
        if source is not None and recorded.get("inputs", {}).get(name) != source:
            return f"it was made from another run of {name} than the one there is now"
    return ""


def _other_backend(recorded: Any, current: Any) -> str:
    return f"made on the {recorded} Detectron2, this is the {current} one"
