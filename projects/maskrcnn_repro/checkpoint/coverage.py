"""How much of a model a file of weights fills: counted, said in a line, and refused if it is too little."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from maskrcnn_repro.checkpoint.origin import likely_origin
from maskrcnn_repro.checkpoint.weight_file import Shapes, read_shapes
from maskrcnn_repro.errors import CheckpointError, ConfigError, listing

from torch import nn

logger = logging.getLogger(__name__)
PREDICTORS = frozenset(
    {
        *("cls_score", "bbox_pred", "predictor", "score_lowres"),
        *("objectness_logits", "anchor_deltas"),
    }
)
"""Last layers, whose size follows the number of classes or keypoints of the data, or of anchors that suit them."""
# Set from the config, or counted anew, when a checkpoint lacks them.
OPTIONAL = frozenset({"pixel_mean", "pixel_std", "num_batches_tracked"})
LEAST = 50.0
"""Default of ``MODEL.WEIGHTS_MIN_COVERAGE``, in percent."""
SHOWN = 3
STATISTICS = ("running_mean", "running_var")
BACKBONE = "backbone."
# Detectron2 finds these by the ends of names: a file with a backbone alone has none of them.
PREFIXES = ("", BACKBONE, f"{BACKBONE}bottom_up.")
WORDY = ("fvcore.common.checkpoint", "detectron2.checkpoint")
"""Loggers that write a line for each tensor of a file, as warnings."""


@dataclass(frozen=True)
class Fit:
    """How the weights of a file fit a model, by names of the model's ``state_dict``.

    Where a file has no statistics of frozen batch norm at all, because they are merged into its scale, these
    are neither loaded nor missing.
    """

    loaded: list[str]
    missing: list[str]
    unexpected: list[str]
    reshaped: Mapping[str, str] = field(default_factory=dict)
    """Name to "shape in the file, shape in the model"; these are among the missing, too."""
    names: list[str] = field(default_factory=list)
    """Names in the file as it has them."""
    mixed_in: Mapping[str, str] = field(default_factory=dict)
    """``mixed_in`` of the RoI heads: a part whose output the other parts take, to the setting with which it is there."""

    def complain(self, path: str, *, complete: bool, least: float = LEAST) -> None:
        """Raise CheckpointError if the weights do not fit, ConfigError if the config leaves out a part that others need.

        Args:
            path: the file, for the message.
            complete: every weight of the model must be there (evaluation). Otherwise (training) some
                may be missing, and predictors may have another size: fine-tuning on other classes.
            least: percentage of the backbone's tensors, or with ``complete`` of the model's, below which the
                message says what the file may be.
        """
        part = "model" if complete else self._part()
        loaded, total = self._counts(part)
        fits = f"Weights {path!r} fit {loaded} of the {part}'s {total} tensors"
        origin = self._origin(path)
        wrong = {
            name: both
            for name, both in self.reshaped.items()
            if complete or not PREDICTORS & set(name.split("."))
        }
        shapes = _few(f"{name} {both}" for name, both in wrong.items())
        if not self.loaded or 100 * loaded < least * total:
            limit = (
                ""
                if complete or not self.loaded
                else f", less than MODEL.WEIGHTS_MIN_COVERAGE {least:g} %"
            )
            reason = origin or (f"other shapes: {shapes}" if wrong else self._names())
            raise CheckpointError(f"{fits}{limit}: {reason}.")
        if wrong:
            raise CheckpointError(f"{fits}; other shapes: {shapes}{_after(origin)}.")
        for name, setting in self.mixed_in.items():
            if left_out := [key for key in self.unexpected if _part_of_heads(key) == name]:
                raise ConfigError(
                    f"Weights {path!r} have a {name}, {_few(left_out)}, without which their other heads are not what was "
                    f"trained; set {setting}."
                )
        if complete and (others := self.of_other_heads()):
            raise CheckpointError(
                f"Weights {path!r} are of other heads: they also have {_few(others)}, which the model lacks; take the "
                "config of their training."
            )
        if complete and self.missing:
            hint = origin or (
                "to evaluate the last checkpoint of OUTPUT_DIR, add --resume or leave MODEL.WEIGHTS empty"
            )
            raise CheckpointError(f"{fits}; missing: {_few(self.missing)}; {hint}.")

    def of_other_heads(self) -> list[str]:
        """Return the unused weights of those parts of the RoI heads that the model has in another form.

        A part that it lacks as a whole, such as the mask head with ``MODEL.MASK_ON False``, is left out.
        """
        parts = {_part_of_heads(name) for name in (*self.loaded, *self.missing)} - {""}
        return [name for name in self._unused_of_heads() if _part_of_heads(name) in parts]

    def _unused_of_heads(self) -> list[str]:
        return [
            name
            for name in self.unexpected
            if _part_of_heads(name) and name.rpartition(".")[2] not in OPTIONAL
        ]

    def report(self, path: str, *, complete: bool = False) -> None:
        """Log how many tensors were loaded, in a line, and for debugging all names of the others.

        The line is a warning if the file may be another model's: with ``complete``, if it has RoI heads that are not used.
        """
        total = len(self.loaded) + len(self.missing)
        text = f"Weights {path}: {len(self.loaded)} of {total} tensors"
        if self._part() == "backbone" and self.missing:
            text += " (backbone: {} of {})".format(*self._counts("backbone"))
        if self.missing:
            text += f"; not loaded: {_few(self.missing)}"
        if self.unexpected:
            text += f"; not used: {_few(self.unexpected)}"
        origin = self._origin(path)
        if origin and self.missing:
            logger.warning("%s; %s", text, origin)
        elif complete and self._unused_of_heads():
            logger.warning("%s: the results are those of the other heads alone.", text)
        else:
            logger.info(text)
        names = [f"{name} {self.reshaped.get(name, '')}".rstrip() for name in self.missing]
        logger.debug("Not loaded: %s", ", ".join(names) or "none")
        logger.debug("Not used: %s", ", ".join(self.unexpected) or "none")

    def _origin(self, path: str) -> str:
        model = [*self.loaded, *self.missing]
        return likely_origin(self.names, model, path, fits=bool(self.loaded or self.reshaped))

    def _part(self) -> str:
        """Return whose tensors a training needs: the backbone's, of a model that has one."""
        has_one = any(name.startswith(BACKBONE) for name in (*self.loaded, *self.missing))
        return "backbone" if has_one else "model"

    def _counts(self, part: str) -> tuple[int, int]:
        """Return how many tensors of a part were loaded, and how many it has."""
        prefix = BACKBONE if part == "backbone" else ""
        loaded, missing = (
            sum(name.startswith(prefix) for name in names) for names in (self.loaded, self.missing)
        )
        return loaded, loaded + missing

    def _names(self) -> str:
        return f"the model has {_few(self.missing)}, the file {_few(self.names)}"


class Watch:
    """A context in which the weights of a file are loaded into a model, quietly; then ``fit`` is known.

    Args:
        model: not in DistributedDataParallel.
        path: the file.

    Raises:
        CheckpointError: the file cannot be read.
    """

    fit: Fit

    def __init__(self, model: nn.Module, path: Path) -> None:
        self.model = model
        self.shapes = read_shapes(path)
        self.given: set[str] = set()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        # fvcore drops tensors of another shape before PyTorch counts what is missing; and PyTorch counts as
        # loaded what it fills in for old files.
        handles = (
            self.model.register_load_state_dict_pre_hook(self._note_given),
            self.model.register_load_state_dict_post_hook(self._after),
        )
        for handle in handles:
            self._stack.callback(handle.remove)
        for name in WORDY:
            wordy = logging.getLogger(name)
            self._stack.callback(wordy.setLevel, wordy.level)
            wordy.setLevel(logging.ERROR)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _note_given(self, _: nn.Module, state: Mapping[str, Any], *__: Any) -> None:
        self.given = set(state)

    def _after(self, model: nn.Module, incompatible: Any) -> None:
        self.fit = fit(model, incompatible, self.given, self.shapes)


def fit(model: nn.Module, incompatible: Any, given: Iterable[str], shapes: Shapes) -> Fit:
    """Return the fit of weights that were just loaded.

    Args:
        model: the model.
        incompatible: PyTorch's ``missing_keys`` and ``unexpected_keys``.
        given: names of the tensors that PyTorch was given.
        shapes: shapes in the file by the names in it.
    """
    own = {
        name: tuple(tensor.shape)
        for name, tensor in model.state_dict().items()
        if name.rpartition(".")[2] not in OPTIONAL
    }
    filled = set(given)
    absent = set(incompatible.missing_keys)
    if any(name.endswith(STATISTICS) for name in own.keys() & filled):
        absent |= {name for name in own.keys() - filled if name.endswith(STATISTICS)}
    missing = [name for name in own if name in absent]
    return Fit(
        loaded=[name for name in own if name in filled and name not in absent],
        missing=missing,
        unexpected=list(incompatible.unexpected_keys),
        reshaped={
            name: f"{there} in the file, {own[name]} in the model"
            for name in missing
            if (there := _shape_in(shapes, name)) is not None and there != own[name]
        },
        names=list(shapes),
        mixed_in=getattr(getattr(model, "roi_heads", None), "mixed_in", {}),
    )


def _shape_in(shapes: Shapes, name: str) -> tuple[int, ...] | None:
    """Return the shape that a file has for a tensor of the model, under its name or that of a backbone alone."""
    ends = (name.removeprefix(prefix) for prefix in PREFIXES if name.startswith(prefix))
    return next((shapes[end] for end in ends if end in shapes), None)


def _part_of_heads(name: str) -> str:
    """Return ``"box_head"`` of ``"roi_heads.box_head.2.fc1.weight"``; empty elsewhere."""
    first, _, rest = name.partition(".")
    return rest.partition(".")[0] if first == "roi_heads" else ""


def _after(text: str) -> str:
    return f"; {text}" if text else ""


def _few(names: Iterable[str]) -> str:
    return listing(names, SHOWN, str)
