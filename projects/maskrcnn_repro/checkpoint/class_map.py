"""Initial weights for new classes from a model of other classes (Appendix A, from COCO to Cityscapes).

Classes of the same name keep their rows of the last layers; the rows of new classes are drawn at random, as
in the paper's released code. All other weights stay.

"Rows" are the entries of a weight along its first dimension.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Mapping, Sequence

from maskrcnn_repro.checkpoint.checkpointer import Checkpointer
from maskrcnn_repro.data import class_names
from maskrcnn_repro.errors import CheckpointError, ConfigError, listing

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import Tensor, nn

logger = logging.getLogger(__name__)


def map_classes(
    state_dict: Mapping[str, Tensor],
    source_names: Sequence[str],
    target_names: Sequence[str],
    rng: torch.Generator,
    agnostic: Collection[str] | None = None,
) -> dict[str, Tensor]:
    """Return the weights of a model of ``target_names`` from those of a model of ``source_names``.

    Args:
        state_dict: of a Detectron2 model; the last class score is the background, and so is the last channel
            of softmax masks. Class-agnostic layers stay as they are.
        source_names: classes of ``state_dict``, in order.
        target_names: classes of the result, in order.
        rng: draws the rows of new classes from a Gaussian with the layer's mean and standard deviation.
        agnostic: layers that are class-agnostic, of ``bbox_pred`` and ``predictor``; None: their sizes tell.

    Raises:
        CheckpointError: no class in common, no layer ``cls_score``, or a last layer of another size.
    """
    if not set(source_names) & set(target_names):
        raise CheckpointError(
            f"The weights' classes ({listing(source_names, 4)}) and the new ones ({listing(target_names, 4)}) have no "
            "name in common, so nothing can be mapped."
        )
    mapped = dict(state_dict)
    for name, tensor in state_dict.items():
        layer = name.split(".")[-2] if "." in name else ""
        if layer in _ROWS and layer not in (agnostic or ()):
            rows = _ROWS[layer](len(tensor), len(source_names))
            if agnostic is not None:  # so that this layer is none
                rows = rows or None
            if rows is None:
                raise CheckpointError(
                    f"{name} has {len(tensor)} rows, which does not fit the {len(source_names)} classes "
                    f"{listing(source_names, 4)}."
                )
            if rows:
                mapped[name] = _map_rows(tensor, rows, source_names, target_names, rng)
    # Every detector has one: without it the names are not Detectron2's, and nothing would be mapped.
    if not any(name.split(".")[-2:-1] == ["cls_score"] for name in mapped):
        raise CheckpointError("The weights have no layer 'cls_score': they are of no detector.")
    return mapped


def load_mapped(model: nn.Module, cfg: CfgNode) -> None:
    """Load :func:`mapped_weights` into the model of a config.

    Raises:
        ConfigError: see :func:`mapped_weights`.
        CheckpointError: see :func:`mapped_weights`, or the weights do not fit.
    """
    weights = mapped_weights(cfg)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"MODEL.WEIGHTS {cfg.MODEL.WEIGHTS} do not fit the model with its classes: {reason:.500}"
        ) from error


def mapped_weights(cfg: CfgNode) -> dict[str, Tensor]:
    """Return ``MODEL.WEIGHTS``, mapped from the classes of ``MODEL.WEIGHTS_DATASET`` to those of the config.

    Raises:
        ConfigError: ``MODEL.WEIGHTS`` is empty.
        CheckpointError: the weights do not fit a model of those classes, or see :func:`map_classes`.
    """
    dataset = cfg.MODEL.WEIGHTS_DATASET
    if not cfg.MODEL.WEIGHTS:
        raise ConfigError(
            f"MODEL.WEIGHTS_DATASET {dataset!r} says whose classes MODEL.WEIGHTS have, but MODEL.WEIGHTS is "
            "empty; name a checkpoint."
        )
    old, new = class_names(dataset), class_names(cfg.DATASETS.TRAIN[0])
    source = cfg.clone()
    source.defrost()
    source.MODEL.ROI_HEADS.NUM_CLASSES, source.MODEL.DEVICE = len(old), "cpu"
    # A temporary model of the old classes, because its checkpointer reads every format.
    model = build_model(source)
    Checkpointer(model, "", complete=True).load(cfg.MODEL.WEIGHTS, checkpointables=[])
    mapped = map_classes(
        model.state_dict(), old, new, torch.Generator().manual_seed(cfg.SEED), _agnostic(cfg)
    )
    random_classes = [name for name in new if name not in old]
    logger.info(
        "%d of %d classes start from %s; drawn at random: %s",
        len(new) - len(random_classes),
        len(new),
        cfg.MODEL.WEIGHTS,
        listing(random_classes),
    )
    return mapped


def _agnostic(cfg: CfgNode) -> set[str]:
    """Return the class-agnostic layers of a config's model."""
    heads = {"bbox_pred": cfg.MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG}
    heads["predictor"] = cfg.MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK
    return {layer for layer, is_agnostic in heads.items() if is_agnostic}


def _score_rows(rows: int, classes: int) -> int | None:
    """Return the rows per class, 0 if the layer is class-agnostic, None if its size does not fit."""
    return 1 if rows == classes + 1 else None


def _box_rows(rows: int, classes: int) -> int | None:
    return {4: 0, 4 * classes: 4}.get(rows)


def _mask_rows(rows: int, classes: int) -> int | None:
    # One row per class and cell of the output: one cell for a convolution, m * m for an MLP.
    for channels in (classes, classes + 1):
        cells, remainder = divmod(rows, channels)
        if remainder == 0 and math.isqrt(cells) ** 2 == cells:
            return cells
    return 0 if math.isqrt(rows) ** 2 == rows else None


_ROWS = {"cls_score": _score_rows, "bbox_pred": _box_rows, "predictor": _mask_rows}


def _map_rows(
    tensor: Tensor, rows: int, source: Sequence[str], target: Sequence[str], rng: torch.Generator
) -> Tensor:
    """Return the rows of the target's classes, then those after the source's classes (the background)."""
    end = rows * len(source)
    old = tensor[:end].unflatten(0, (len(source), rows))
    new = torch.randn(len(target), *old.shape[1:], generator=rng).to(tensor)
    # Without a correction: NumPy's deviation, which the released code takes.
    new = new * tensor.float().std(correction=0).to(tensor) + tensor.mean()
    for index, name in enumerate(target):
        if name in source:
            new[index] = old[source.index(name)]
    return torch.cat([new.flatten(0, 1), tensor[end:]])
