"""Checkpoints that survive being killed, and weights that must fit the model.

Files and contents are Detectron2's: ``model_*.pth`` and ``last_checkpoint`` in the output folder; each has a
manifest beside it (:mod:`maskrcnn_repro.checkpoint.manifest`), and ``last_checkpoint`` is a hint alone. Weights
to start from may also be a ``.pkl`` of a model zoo or a ``.safetensors`` file with the model's names.
"""

from __future__ import annotations

import logging
import pickle
import uuid
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from maskrcnn_repro._version import __version__
from maskrcnn_repro.checkpoint.folder import HINT, CheckpointFolder
from maskrcnn_repro.checkpoint.manifest import manifest_of, read_manifest, sha256_of, write_manifest
from maskrcnn_repro.errors import CheckpointError, OutputError, listing
from maskrcnn_repro.utils.files import local_copy, replaced, write_text
from maskrcnn_repro.utils.pickles import InertUnpickler, as_array, entries, plain

import numpy as np
import torch
from detectron2.checkpoint import DetectionCheckpointer
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

logger = logging.getLogger(__name__)
T = TypeVar("T")
# Last layers, whose size follows the number of classes (or keypoints) of the data.
PREDICTORS = frozenset({"cls_score", "bbox_pred", "predictor", "score_lowres"})
# Set from the config when a checkpoint lacks them.
OPTIONAL = frozenset({"pixel_mean", "pixel_std"})
MARK = {"maskrcnn_repro": {"version": __version__}}
"""What a checkpoint holds that this project wrote."""
IN_MANIFEST = ("config_sha256", "class_names", "backend")
"""What of a checkpoint's facts its manifest repeats."""
SHOWN = 3
UNREADABLE = (
    RuntimeError,
    EOFError,
    OSError,
    AttributeError,
    pickle.UnpicklingError,
    SafetensorError,
)
"""What reading a truncated file, or one of another kind, raises."""
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Fit:
    """How the weights of a file fit a model, by names of the model's ``state_dict``."""

    loaded: list[str]
    missing: list[str]
    unexpected: list[str]
    reshaped: dict[str, str] = field(default_factory=dict)
    """Name to "shape in the file, shape in the model"; these are among the missing, too."""

    def complain(self, path: str, *, complete: bool) -> None:
        """Raise CheckpointError if the weights do not fit.

        Args:
            path: the file, for the message.
            complete: every weight of the model must be there (evaluation). Otherwise (training) some
                may be missing, and predictors may have another size: fine-tuning on other classes.
        """
        total = len(self.loaded) + len(self.missing)
        fits = f"Weights {path!r} fit {len(self.loaded)} of the model's {total} tensors"
        if not self.loaded:
            raise CheckpointError(
                f"{fits}: the model has {_few(self.missing)}, the file {_few(self.unexpected)}."
            )
        wrong = {
            name: shapes
            for name, shapes in self.reshaped.items()
            if complete or not PREDICTORS & set(name.split("."))
        }
        if wrong:
            raise CheckpointError(
                f"{fits}; other shapes: {_few(f'{name} {shapes}' for name, shapes in wrong.items())}."
            )
        if complete and self.missing:
            raise CheckpointError(
                f"{fits}; missing: {_few(self.missing)}. To evaluate the last checkpoint of OUTPUT_DIR, "
                "add --resume or leave MODEL.WEIGHTS empty."
            )


class Checkpointer(DetectionCheckpointer):
    """Detectron2's checkpointer with whole-or-nothing writing, manifests and a check of the fit.

    Args:
        model: the model, in DistributedDataParallel or not.
        save_dir: folder of the checkpoints.
        complete: see :meth:`Fit.complain`.
        facts: plain values that each checkpoint holds beside the version; ``config_sha256``,
            ``class_names`` and ``backend`` among them also stand in its manifest.
        **checkpointables: what is stored beside the model.

    Attributes:
        run: id of the run, which its files bear; after :meth:`resume_or_load` that of the earlier run.
    """

    def __init__(
        self,
        model: nn.Module,
        save_dir: str,
        *,
        complete: bool = False,
        facts: Mapping[str, Any] | None = None,
        **checkpointables: Any,
    ) -> None:
        super().__init__(model, save_dir, **checkpointables)
        self.complete = complete
        self.facts = dict(facts or {})
        self.folder = CheckpointFolder(Path(save_dir), read_content)
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
            reason = getattr(error, "strerror", None) or "no room for all of it"
            raise OutputError(
                f"Checkpoint {path} cannot be written ({reason}); earlier ones are intact: make room, then "
                "continue with --resume."
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
        last = self.get_checkpoint_file(resumable=bool(self.checkpointables)) if resume else ""
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
            CheckpointError: the file is missing or unreadable, or its weights do not fit.
        """
        if not path:
            return super().load(path, checkpointables)
        shapes = read_shapes(local_file(path))
        fits: list[Fit] = []

        def watch(model: nn.Module, incompatible: Any) -> None:
            fits.append(fit(model, incompatible, shapes))

        # fvcore drops tensors of another shape before PyTorch counts what is missing.
        handle = self.model.register_load_state_dict_post_hook(watch)
        try:
            rest = super().load(path, checkpointables)
        finally:
            handle.remove()
        fits[-1].complain(path, complete=self.complete)
        return rest

    def _load_file(self, filename: str) -> dict[str, Any]:
        # fvcore's place for a format of one's own: Detectron2 would run what a pickle names.
        path = Path(filename)
        if path.suffix == ".pkl":
            return read_pickle(path)
        if path.suffix == ".safetensors":
            return read_content(path)
        return super()._load_file(filename)


def fit(model: nn.Module, incompatible: Any, shapes: Shapes) -> Fit:
    """Return the fit of weights that were just loaded.

    Args:
        model: the model.
        incompatible: PyTorch's ``missing_keys`` and ``unexpected_keys``.
        shapes: shapes in the file, of tensors with the model's names.
    """
    own = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    missing = [name for name in incompatible.missing_keys if name in own and name not in OPTIONAL]
    absent = set(missing)
    return Fit(
        loaded=[name for name in own if name not in absent and name not in OPTIONAL],
        missing=missing,
        unexpected=list(incompatible.unexpected_keys),
        reshaped={
            name: f"{shapes[name]} in the file, {own[name]} in the model"
            for name in missing
            if name in shapes and shapes[name] != own[name]
        },
    )


def local_file(path: str) -> Path:
    """Return the local copy of a file given by path or by URL.

    Raises:
        CheckpointError: there is none.
    """
    return local_copy(path.partition("?")[0], f"Weights {path!r}", CheckpointError)


def read_shapes(path: Path) -> Shapes:
    """Return the shapes of a checkpoint's tensors without reading the tensors.

    Raises:
        CheckpointError: the file is truncated or no checkpoint.
    """
    content = read_content(path)
    state = content.get("model", content)
    prefix = "module." if state and all(name.startswith("module.") for name in state) else ""
    return {
        name.removeprefix(prefix): tuple(value.shape)
        for name, value in state.items()
        if hasattr(value, "shape")
    }


def facts_in(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a checkpoint tells of its run; empty if another program wrote it."""
    facts = content.get("maskrcnn_repro")
    return facts if isinstance(facts, Mapping) else {}


def read_content(path: Path) -> dict[str, Any]:
    """Return what a checkpoint holds, its tensors mapped into memory or (``.pkl``) without their numbers.

    Raises:
        CheckpointError: the file is truncated or no checkpoint.
    """
    try:
        if path.suffix == ".safetensors":
            return {"model": load_file(path)}
        if path.suffix == ".pkl":
            with path.open("rb") as file:
                content = InertUnpickler(file).load()
        else:
            content = torch.load(
                path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
            )
    except UNREADABLE as error:
        reason = _first_clause(error)
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint, perhaps it is truncated ({reason}); take another "
            "one, for --resume by writing its name into last_checkpoint."
        ) from error
    return content if isinstance(content, dict) else {}


def read_pickle(path: Path) -> dict[str, Any]:
    """Read a ``.pkl`` of Detectron2's model zoo or of Caffe2 Detectron, running nothing that it names.

    Returns:
        ``model``, arrays by name, and beside it what tells Detectron2 how to match the names.

    Raises:
        CheckpointError: the file holds weights that are no arrays of numbers, or is no pickle of a dict.
    """
    try:
        with path.open("rb") as file:
            content = dict(entries(file))
        if content.keys() >= {"model", "__author__"}:
            weights = _each(_native, content.pop("model"))
            return {**_each(plain, content), "model": weights}
        # Detectron's detectors have "blobs", its backbones have the weights alone.
        weights = _each(_native, content.get("blobs", content))
    except ValueError as error:
        raise CheckpointError(f"{path} cannot be read as weights: {error}.") from error
    arrays = {name: array for name, array in weights.items() if not name.endswith("_momentum")}
    return {"model": arrays, "__author__": "Caffe2", "matching_heuristics": True}


def _native(value: Any) -> np.ndarray:
    """Return an array as PyTorch takes it: in the machine's byte order, and its own to write to."""
    array = as_array(value)
    return array.astype(array.dtype.newbyteorder("="))


def _each(convert: Callable[[Any], T], content: Mapping[str, Any]) -> dict[str, T]:
    converted = {}
    for name, value in content.items():
        try:
            converted[name] = convert(value)
        except ValueError as error:
            raise ValueError(
                f"{name!r} is {error}; a pickle can run any code, so nothing else is read"
            ) from error
    return converted


def _first_clause(error: Exception) -> str:
    return str(error).split("\n", 1)[0].split(". ", 1)[0]


def _few(names: Iterable[str]) -> str:
    listed = list(names)
    more = len(listed) - SHOWN
    return (", ".join(listed[:SHOWN]) or "none") + (f" and {more} more" if more > 0 else "")
