"""Evaluation of Detectron2's published weights, for a column of Table 2a, each under the config it was trained with.

Detectron2's C4 head pools 14x14 RoI features and has stride 2, but its tensors have the shapes of the paper's head:
under the paper's config its weights would load and give wrong numbers without an error. So these evaluations have
configs, folders and a column of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from maskrcnn_repro.errors import CheckpointError, TableError
from maskrcnn_repro.old_names import current_experiment
from maskrcnn_repro.tables.paper.data_file import describe_missing
from maskrcnn_repro.tables.paper.experiments import Experiment
from maskrcnn_repro.tables.paper.numbers import Row
from maskrcnn_repro.tables.runs.records import Expected, Record, State
from maskrcnn_repro.tables.runs.stage import EvaluationStage, Setting

TABLE = "2a"
LEVEL = "paper"
CONFIGS = {
    "r50_c4": "detectron2/r50_c4.yaml",
    "r101_c4": "detectron2/r101_c4.yaml",
    "r50_fpn": "detectron2/r50_fpn.yaml",
    "r101_fpn": "detectron2/r101_fpn.yaml",
    "x101_fpn": "detectron2/x101_fpn.yaml",
}
"""Experiment to the config of Detectron2's model of that backbone, which sets the published ``MODEL.WEIGHTS``."""


@dataclass(frozen=True, eq=False)
class ZooStage(EvaluationStage):
    """The evaluation of one of Detectron2's published models."""

    def expected(self) -> Expected:
        """Return the run that its folder should hold; its ``MODEL.WEIGHTS`` may be any."""
        return Expected(self.config, self.note(), frozenset({"MODEL.WEIGHTS"}), iterations=None)


def zoo_stage(experiment: str, setting: Setting, weights: str = "", since: str = "") -> ZooStage:
    """Return the stage that evaluates ``weights``, by default the published ones."""
    zoo_experiment = Experiment(
        id=f"detectron2/{experiment}",
        config=CONFIGS[experiment],
        family="detectron2",
        overrides=("MODEL.WEIGHTS", weights) if weights else (),
    )
    return ZooStage(zoo_experiment, seed=1, setting=setting, since=since)


def zoo_stages(
    arguments: Sequence[str], rows: Sequence[Row], setting: Setting, since: str
) -> list[ZooStage]:
    """Return the evaluations that ``--weights`` asks for.

    Args:
        arguments: each ``ROW=PATH``, with a path or URL, or ``ROW`` for the published file; ``ROW`` is the id of
            a row or of its experiment.
        rows: rows of Table 2a.
        setting: level, overrides, folder.
        since: see :class:`EvaluationStage`.

    Raises:
        TableError: the row does not exist, or the level has other data.
        CheckpointError: the file does not exist.
    """
    if arguments and setting.level != LEVEL:
        raise TableError(
            f"--weights {arguments[0]}: Detectron2's weights are COCO's; give --level {LEVEL}, not "
            f"{setting.level}."
        )
    return [_parse(argument, rows, setting, since) for argument in arguments]


def zoo_record(row: Row, setting: Setting) -> Record | None:
    """Return the record of the last evaluation of Detectron2's weights for a row of Table 2a; None without one.

    Raises:
        TableError: its folder holds another run.
    """
    if row.experiment not in CONFIGS or not row.id.startswith(f"T{TABLE}."):
        return None
    stage = zoo_stage(row.experiment, setting)
    if not stage.results.is_file():
        return None
    status = stage.status()
    if status.state is State.STALE:
        raise TableError(f"{stage.folder}: {status.note}")
    return status.record


def _parse(argument: str, rows: Sequence[Row], setting: Setting, since: str) -> ZooStage:
    name, _, weights = argument.partition("=")
    by_name = {key: row.experiment for row in rows for key in (row.id, row.experiment)}
    experiment = by_name.get(current_experiment(name))
    if experiment not in CONFIGS:
        ids = [row.id for row in rows if row.experiment in CONFIGS]
        raise TableError(
            f"--weights {argument}: {describe_missing([*ids, *CONFIGS], name, 'Row')} Rows of Table {TABLE}: "
            f"{', '.join(ids)}."
        )
    if weights and "://" not in weights and not Path(weights).is_file():
        raise CheckpointError(f"--weights {argument}: the file {weights!r} does not exist.")
    return zoo_stage(experiment, setting, weights, since)
