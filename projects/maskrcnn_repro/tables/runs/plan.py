"""The plan of a set of experiments: their stages in the order of running, and the status of each.

An experiment's stages: where the level has no published weights, training its backbone; training the RPN of that
backbone and storing its proposals, all once for all experiments and seeds that use them; training the model that it
starts from; then the experiment itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from maskrcnn_repro.errors import TableError
from maskrcnn_repro.tables.paper.experiments import Experiment, backbone_of, overlays
from maskrcnn_repro.tables.runs.records import State, Status
from maskrcnn_repro.tables.runs.stage import EvaluationStage, Setting, Stage, StoreStage

SHARED_SEED = 1
"""Seed of every backbone and RPN: all seeds of an experiment start alike and train on the same proposals."""


@dataclass(frozen=True)
class Plan:
    """Stages in the order of running: each comes after those that it needs."""

    stages: tuple[Stage, ...]
    requested: frozenset[str]
    """Keys of the stages that were asked for; the others are what these need."""
    kept: frozenset[str] = frozenset()
    """Keys of requested stages that need not run, as records kept with the code stand for them."""

    @cached_property
    def statuses(self) -> dict[str, Status]:
        """Status of each stage by key, read once, at the first access."""
        return {stage.key: stage.status() for stage in self.stages}

    def missing(self) -> list[Stage]:
        """Return the stages that have to be run: requested ones that are not done, and what these need.

        What only finished stages need may be missing: the RPN of finished experiments can be deleted.

        Raises:
            TableError: the folder of such a stage holds another run; the message names all of them, and why.
        """
        needed = set(self.requested - self.kept)
        missing = []
        for stage in reversed(self.stages):
            if stage.key in needed and self.statuses[stage.key].state is not State.DONE:
                needed |= {need.key for need in stage.needs}
                missing.append(stage)
        stale = [
            stage
            for stage in missing
            if self.statuses[stage.key].state is State.STALE and not stage.overwrites
        ]
        if stale:
            texts = [describe_stale(stage, self.statuses[stage.key]) for stage in reversed(stale)]
            raise TableError(
                f"{'; '.join(texts)}. Nothing was started: move such a folder away, or choose another "
                "place with --output FOLDER."
            )
        return missing[::-1]


def plan(
    names: Iterable[str], seeds: Iterable[int], setting: Setting, by_id: Mapping[str, Experiment]
) -> Plan:
    """Return the plan of experiments for each of some seeds, without duplicate stages.

    Args:
        names: ids of experiments.
        seeds: training seeds; RPNs and backbones are trained with :data:`SHARED_SEED` alone.
        setting: level, overrides, folder.
        by_id: all experiments.
    """
    stages: dict[str, Stage] = {}

    def add(experiment: Experiment, seed: int, setting: Setting = setting) -> Stage:
        needs: list[Stage] = []
        if experiment.proposals:
            rpn = add(by_id[experiment.proposals], SHARED_SEED)
            store = StoreStage(rpn.experiment, SHARED_SEED, setting, (rpn,))
            needs.append(stages.setdefault(store.key, store))
        other = experiment.evaluates or experiment.init
        if other:
            needs.append(add(by_id[other], seed))
        elif backbone := backbone_of(experiment, setting.level):
            needs.append(add(backbone, SHARED_SEED, setting.plain()))
        kind = EvaluationStage if experiment.evaluates else Stage
        stage = kind(experiment, seed, setting, tuple(needs))
        return stages.setdefault(stage.key, stage)

    names = list(names)
    keys = [
        add(by_id[name], SHARED_SEED if by_id[name].is_shared else seed).key
        for seed in seeds
        for name in names
    ]
    # What most stages wait for comes first; the sort keeps the order otherwise.
    ordered = sorted(stages.values(), key=lambda stage: not stage.experiment.is_shared)
    return Plan(tuple(ordered), frozenset(keys))


def not_at_level(experiment: Experiment, level: str) -> str:
    """Return the reason why an experiment cannot be run at a level; empty if it can."""
    try:
        overlays(experiment, level)
    except TableError as error:
        return str(error)
    return ""


def describe_stale(stage: Stage, status: Status) -> str:
    """Return the error text for a stage whose folder holds another run: which folder, and what differs."""
    return f"{stage.folder} holds another run than {stage.title} ({status.note})"
