"""The checkpoints in a folder: which one is the newest that is intact, and which ones may go.

``last_checkpoint`` is a hint, the folder is the truth: the hint may be missing, or older than the files.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from maskrcnn_repro.checkpoint.manifest import damage, read_manifest, remove
from maskrcnn_repro.checkpoint.weight_file import read_weights
from maskrcnn_repro.errors import CheckpointError, listing, shorten
from maskrcnn_repro.utils.files import other_than_file
from maskrcnn_repro.utils.finite import not_finite

import torch

logger = logging.getLogger(__name__)
HINT = "last_checkpoint"
BEST, FINAL = "model_best", "model_final"
# Detectron2 pads an iteration to seven digits; a longer training has more.
_PERIODIC = re.compile(r"model_(\d{7,})\.pth")


@dataclass(frozen=True)
class CheckpointFolder:
    """The checkpoints of one training.

    Args:
        path: the folder.
        read: returns what a checkpoint holds, or raises CheckpointError.
    """

    path: Path
    read: Callable[[Path], Mapping[str, Any]]

    def files(self) -> list[Path]:
        """Return the checkpoints, the newest first: the last one, the periodic ones, the best one."""
        files = {file for file in self.path.glob("model_*.pth") if _PERIODIC.fullmatch(file.name)}
        files |= {self.path / f"{name}.pth" for name in (FINAL, BEST)}
        if hinted := self.hint():
            files.add(hinted)
        ages = {
            file: (*self.age(file), file == hinted, file.name) for file in files if file.is_file()
        }
        return sorted(ages, key=ages.__getitem__, reverse=True)

    def hint(self) -> Path | None:
        """Return the file that ``last_checkpoint`` names; None if that names no file of the folder."""
        if other_than_file(self.path / HINT):
            return None
        try:
            file = self.path / (self.path / HINT).read_text(encoding="utf-8").strip()
            return file if file.parent == self.path and file.is_file() else None
        except (OSError, ValueError):  # missing, a folder, no text, or a name with a zero byte
            return None

    def newest(self, *, resumable: bool) -> Path | None:
        """Return the newest checkpoint that is intact; None if the folder holds none at all.

        What is passed over, and a ``last_checkpoint`` that says otherwise, is logged in a line each.

        Args:
            resumable: a training shall go on from it, so its state must be there, too.

        Raises:
            CheckpointError: there are checkpoints, and none is intact.
        """
        faults: dict[Path, str] = {}
        for file in self.files():
            fault = (
                damage(file)
                or self._fault_of_content(file, resumable=resumable)
                or _fault_of_numbers(file, resumable=resumable)
            )
            if not fault:
                self._tell(file, faults)
                return file
            faults[file] = fault
        if faults:
            reasons = "; ".join(f"{file.name}: {fault}" for file, fault in faults.items())
            raise CheckpointError(
                f"{self.path} holds no checkpoint to {'go on from' if resumable else 'read'} ({reasons}); put "
                "back an intact file, or choose another folder with OUTPUT_DIR FOLDER."
            )
        return None

    def on_the_way(self) -> list[Path]:
        """Return the periodic checkpoints, the first one first, without that of the last model's iteration."""
        periodic = [file for file in self.files() if _PERIODIC.fullmatch(file.name)]
        final = self.path / f"{FINAL}.pth"
        last = self.age(final)[0] if final.is_file() else None
        return [file for file in reversed(periodic) if self.age(file)[0] != last]

    def holds(self, name: str, iteration: int) -> bool:
        """Tell whether a file is there, intact, and not known to be of another iteration."""
        file = self.path / f"{name}.pth"
        there = file.is_file() and not damage(file)
        return there and read_manifest(file).get("iteration", iteration) == iteration

    def prune(self, keep: int, run: str) -> None:
        """Remove the periodic checkpoints of a run but the newest ones, and never the newest intact one.

        The best and the last model have names of their own and stay.

        Args:
            keep: how many stay, 1 or more.
            run: id of the run; files of others, and files without a manifest, stay.
        """
        periodic = [file for file in self.files() if _PERIODIC.fullmatch(file.name)]
        intact = next((place for place, file in enumerate(periodic) if not damage(file)), 0)
        for file in periodic[max(keep, intact + 1) :]:
            if read_manifest(file).get("run") == run:
                remove(file)

    def age(self, file: Path) -> tuple[float, bool]:
        """Return the iteration of a checkpoint, and whether it is not merely the best one."""
        iteration = read_manifest(file).get("iteration")
        if iteration is None and (match := _PERIODIC.fullmatch(file.name)):
            iteration = int(match[1])
        if iteration is None and not self._fault_of_content(file, resumable=False):
            iteration = self.read(file).get("iteration")
        # What does not tell comes first, so that its fault is told.
        return (float(iteration) if _is_count(iteration) else math.inf), file.stem != BEST

    def _fault_of_content(self, file: Path, *, resumable: bool) -> str:
        try:
            content = self.read(file)
        except CheckpointError as error:
            return str(error.__cause__ or error).split("\n", 1)[0]
        if not isinstance(content.get("model", content), Mapping):
            return "it holds no weights"
        return _fault_of_state(content) if resumable else ""

    def _tell(self, file: Path, faults: Mapping[Path, str]) -> None:
        for other, fault in faults.items():
            logger.warning("%s is passed over: %s", other.name, fault)
        if faults:
            logger.warning("The newest intact checkpoint is %s", file.name)
        if not read_manifest(file):
            logger.warning("%s has no manifest; only its own checksums were compared", file.name)
        hinted = self.hint()
        if hinted and hinted not in faults and self.age(hinted) < self.age(file):
            logger.warning(
                "%s names %s, but %s is newer and taken; to go back, move newer files away",
                *(HINT, hinted.name, file.name),
            )


def _fault_of_state(content: Mapping[str, Any]) -> str:
    trainer = content.get("trainer")
    if not _is_count(content.get("iteration")):
        return f"its iteration is {shorten(content.get('iteration'))}, no number from 0 on"
    if not isinstance(trainer, Mapping):
        return "it holds no state of a trainer (weights alone start a training by MODEL.WEIGHTS)"
    if not _is_count(trainer.get("iteration")):
        return f"the iteration of its trainer is {shorten(trainer.get('iteration'))}"
    optimizer = trainer.get("optimizer")
    if not (isinstance(optimizer, Mapping) and {"state", "param_groups"} <= optimizer.keys()):
        return "it holds no state of an optimiser"
    hooks = trainer.get("hooks")
    if not (isinstance(hooks, Mapping) and isinstance(hooks.get("LRScheduler"), Mapping)):
        return "it holds no state of the learning rate's schedule"
    return ""


def _fault_of_numbers(file: Path, *, resumable: bool) -> str:
    try:
        content = read_weights(file)
    except CheckpointError as error:
        return str(error)
    names = not_finite(_tensors("", content if resumable else {"model": content["model"]}))
    return f"NaN or infinity in {listing(names, 3)}" if names else ""


def _tensors(name: str, value: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield all tensors of a checkpoint's content by their names in it."""
    if isinstance(value, torch.Tensor):
        yield name, value
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _tensors(f"{name}.{key}" if name else str(key), entry)


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
