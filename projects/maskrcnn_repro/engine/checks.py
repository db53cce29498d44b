"""Mistakes in a config that would show only later, or as a traceback from deep inside: found at start."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from maskrcnn_repro.engine.optimizer import WHOLE_MODEL
from maskrcnn_repro.errors import CheckpointError, ConfigError, DataError, did_you_mean
from maskrcnn_repro.modeling.mask_head import build_mask_loss
from maskrcnn_repro.proposals.prepare import check_proposal_keys

from detectron2.config import CfgNode
from detectron2.modeling import (
    ANCHOR_GENERATOR_REGISTRY,
    BACKBONE_REGISTRY,
    META_ARCH_REGISTRY,
    PROPOSAL_GENERATOR_REGISTRY,
    ROI_BOX_HEAD_REGISTRY,
    ROI_HEADS_REGISTRY,
    ROI_KEYPOINT_HEAD_REGISTRY,
    ROI_MASK_HEAD_REGISTRY,
    RPN_HEAD_REGISTRY,
)

REGISTRIES = {
    "MODEL.META_ARCHITECTURE": META_ARCH_REGISTRY,
    "MODEL.BACKBONE.NAME": BACKBONE_REGISTRY,
    "MODEL.PROPOSAL_GENERATOR.NAME": PROPOSAL_GENERATOR_REGISTRY,
    "MODEL.ANCHOR_GENERATOR.NAME": ANCHOR_GENERATOR_REGISTRY,
    "MODEL.RPN.HEAD_NAME": RPN_HEAD_REGISTRY,
    "MODEL.ROI_HEADS.NAME": ROI_HEADS_REGISTRY,
    "MODEL.ROI_BOX_HEAD.NAME": ROI_BOX_HEAD_REGISTRY,
    "MODEL.ROI_MASK_HEAD.NAME": ROI_MASK_HEAD_REGISTRY,
    "MODEL.ROI_KEYPOINT_HEAD.NAME": ROI_KEYPOINT_HEAD_REGISTRY,
}
# Names that are no class: a stored file stands in, or (C4) the head is part of the RoI heads.
SPECIAL = {
    "MODEL.PROPOSAL_GENERATOR.NAME": ("PrecomputedProposals",),
    "MODEL.ROI_BOX_HEAD.NAME": ("",),
}
CHOICES = {
    "SOLVER.OPTIMIZER": ("SGD", "AdamW"),
    "SOLVER.LR_SCHEDULER_NAME": (
        "WarmupMultiStepLR",
        "WarmupCosineLR",
        "WarmupStepWithFixedGammaLR",
    ),
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": ("value", "norm", WHOLE_MODEL),
    "SOLVER.WARMUP_METHOD": ("linear", "constant"),
    "INPUT.MASK_FORMAT": ("polygon", "bitmask"),
    "DATALOADER.SAMPLER_TRAIN": (
        "TrainingSampler",
        "RepeatFactorTrainingSampler",
        "RandomSubsetTrainingSampler",
        "WeightedTrainingSampler",
        "WeightedCategoryTrainingSampler",
    ),
}
# A key of ours -> its neutral value, and the part that must read it: Detectron2's own parts do not, and
# numbers would be another row's unnoticed.
READ_BY = {
    "MODEL.ROI_OP.NAME": ("", "MODEL.ROI_HEADS.NAME"),
    "MODEL.ROI_MASK_HEAD.LOSS": ("sigmoid", "MODEL.ROI_MASK_HEAD.NAME"),
}
# Detectron2's keys for what this engine does not do; ignoring them would change numbers unnoticed.
UNUSED = ("TEST.AUG.ENABLED", "TEST.PRECISE_BN.ENABLED")


def check_config(cfg: CfgNode, world_size: int, *, training: bool) -> None:
    """Raise the first mistake found in ``cfg``.

    Raises:
        ConfigError: a name or number that cannot work.
        DataError: no data set to train or evaluate on.
        CheckpointError: the weights file does not exist.
    """
    for key, registry in REGISTRIES.items():
        known = [name for name, _ in registry]
        check_choice(cfg, key, [*known, *SPECIAL.get(key, ())])
    for key, allowed in CHOICES.items():
        check_choice(cfg, key, allowed)
    for key in UNUSED:
        if value_of(cfg, key):
            raise ConfigError(f"{key} True is not supported here; set it to False.")
    if cfg.MODEL.MASK_ON:
        build_mask_loss(cfg)
    for key, (neutral, part) in READ_BY.items():
        _check_read(cfg, key, neutral, part)
    needed = "TRAIN" if training else "TEST"
    if not cfg.DATASETS[needed]:
        raise DataError(f"DATASETS.{needed} names no data set; give it as ('NAME',).")
    check_proposal_keys(cfg, training=training)
    _check_weights(cfg.MODEL.WEIGHTS)
    if training:
        _check_schedule(cfg, world_size)


def check_choice(cfg: CfgNode, key: str, allowed: Iterable[str]) -> None:
    """Raise ConfigError unless the value of ``key`` is one of ``allowed``."""
    value, names = value_of(cfg, key), sorted(allowed)
    if value not in names:
        hint = did_you_mean(str(value), names)
        raise ConfigError(
            f"{key} {value!r} does not exist.{hint} It may be {', '.join(n or repr('') for n in names)}."
        )


def value_of(cfg: CfgNode, key: str) -> object:
    """Return the value of a dotted key."""
    node = cfg
    for part in key.split("."):
        node = node[part]
    return node


def _check_read(cfg: CfgNode, key: str, neutral: str, part: str) -> None:
    value, name = value_of(cfg, key), value_of(cfg, part)
    if value == neutral or not _is_detectron2s(REGISTRIES[part].get(name)):
        return
    ours = [known for known, entry in REGISTRIES[part] if not _is_detectron2s(entry)]
    raise ConfigError(
        f"{key} {value!r} would be ignored: {part} {name!r} is Detectron2's and does not read it. "
        f"Choose one of {', '.join(sorted(ours))}, or set {key} {neutral!r}."
    )


def _is_detectron2s(entry: Callable) -> bool:
    return entry.__module__.partition(".")[0] == "detectron2"


def _check_weights(weights: str) -> None:
    # Detectron2's own prefixes (detectron2://, https://) are fetched, not looked for.
    if weights and "://" not in weights and not Path(weights.partition("?")[0]).is_file():
        raise CheckpointError(f"MODEL.WEIGHTS {weights!r} does not exist.")


def _check_schedule(cfg: CfgNode, world_size: int) -> None:
    for key in ("SOLVER.MAX_ITER", "SOLVER.IMS_PER_BATCH", "SOLVER.CHECKPOINT_PERIOD"):
        if int(str(value_of(cfg, key))) < 1:
            raise ConfigError(f"{key} {value_of(cfg, key)} must be at least 1.")
    if cfg.SOLVER.IMS_PER_BATCH % world_size:
        raise ConfigError(
            f"SOLVER.IMS_PER_BATCH {cfg.SOLVER.IMS_PER_BATCH} is the number of images over all "
            f"processes and must be a multiple of their number, {world_size}."
        )
    if cfg.SOLVER.AMP.ENABLED and not cfg.MODEL.DEVICE.startswith("cuda"):
        raise ConfigError(
            f"SOLVER.AMP.ENABLED True needs a GPU, but MODEL.DEVICE is {cfg.MODEL.DEVICE!r}; "
            "set SOLVER.AMP.ENABLED False."
        )
