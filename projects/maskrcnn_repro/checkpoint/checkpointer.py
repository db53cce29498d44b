"""Checkpoints that survive being killed, and weights that must fit the model.

Files and contents are Detectron2's: ``model_*.pth`` and ``last_checkpoint`` in the output folder. Weights
to start from may also be a ``.pkl`` of a model zoo or a ``.safetensors`` file with the model's names.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from maskrcnn_repro._version import __version__
from maskrcnn_repro.checkpoint.coverage import LEAST, Watch
from maskrcnn_repro.checkpoint.weight_file import local_file, matches_by_ending, read_weights
from maskrcnn_repro.utils.files import replaced, write_text

import torch
from detectron2.checkpoint import DetectionCheckpointer
from torch import nn

logger = logging.getLogger(__name__)
MARK = {"maskrcnn_repro": {"version": __version__}}
"""What a checkpoint holds that this project wrote."""


class Checkpointer(DetectionCheckpointer):
    """Detectron2's checkpointer with whole-or-nothing writing and a check of the fit.

    Args:
        model: the model, in DistributedDataParallel or not.
        save_dir: folder of the checkpoints.
        complete: see :meth:`maskrcnn_repro.checkpoint.coverage.Fit.complain`.
        least: percentage of the backbone's tensors that a file must have to start from.
        **checkpointables: what is stored beside the model.
    """

    def __init__(
        self,
        model: nn.Module,
        save_dir: str,
        *,
        complete: bool = False,
        least: float = LEAST,
        **checkpointables: Any,
    ) -> None:
        super().__init__(model, save_dir, **checkpointables)
        self.complete = complete
        self.least = least
        self._by_endings = False

    def save(self, name: str, **kwargs: Any) -> None:
        """Write ``<name>.pth``, then name it in ``last_checkpoint``."""
        if not (self.save_dir and self.save_to_disk):
            return
        states = {key: value.state_dict() for key, value in self.checkpointables.items()}
        path = Path(self.save_dir) / f"{name}.pth"
        with replaced(path) as beside:
            torch.save({"model": self.model.state_dict(), **MARK, **states, **kwargs}, beside)
        self.tag_last_checkpoint(path.name)
        logger.info("Checkpoint %s", path)

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Make a file of the folder the one that ``--resume`` takes."""
        write_text(Path(self.save_dir) / "last_checkpoint", last_filename_basename)

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict[str, Any]:
        """Load the last checkpoint, which must fit whole, or without one (or ``resume``) the file ``path``.

        Raises:
            CheckpointError: see :meth:`load`.
        """
        self.complete = self.complete or (resume and self.has_checkpoint())
        return super().resume_or_load(path, resume=resume)

    def load(self, path: str, checkpointables: list[str] | None = None) -> dict[str, Any]:
        """Load a file and return what of it was not used.

        Raises:
            CheckpointError: the file is missing or unreadable, or its weights do not fit.
        """
        if not path:
            return super().load(path, checkpointables)
        self._by_endings = matches_by_ending(path)
        file = local_file(path)
        with Watch(self.model, file) as watch:
            rest = super().load(str(file), checkpointables)
        watch.fit.complain(path, complete=self.complete, least=self.least)
        watch.fit.report(path)
        return rest

    def _load_file(self, filename: str) -> dict[str, Any]:
        # fvcore's place for a format of one's own: Detectron2 would run what a pickle names.
        return read_weights(Path(filename), by_endings=self._by_endings)
