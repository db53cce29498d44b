"""Mistakes in a config that would show only later, or as a traceback from deep inside: found at start.

A check of what one module alone reads stands in that module and is called from here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from maskrcnn_repro.config_history import value_of
from maskrcnn_repro.data.cached_images import CHANNELS
from maskrcnn_repro.data.proposals.prepare import check_proposal_keys
from maskrcnn_repro.engine.optimizer import WHOLE_MODEL
from maskrcnn_repro.engine.saving import check_saving
from maskrcnn_repro.errors import CheckpointError, ConfigError, DataError, check_choice
from maskrcnn_repro.modeling.mask_head import build_mask_loss
from maskrcnn_repro.modeling.meta_arch import check_inference
from maskrcnn_repro.modeling.roi_heads import check_res5
from maskrcnn_repro.modeling.tta import check_views
from maskrcnn_repro.pooler_keys import HEADS
from maskrcnn_repro.roi_ops import ROI_OP_REGISTRY

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
    "MODEL.ROI_OP.NAME": ROI_OP_REGISTRY,
    **{f"MODEL.{head}.ROI_OP": ROI_OP_REGISTRY for head in HEADS},
    "MODEL.ROI_BOX_HEAD.NAME": ROI_BOX_HEAD_REGISTRY,
    "MODEL.ROI_MASK_HEAD.NAME": ROI_MASK_HEAD_REGISTRY,
    "MODEL.ROI_KEYPOINT_HEAD.NAME": ROI_KEYPOINT_HEAD_REGISTRY,
}
# Names that are no class: a stored file stands in, (C4) the head is part of the RoI heads, or the RoI
# operation is that of ROI_OP.NAME, or Detectron2's POOLER_TYPE.
SPECIAL = {
    "MODEL.PROPOSAL_GENERATOR.NAME": ("PrecomputedProposals",),
    "MODEL.ROI_BOX_HEAD.NAME": ("",),
    "MODEL.ROI_OP.NAME": ("",),
    **{f"MODEL.{head}.ROI_OP": ("",) for head in HEADS},
}
CHOICES: dict[str, Collection[object]] = {
    "SOLVER.OPTIMIZER": ("SGD", "AdamW"),
    "SOLVER.LR_SCHEDULER_NAME": (
        "WarmupMultiStepLR",
        "WarmupCosineLR",
        "WarmupStepWithFixedGammaLR",
    ),
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": ("value", "norm", WHOLE_MODEL),
    "SOLVER.WARMUP_METHOD": ("linear", "constant"),
    "INPUT.FORMAT": tuple(CHANNELS),
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
    **{f"MODEL.{head}.ROI_OP": ("", "MODEL.ROI_HEADS.NAME") for head in HEADS},
    "MODEL.ROI_HEADS.RES5_BLOCKS": (3, "MODEL.ROI_HEADS.NAME"),
    "MODEL.ROI_MASK_HEAD.LOSS": ("sigmoid", "MODEL.ROI_MASK_HEAD.NAME"),
    "MODEL.INFERENCE.PRECISION": ("float32", "MODEL.META_ARCHITECTURE"),
    "MODEL.INFERENCE.MASK_OUTPUT": ("bitmap", "MODEL.META_ARCHITECTURE"),
    "MODEL.INFERENCE.KEEP_IMAGES": (False, "MODEL.META_ARCHITECTURE"),
    "TEST.AUG.ENABLED": (False, "MODEL.META_ARCHITECTURE"),
}
AT_LEAST_ONE = (
    "MODEL.ROI_OP.SAMPLES",
    "MODEL.ROI_OP.CANONICAL_BOX_SIZE",
    "MODEL.ROI_MASK_HEAD.FC_DIM",
    "MODEL.ROI_MASK_HEAD.MLP_RESOLUTION",
)
# Detectron2's keys for what this engine does not do; ignoring them would change numbers unnoticed.
UNUSED = ("TEST.PRECISE_BN.ENABLED",)


def check_config(cfg: CfgNode, world_size: int, *, training: bool) -> None:
    """Raise the first mistake found in ``cfg``.

    Raises:
        ConfigError: a name or number that cannot work.
        DataError: no data set to train or evaluate on.
        CheckpointError: the weights file does not exist.
    """
    for key, registry in REGISTRIES.items():
        names = [name for name, _ in registry]
        check_choice(key, value_of(cfg, key), [*names, *SPECIAL.get(key, ())])
    for key, allowed in CHOICES.items():
        check_choice(key, value_of(cfg, key), allowed)
    for key in AT_LEAST_ONE:
        _check_at_least_one(cfg, key)
    for key in UNUSED:
        if value_of(cfg, key):
            raise ConfigError(f"{key} True is not supported here; set it to False.")
    if cfg.TEST.AUG.ENABLED:
        check_views(cfg.TEST.AUG.MIN_SIZES, cfg.TEST.AUG.MAX_SIZE)
    if cfg.MODEL.MASK_ON:
        build_mask_loss(cfg)
    check_inference(cfg)
    check_res5(cfg, ROI_HEADS_REGISTRY.get(cfg.MODEL.ROI_HEADS.NAME))
    _check_channels(cfg)
    for key, (neutral, part) in READ_BY.items():
        _check_read(cfg, key, neutral, part)
    needed = "TRAIN" if training else "TEST"
    if not cfg.DATASETS[needed]:
        raise DataError(f"DATASETS.{needed} names no data set; give it as ('NAME',).")
    check_proposal_keys(cfg, training=training)
    _check_weights(cfg.MODEL.WEIGHTS)
    if training:
        check_saving(cfg)
        _check_schedule(cfg, world_size)


def _check_at_least_one(cfg: CfgNode, key: str) -> None:
    value = value_of(cfg, key)
    if int(str(value)) < 1:
        raise ConfigError(f"{key} {value} must be at least 1.")


def _check_channels(cfg: CfgNode) -> None:
    mean, std, image_format = cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD, cfg.INPUT.FORMAT
    # Grey images under three means become three equal channels, as a pre-trained network reads them.
    allowed = sorted({CHANNELS[image_format], 3})
    if len(mean) != len(std) or len(mean) not in allowed:
        raise ConfigError(
            f"MODEL.PIXEL_MEAN {list(mean)} and MODEL.PIXEL_STD {list(std)} must have "
            f"{' or '.join(map(str, allowed))} values each: INPUT.FORMAT is {image_format!r}."
        )


def _check_read(cfg: CfgNode, key: str, neutral: object, part: str) -> None:
    value, name = value_of(cfg, key), value_of(cfg, part)
    if value == neutral or not _is_detectron2s(REGISTRIES[part].get(name)):
        return
    ours = [name for name, entry in REGISTRIES[part] if not _is_detectron2s(entry)]
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
        _check_at_least_one(cfg, key)
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
