"""Trainings whose record is kept with the code: which stand for a run, and whether one done again has the same weights."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from maskrcnn_repro import _location
from maskrcnn_repro._backend import BACKEND
from maskrcnn_repro.checkpoint.weight_file import read_content, state_of
from maskrcnn_repro.config import leaves
from maskrcnn_repro.config_history import spelled_first
from maskrcnn_repro.errors import TableError, UserError
from maskrcnn_repro.old_names import current_experiment, former_experiments
from maskrcnn_repro.tables.runs.plan import Plan
from maskrcnn_repro.tables.runs.reading import read_json, read_yaml
from maskrcnn_repro.tables.runs.records import (
    CONFIG,
    UNRELATED,
    Record,
    State,
    read_record,
    run_folder,
)
from maskrcnn_repro.tables.runs.scrubbing import scrub
from maskrcnn_repro.tables.runs.stage import WEIGHTS, Setting, Stage, StoreStage
from maskrcnn_repro.utils.hashes import weights_digest
from maskrcnn_repro.utils.provenance import config_hash

DIFFERS = "differs from its kept record"
OTHER_RECIPE = "it is of another recipe than this level's now"
NO_RECIPE = (
    "it is of an earlier version, which kept no recipe: whether it is this level's cannot be told"
)
PATHS = frozenset(
    {"MODEL.WEIGHTS", "DATASETS.PROPOSAL_FILES_TRAIN", "DATASETS.PROPOSAL_FILES_TEST"}
)
"""Keys that name the results of earlier stages: their folder does not change a model."""


def recipe_of(config: Mapping[str, Any]) -> str:
    """Return a hash of a config that is the same for the same training in another folder or on another machine."""
    values = dict(leaves(spelled_first(config)))
    kept = [(key, values[key]) for key in sorted(values.keys() - UNRELATED - PATHS)]
    return hashlib.sha256(json.dumps(kept).encode()).hexdigest()


def recipe_of_run(results: Path) -> str | None:
    """Return :func:`recipe_of` the config beside the results of a run; None if it cannot be read."""
    try:
        return recipe_of(read_yaml(results.with_name(CONFIG)))
    except TableError:
        return None


def digest_of_run(results: Path) -> str | None:
    """Return the digest of a training's weights: of its record, or else, as earlier versions ran it, of its last file.

    None if neither is there, as of what only evaluates.
    """
    if digest := read_record(results).weights_sha256:
        return digest
    folder = run_folder(results)
    if not (folder / WEIGHTS).is_file():
        return None
    try:
        return weights_digest(state_of(read_content(folder / WEIGHTS)))
    except UserError:
        return None


def kept_seeds(setting: Setting, experiment: str) -> list[int]:
    """Return the seeds of which a record of an experiment is kept, in increasing order."""
    files = [path for f in kept_folders(setting, experiment) for path in f.glob("seed*.json")]
    names = {path.stem.removeprefix("seed") for path in files}
    return sorted(int(name) for name in names if name.isdecimal())


def kept_file(stage: Stage) -> Path | None:
    """Return the file that keeps a record of a stage, of whatever recipe; None if there is none.

    What stands there and is no file, such as a link to nowhere, cannot be read, and is not passed over.
    """
    if isinstance(stage, StoreStage):
        return None
    folders = kept_folders(stage.setting, stage.experiment.id)
    files = (folder / f"seed{stage.seed}.json" for folder in folders)
    return next((file for file in files if os.path.lexists(file)), None)


def kept_record(stage: Stage) -> Record | None:
    """Return the record of a stage that is kept with the code; None if there is none of its recipe and length.

    Raises:
        UserError: as :func:`fitting_record`.
    """
    return fitting_record(stage)[0]


def fitting_record(stage: Stage) -> tuple[Record | None, str]:
    """Return :func:`kept_record` and an empty text, or None and why what is kept does not stand for the stage.

    Raises:
        UserError: the file cannot be read or contradicts its place, or the stage's config has a mistake.
    """
    file = kept_file(stage)
    if file is None:
        return None, ""
    tree, record = read_json(file), read_record(file)
    _check_place(tree, record, stage)
    recipe = tree.get("recipe_sha256")
    # Records of earlier versions have the hash of all values alone, folders among them.
    own = recipe_of(stage.config) if recipe else config_hash(stage.config)
    if stage.expected().iterations not in (None, record.iterations):
        return None, OTHER_RECIPE
    if own == (recipe or record.config_sha256):
        return record, ""
    return None, OTHER_RECIPE if recipe else NO_RECIPE


def _check_place(tree: Mapping[str, Any], record: Record, stage: Stage) -> None:
    """Raise TableError for a kept record that is not of the place where it lies, or whose metrics cannot be its own."""
    overlays = [file.name for file in stage.setting.overlays]
    # As a record keeps them: without folders.
    overrides = scrub(list(stage.setting.overrides), str(stage.setting.folder))
    facts = {
        "its seed is": (record.seed, stage.seed),
        "its backend is": (record.backend, BACKEND.name),
        "its level is": (tree.get("level", stage.setting.label), stage.setting.label),
        "its experiment is": (
            current_experiment(str(tree.get("experiment", stage.experiment.id))),
            stage.experiment.id,
        ),
        "its overrides are": (tree.get("overrides", overrides), overrides),
        "its overlays are": (tree.get("overlays", overlays), overlays),
    }
    if not record.kept:
        raise TableError(
            f"{record.path} is no kept record: it lacks 'record', which names its run."
        )
    for text, (there, expected) in facts.items():
        if there != expected:
            raise TableError(
                f"{record.path} contradicts its place: {text} {there!r:.80}, not {expected!r}."
            )
    _check_metrics(record, list(stage.config.DATASETS.TEST))


def _check_metrics(record: Record, datasets: Sequence[str]) -> None:
    """Raise TableError unless metrics are of these data sets, and points."""
    if list(record.metrics) != datasets:
        raise TableError(
            f"{record.path} contradicts its place: its metrics are of {_list_datasets(record.metrics)}, not of {_list_datasets(datasets)}."
        )
    for dataset, tasks in record.metrics.items():
        if not any(tasks.values()):
            raise TableError(f"{record.path} holds no metric of data set {dataset}.")
        for task, values in tasks.items():
            for name, value in values.items():
                if value is not None and not 0 <= value <= 100:
                    raise TableError(
                        f"{record.path} holds a {task} {name} of {value:g}, which is not from 0 to 100 points."
                    )


def with_kept(plan: Plan) -> Plan:
    """Return a plan in which kept records stand for the requested trainings that have not run here.

    Raises:
        UserError: a record cannot be read.
    """
    stages = [stage for stage in plan.stages if stage.key in plan.requested]
    undone = [stage for stage in stages if plan.statuses[stage.key].state is not State.DONE]
    return replace(plan, kept=frozenset(stage.key for stage in undone if kept_record(stage)))


def compare_weights(stage: Stage, record: Record | None) -> str:
    """Return whether a training ended with the weights of its kept record, in a sentence.

    It is empty if there is no kept record of its recipe and data, or one of the two has no digest.

    Args:
        stage: the training, or what has no weights.
        record: its record here.
    """
    try:
        kept = kept_record(stage) if record and record.weights_sha256 else None
    except UserError:
        return ""
    if record is None or kept is None or not kept.weights_sha256 or kept.data != record.data:
        return ""
    if kept.weights_sha256 == record.weights_sha256:
        return f"{stage.title} has the weights of its kept record (SHA-256 {_abbreviate(kept)})."
    return (
        f"{stage.title} {DIFFERS}: weights {_abbreviate(record)} by {_maker(record)}, kept "
        f"{_abbreviate(kept)} by {_maker(kept)}; what is trained with it is of other proposals or weights."
    )


def compare_starts(stage: Stage, records: Mapping[int, Record]) -> str:
    """Return a sentence if seeds of an experiment started from different weights of a shared stage; empty if not.

    It also says where that cannot be told of runs beside kept records.

    Args:
        stage: a training that all seeds share.
        records: the experiment's by seed, of runs and kept ones.
    """
    kept = {seed: record for seed, record in records.items() if record.kept}
    ran = [seed for seed in records if seed not in kept]
    own = _trained_here(stage) if ran else None
    said = compare_weights(stage, own)
    if DIFFERS in said:
        return said
    digests = {seed: record.shared_weights.get(stage.key) for seed, record in kept.items()}
    digests |= dict.fromkeys(ran, own.weights_sha256 if own else None)
    seeds: dict[str, list[int]] = {}
    for seed, digest in digests.items():
        if digest:
            seeds.setdefault(digest, []).append(seed)
    if len(seeds) > 1:
        parts = [f"{digest[:8]} of seed {_numbers(theirs)}" for digest, theirs in seeds.items()]
        return f"{stage.title} was trained more than once for these seeds, with other weights: {'; '.join(parts)}."
    if kept and ran and None in digests.values() and not said:
        return (
            f"Whether seed {_numbers(ran)} started from the same weights of {stage.title} as the kept seed "
            f"{_numbers(kept)} cannot be told, as not all have a digest of them."
        )
    return ""


def _trained_here(stage: Stage) -> Record | None:
    try:
        return stage.status().record
    except UserError:  # of its config or data; what it has trained is here all the same
        return None


def _numbers(seeds: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(seeds)))


def _list_datasets(datasets: Iterable[str]) -> str:
    return ", ".join(datasets) or "no data set"


def kept_folders(setting: Setting, experiment: str) -> list[Path]:
    """Return where records of an experiment may be kept, under its name or a former one."""
    folder = _location.RESULTS / setting.label / BACKEND.name
    return [folder / name for name in (experiment, *former_experiments(experiment))]


def _abbreviate(record: Record) -> str:
    return str(record.weights_sha256)[:8]


def _maker(record: Record) -> str:
    return f"torch {record.torch or 'unknown'} on {record.machine}"
