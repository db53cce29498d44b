"""Detectron2's published weights beside ours in Table 2a, each under the config it was trained with.

Their C4 head reads 14x14 RoI features at stride 2 and fits the paper's head tensor by tensor: under the
paper's config the numbers would be wrong without a sign. So they have configs, folders and a column of
their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from maskrcnn_repro.errors import CheckpointError, TableError
from maskrcnn_repro.old_names import current_experiment
from maskrcnn_repro.tables.paper.data_file import missing
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
"""Experiment to the config of Detectron2's model of that backbone; it names the published file."""


@dataclass(frozen=True, eq=False)
class ZooStage(EvaluationStage):
    """The evaluation of a model of Detectron2's."""

    def expected(self) -> Expected:
        """Return what its folder should have been made with; weights may be any."""
        return Expected(self.config, self.note(), frozenset({"MODEL.WEIGHTS"}), iterations=None)


def zoo_stage(experiment: str, setting: Setting, weights: str = "", since: str = "") -> ZooStage:
    """Return the stage that evaluates ``weights``, by default the published ones."""
    own = Experiment(
        id=f"detectron2/{experiment}",
        config=CONFIGS[experiment],
        family="detectron2",
        overrides=("MODEL.WEIGHTS", weights) if weights else (),
    )
    return ZooStage(own, seed=1, setting=setting, since=since)


def zoo_stages(
    given: Sequence[str], rows: Sequence[Row], setting: Setting, since: str
) -> list[ZooStage]:
    """Return the stages of ``--weights``.

    Args:
        given: ``ROW=PATH`` each, a path or address; ``ROW`` alone means the published file. A row is named
            by its id or its experiment.
        rows: of Table 2a.
        setting: level, overrides, folder.
        since: see :class:`EvaluationStage`.

    Raises:
        TableError: the row does not exist, or the level has other data.
        CheckpointError: the file does not exist.
    """
    if given and setting.level != LEVEL:
        raise TableError(
            f"--weights {given[0]}: Detectron2's weights are COCO's; give --level {LEVEL}, not "
            f"{setting.level}."
        )
    return [_parse(word, rows, setting, since) for word in given]


def zoo_record(row: Row, setting: Setting) -> Record | None:
    """Return the last evaluation of Detectron2's weights for a row of Table 2a, if there is one.

    Raises:
        TableError: there is something else in its folder.
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


def _parse(word: str, rows: Sequence[Row], setting: Setting, since: str) -> ZooStage:
    name, _, weights = word.partition("=")
    named = {row.id: row.experiment for row in rows} | {r.experiment: r.experiment for r in rows}
    experiment = named.get(current_experiment(name))
    if experiment not in CONFIGS:
        known = [row.id for row in rows if row.experiment in CONFIGS]
        raise TableError(
            f"--weights {word}: {missing([*known, *CONFIGS], name, 'Row')} Rows of Table {TABLE}: "
            f"{', '.join(known)}."
        )
    if weights and "://" not in weights and not Path(weights).is_file():
        raise CheckpointError(f"--weights {word}: the file {weights!r} does not exist.")
    return zoo_stage(experiment, setting, weights, since)
