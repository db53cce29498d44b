"""What has to be run for some experiments, in which order, and how far each stage is.

An experiment's stages: the RPN of its backbone is trained and its proposals are stored, once for all
experiments and seeds that use it; what it starts from is trained; then the experiment itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from maskrcnn_repro.errors import TableError
from maskrcnn_repro.tables.paper.experiments import Experiment, overlays
from maskrcnn_repro.tables.runs.records import State, Status
from maskrcnn_repro.tables.runs.stage import EvaluationStage, Setting, Stage, StoreStage

SHARED_SEED = 1
"""All seeds of an experiment train on the proposals of one RPN."""


@dataclass(frozen=True)
class Plan:
    """Stages in the order of running: each stands behind those that it needs."""

    stages: tuple[Stage, ...]
    wanted: frozenset[str]
    """Keys of the stages that were asked for; the others are there for their sake."""

    @cached_property
    def statuses(self) -> dict[str, Status]:
        """How far each stage was when this was first asked."""
        return {stage.key: stage.status() for stage in self.stages}

    def missing(self) -> list[Stage]:
        """Return what has to be run: what is wanted and not done, and what that needs and is not done.

        The RPN of experiments that are all done may be gone.

        Raises:
            TableError: a folder among them holds something else; all such are named, and why.
        """
        needed = set(self.wanted)
        found = []
        for stage in reversed(self.stages):
            if stage.key in needed and self.statuses[stage.key].state is not State.DONE:
                needed |= {need.key for need in stage.needs}
                found.append(stage)
        stale = [
            stage
            for stage in found
            if self.statuses[stage.key].state is State.STALE and not stage.replaces
        ]
        if stale:
            texts = [describe_stale(stage, self.statuses[stage.key]) for stage in reversed(stale)]
            raise TableError(
                f"{'; '.join(texts)}. Nothing was started: move such a folder away, or choose another "
                "place with --output FOLDER."
            )
        return found[::-1]


def plan(
    wanted: Iterable[str], seeds: Iterable[int], setting: Setting, known: Mapping[str, Experiment]
) -> Plan:
    """Return all stages of the experiments ``wanted`` for each of ``seeds``, each one once.

    Args:
        wanted: ids of experiments.
        seeds: training seeds; an RPN is trained with :data:`SHARED_SEED` alone.
        setting: level, overrides, folder.
        known: all experiments by id.
    """
    stages: dict[str, Stage] = {}

    def training(name: str, seed: int) -> Stage:
        experiment = known[name]
        needs: list[Stage] = []
        if experiment.proposals:
            rpn = training(experiment.proposals, SHARED_SEED)
            store = StoreStage(rpn.experiment, SHARED_SEED, setting, (rpn,))
            needs.append(stages.setdefault(store.key, store))
        for other in (experiment.init, experiment.evaluates):
            if other:
                needs.append(training(other, seed))
        kind = EvaluationStage if experiment.evaluates else Stage
        stage = kind(experiment, seed, setting, tuple(needs))
        return stages.setdefault(stage.key, stage)

    names = list(wanted)
    keys = [
        training(name, SHARED_SEED if known[name].is_rpn else seed).key
        for seed in seeds
        for name in names
    ]
    # RPNs first, with their proposals: others wait for them.
    ordered = sorted(stages.values(), key=lambda stage: not stage.experiment.is_rpn)
    return Plan(tuple(ordered), frozenset(keys))


def not_at_level(experiment: Experiment, level: str) -> str:
    """Return why an experiment cannot be run at a level; empty if it can."""
    try:
        overlays(experiment, level)
    except TableError as error:
        return str(error)
    return ""


def describe_stale(stage: Stage, status: Status) -> str:
    """Return which folder holds something else than its stage, and why."""
    return f"{stage.folder} holds another run than {stage.title} ({status.note})"
