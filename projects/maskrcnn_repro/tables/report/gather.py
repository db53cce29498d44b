"""The records of some experiments: those that belong together, and the reason why others were left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from maskrcnn_repro.errors import UserError
from maskrcnn_repro.tables.paper.experiments import Experiment
from maskrcnn_repro.tables.paper.numbers import Metric
from maskrcnn_repro.tables.runs.plan import plan
from maskrcnn_repro.tables.runs.records import Record, State, newest_record, read_note
from maskrcnn_repro.tables.runs.retrained import (
    compare_starts,
    fitting_record,
    kept_file,
    kept_seeds,
)
from maskrcnn_repro.tables.runs.stage import Setting, Stage, StoreStage
from maskrcnn_repro.utils.provenance import data_origin


@dataclass
class Gathered:
    """Records of some experiments, by experiment and seed, and what was refused."""

    records: dict[str, dict[int, Record]] = field(default_factory=dict)
    unfinished: dict[str, list[str]] = field(default_factory=dict)
    refused: dict[str, list[str]] = field(default_factory=dict)
    """By experiment: records that lie in the right place and do not belong there, and why."""
    inputs: dict[Path, Mapping[str, str | None]] = field(default_factory=dict)
    """Record to the runs that it was made from: an RPN's proposals, weights to start from."""
    notes: dict[str, list[str]] = field(default_factory=dict)
    """By experiment: how what it was trained from differs from what the kept records were trained from."""

    def refuse(self, experiment: str, folder: Path, why: str) -> None:
        """Note that the record in a folder is left out."""
        self.refused.setdefault(experiment, []).append(f"{folder}: {why.rstrip('.')}")


def gather(
    names: Iterable[str],
    setting: Setting,
    experiments: Mapping[str, Experiment],
    seeds: int | None = None,
    *,
    kept: bool = False,
) -> Gathered:
    """Read the records of experiments, of all seeds or of seeds 1 to ``seeds``.

    All that are returned are of the recipe, backend and level asked for, of one version of each data set, and
    made from the same runs of earlier stages.

    Args:
        names: ids of the experiments.
        setting: level, overrides, folder.
        experiments: all experiments.
        seeds: the last one; None for all.
        kept: let records that are kept with the code stand for seeds without a finished run.
    """
    gathered = Gathered()
    for name in names:
        there = {*setting.seeds_there(name), *(kept_seeds(setting, name) if kept else ())}
        for seed in sorted(there):
            if seeds is None or seed <= seeds:
                stage = plan([name], [seed], setting, experiments).stages[-1]
                try:
                    _read(stage, gathered, kept=kept)
                except (
                    UserError
                ) as error:  # of its config or data; the others are read all the same
                    gathered.refuse(name, stage.folder, str(error))
    _refuse_other_data(gathered)
    _refuse_other_inputs(gathered)
    _note_other_inputs(gathered, setting, experiments)
    _note_precisions(gathered)
    return gathered


def value_of(record: Record, metric: Metric) -> float | None:
    """Return a metric of a record's first data set; None if it was not measured."""
    tasks = next(iter(record.metrics.values()), {})
    return tasks.get(metric.task, {}).get(metric.key)


def _read(stage: Stage, gathered: Gathered, *, kept: bool) -> None:
    name, seed = stage.experiment.id, stage.seed
    status = stage.status()
    file = kept_file(stage) if kept and status.state is not State.DONE else None
    if file:
        try:
            standing, why = fitting_record(stage)
        except UserError as error:
            standing, why = None, str(error).removeprefix(f"{file} ")
        if standing:
            gathered.records.setdefault(name, {})[seed] = standing
        else:
            gathered.refuse(name, file, why)
    elif status.state is State.STALE or (status.state is State.MISSING and status.note):
        gathered.refuse(name, stage.folder, status.note)
    elif status.state is State.INTERRUPTED:
        gathered.unfinished.setdefault(name, []).append(f"seed {seed} {status.note}")
    elif status.record is not None:
        record = newest_record(stage.folder, status.record, stage.expected())
        gathered.records.setdefault(name, {})[seed] = record
        gathered.inputs[record.path] = (read_note(stage.folder) or {}).get("inputs", {})


def _note_other_inputs(
    gathered: Gathered, setting: Setting, experiments: Mapping[str, Experiment]
) -> None:
    """Note which stages that all seeds share gave some of them other weights to start from."""
    for name, records in gathered.records.items():
        stages = plan([name], [min(records, default=1)], setting, experiments).stages[:-1]
        shared = [s for s in stages if s.experiment.is_shared and not isinstance(s, StoreStage)]
        for stage in shared:
            if text := compare_starts(stage, records):
                gathered.notes.setdefault(name, []).append(text)


def _note_precisions(gathered: Gathered) -> None:
    """Note which trainings computed in another precision than most, where a config leaves that to the device."""
    trained = [
        (name, record)
        for name, records in gathered.records.items()
        for record in records.values()
        if record.precision
    ]
    counts = Counter(record.precision for _, record in trained)
    if len(counts) < 2:
        return
    usual = counts.most_common(1)[0][0]
    for name, record in trained:
        if record.precision != usual:
            gathered.notes.setdefault(name, []).append(
                f"{name} seed {record.seed} was trained in {record.precision}, most others in {usual}."
            )


def _refuse_other_data(gathered: Gathered) -> None:
    """Drop records of another version of a data set than the one that is there, or that most have."""

    def why(name: str, there: str | None, right: str | None) -> str:
        return (
            f"of another version of data set {name} "
            f"(SHA-256 {short_digest(there)}, not {short_digest(right)})"
        )

    refuse_others(
        gathered, lambda record: record.data, why, right=lambda name: data_origin(name)["sha256"]
    )


def _refuse_other_inputs(gathered: Gathered) -> None:
    """Drop records made from another run than most: without the run itself nothing else tells."""
    refuse_others(
        gathered,
        lambda record: {k: v for k, v in gathered.inputs.get(record.path, {}).items() if v},
        lambda name, there, right: f"made from another run of {name} than most",
    )


def refuse_others(
    gathered: Gathered,
    versions_of: Callable[[Record], Mapping[str, str | None]],
    why: Callable[[str, str | None, str | None], str],
    right: Callable[[str], str | None] = lambda name: None,
) -> None:
    """Drop the records that differ from the others in something that all must have in common.

    Args:
        gathered: the records.
        versions_of: names of such things to what a record has of them.
        why: what is said of a record: name, its version and that of the others.
        right: the version that is expected of a name; None for that of most records.
    """
    versions: dict[str, Counter[str | None]] = {}
    for records in gathered.records.values():
        for record in records.values():
            for name, version in versions_of(record).items():
                versions.setdefault(name, Counter())[version] += 1
    for name, counts in versions.items():
        expected = right(name) or counts.most_common(1)[0][0]
        for experiment, records in gathered.records.items():
            for seed, record in list(records.items()):
                there = versions_of(record).get(name, expected)
                if there != expected:
                    del records[seed]
                    gathered.refuse(experiment, _place(record), why(name, there, expected))


def _place(record: Record) -> Path:
    """Return what a refused record is named by: the folder of its run, or the file that keeps it."""
    return record.path if record.kept else record.path.parent


def short_digest(digest: str | None) -> str:
    """Return the start of a digest, for people."""
    return digest[:8] if digest else "unknown"
