"""Checkpoints that survive being killed, and weights that must fit the model.

Files and contents are Detectron2's: ``model_*.pth`` and ``last_checkpoint`` in the output folder; each has a
manifest beside it (:mod:`maskrcnn_repro.checkpoint.manifest`), and ``last_checkpoint`` is a hint alone. Weights
to start from may also be a ``.pkl`` of a model zoo or a ``.safetensors`` file with the model's names.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maskrcnn_repro._version import __version__
from maskrcnn_repro.checkpoint.coverage import LEAST, Watch
from maskrcnn_repro.checkpoint.folder import HINT, CheckpointFolder
from maskrcnn_repro.checkpoint.manifest import manifest_of, read_manifest, write_manifest
from maskrcnn_repro.checkpoint.weight_file import (
    local_file,
    matches_by_ending,
    read_outline,
    read_weights,
)
from maskrcnn_repro.errors import CheckpointError, OutputError, listing
from maskrcnn_repro.utils.files import replaced, write_text
from maskrcnn_repro.utils.finite import not_finite
from maskrcnn_repro.utils.hashes import sha256_of

import torch
from detectron2.checkpoint import DetectionCheckpointer
from torch import nn

logger = logging.getLogger(__name__)
MARK = {"maskrcnn_repro": {"version": __version__}}
"""What a checkpoint holds that this project wrote."""
IN_MANIFEST = ("config_sha256", "class_names", "backend")
"""What of a checkpoint's facts its manifest repeats."""


class Checkpointer(DetectionCheckpointer):
    """Detectron2's checkpointer with whole-or-nothing writing, manifests and a check of the fit.

    Args:
        model: the model, in DistributedDataParallel or not.
        save_dir: folder of the checkpoints.
        complete: see :meth:`maskrcnn_repro.checkpoint.coverage.Fit.complain`.
        least: percentage of the backbone's tensors that a file must have to start from.
        facts: plain values that each checkpoint holds beside the version; ``config_sha256``,
            ``class_names`` and ``backend`` among them also stand in its manifest.
        **checkpointables: what is stored beside the model.

    Attributes:
        judged: the checkpoint to go on from, if the folder was judged before; None: it is judged on resuming.
        loaded: what the file that was loaded last tells of its run; empty before, and of another program's file.
        run: id of the run, which its files bear; after :meth:`resume_or_load` that of the earlier run.
    """

    def __init__(
        self,
        model: nn.Module,
        save_dir: str,
        *,
        complete: bool = False,
        least: float = LEAST,
        facts: Mapping[str, Any] | None = None,
        **checkpointables: Any,
    ) -> None:
        super().__init__(model, save_dir, **checkpointables)
        self.complete = complete
        self.least = least
        self._by_endings = False
        self.facts = dict(facts or {})
        self.folder = CheckpointFolder(Path(save_dir), read_outline)
        self.judged: Path | None = None
        self.loaded: Mapping[str, Any] = {}
        self.run = uuid.uuid4().hex
        self._continues = False

    def save(self, name: str, **kwargs: Any) -> None:
        """Write ``<name>.pth`` and its manifest, then name it in ``last_checkpoint``.

        Raises:
            OutputError: the file cannot be written, or is another run's; what was there stays whole.
        """
        if not (self.save_dir and self.save_to_disk):
            return
        path = Path(self.save_dir) / f"{name}.pth"
        self._refuse_others(path)
        states = {key: value.state_dict() for key, value in self.checkpointables.items()}
        mark = {"maskrcnn_repro": {**MARK["maskrcnn_repro"], "run": self.run, **self.facts}}
        content = {"model": self.model.state_dict(), **mark, **states, **kwargs}
        try:
            self._write(path, content)
        except (
            OSError,
            RuntimeError,
        ) as error:  # PyTorch's writer raises the latter, also on a full disk
            reason, cure = _reason(error, path)
            raise OutputError(
                f"Checkpoint {path} cannot be written ({reason}); earlier ones are intact: {cure}, then continue "
                "with --resume."
            ) from error
        logger.info("Checkpoint %s", path)

    def _write(self, path: Path, content: Mapping[str, Any]) -> None:
        with replaced(path) as beside:
            torch.save(content, beside)
            size, sha256 = beside.stat().st_size, sha256_of(beside)
            # An old one would call the new file damaged, if the run were killed now.
            manifest_of(path).unlink(missing_ok=True)
        shown = {name: self.facts[name] for name in IN_MANIFEST if name in self.facts}
        facts = {"iteration": content.get("iteration"), "run": self.run, **shown}
        write_manifest(path, size, sha256, facts)
        self.tag_last_checkpoint(path.name)

    def _refuse_others(self, path: Path) -> None:
        owner = read_manifest(path).get("run")
        if path.exists() and owner != self.run and not (owner is None and self._continues):
            raise OutputError(
                f"{path} was written by another run and is not overwritten; move it away, or choose another "
                "folder with OUTPUT_DIR FOLDER."
            )

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Name a file of the folder as the last one that was written."""
        write_text(Path(self.save_dir) / HINT, last_filename_basename)

    def has_checkpoint(self) -> bool:
        """Tell whether the folder holds a checkpoint, intact or not."""
        return bool(self.save_dir) and bool(self.folder.files())

    def get_checkpoint_file(self, *, resumable: bool = False) -> str:
        """Return the newest intact checkpoint of the folder; empty if it holds none.

        Args:
            resumable: a training shall go on from it, so its state must be there, too.

        Raises:
            CheckpointError: there are checkpoints, and none is intact.
        """
        return str(self.folder.newest(resumable=resumable) or "")

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict[str, Any]:
        """Load the newest intact checkpoint, which must fit whole, or without one the file ``path``.

        Raises:
            CheckpointError: see :meth:`load`; or there are checkpoints, and none is intact.
            OutputError: newer files, which are not intact, are of another run.
        """
        last = ""
        if resume:
            resumable = bool(self.checkpointables)
            last = str(self.judged or self.get_checkpoint_file(resumable=resumable))
        if not last:
            return self.load(path, checkpointables=[])
        self.complete = True
        rest = self.load(last)
        self._continues = True
        if run := facts_in(rest).get("run"):
            self.run = run
            self._refuse_newer_of_others(Path(last))
        return rest

    def _refuse_newer_of_others(self, last: Path) -> None:
        """Refuse at once to go on where a later save would meet another run's file."""
        newer = [f for f in self.folder.files() if self.folder.age(f) > self.folder.age(last)]
        others = [f.name for f in newer if read_manifest(f).get("run", self.run) != self.run]
        if others:
            raise OutputError(
                f"{self.save_dir} also holds newer checkpoints of another run, {listing(others)}: move them away, "
                "or choose another folder with OUTPUT_DIR FOLDER."
            )

    def load(self, path: str, checkpointables: list[str] | None = None) -> dict[str, Any]:
        """Load a file and return what of it was not used.

        Raises:
            CheckpointError: the file is missing or unreadable, or its weights do not fit or are not finite.
        """
        if not path:
            return super().load(path, checkpointables)
        self._by_endings = matches_by_ending(path)
        file = local_file(path)
        with Watch(self.model, file) as watch:
            rest = super().load(str(file), checkpointables)
        watch.fit.complain(path, complete=self.complete, least=self.least)
        if wrong := not_finite(self.model.state_dict().items()):
            raise CheckpointError(
                f"Weights {path!r} hold NaN or infinity in {listing(wrong, 3)}; take an earlier file."
            )
        watch.fit.report(path, complete=self.complete)
        return rest

    def _load_file(self, filename: str) -> dict[str, Any]:
        # fvcore's place for a format of one's own: Detectron2 would run what a pickle names.
        content = read_weights(Path(filename), by_endings=self._by_endings)
        self.loaded = facts_in(content)
        return content


def facts_in(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a checkpoint tells of its run; empty if another program wrote it."""
    facts = content.get("maskrcnn_repro")
    return facts if isinstance(facts, Mapping) else {}


def _reason(error: Exception, path: Path) -> tuple[str, str]:
    """Return why a checkpoint cannot be written, and what to do about it."""
    if folders := [place for place in (path, path.with_name(HINT)) if place.is_dir()]:
        return f"{folders[0].name} is a folder there", "move it away"
    # What ``replaced`` raises has the system's error for its cause.
    system = error.__cause__ if isinstance(error, OutputError) else error
    return getattr(system, "strerror", None) or "no room for all of it", "make room"
