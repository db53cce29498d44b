"""Where a run writes: looked at before anything is trained, because a pipe hangs and a folder fails at the end."""

from __future__ import annotations

from pathlib import Path

from maskrcnn_repro.checkpoint.folder import HINT
from maskrcnn_repro.engine.report import PICTURE, evaluation_folder
from maskrcnn_repro.engine.run_log import METRICS
from maskrcnn_repro.engine.saving import HISTORY
from maskrcnn_repro.engine.stall import FOLDER
from maskrcnn_repro.errors import OutputError
from maskrcnn_repro.evaluation.coco import predictions_file
from maskrcnn_repro.evaluation.table import PROPOSALS
from maskrcnn_repro.utils.files import other_than_file
from maskrcnn_repro.utils.logs import log_name

from detectron2.config import CfgNode
from detectron2.utils import comm

ANY = ("config.yaml", "results.json", PICTURE)
"""Files of every run."""
TRAINING = (METRICS, HINT, HISTORY)
"""Files of a training alone."""
NUMBERED = ("model_*.pth", "events.out.tfevents.*")
"""Files of a training whose names tell when they were written."""


def check_places(cfg: CfgNode, folder: Path, *, training: bool) -> None:
    """Raise OutputError if something else stands where a run writes a file or a folder; in every process.

    Args:
        cfg: the config.
        folder: of the run's log.
        training: whether it trains.
    """
    predictions = evaluation_folder(cfg)
    sets = [predictions / name for name in cfg.DATASETS.TEST]
    for path in (folder, folder / FOLDER, predictions, *sets):
        if path.exists() and not path.is_dir():
            raise _in_the_way(path, other_than_file(path) or "a file", "a folder")
    names = (log_name(comm.get_rank()), *ANY, *(TRAINING if training else ()))
    files = [
        predictions_file(predictions, name, tasks)
        for name in cfg.DATASETS.TEST
        for tasks in ([], [PROPOSALS])
    ]
    numbered = [path for pattern in NUMBERED if training for path in folder.glob(pattern)]
    for path in (*(folder / name for name in names), *files, *numbered):
        if kind := other_than_file(path):
            raise _in_the_way(path, kind, "a file")


def _in_the_way(path: Path, kind: str, needed: str) -> OutputError:
    return OutputError(
        f"{path} is {kind}, where the run writes {needed}: move it away, or choose another folder with OUTPUT_DIR FOLDER."
    )
