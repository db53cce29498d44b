"""Mistakes in a config that would show only later, or as a traceback from deep inside: found at start.

A check of what one module alone reads stands in that module and is called from here.
"""

from __future__ import annotations

from collections.abc import Callable

from maskrcnn_repro.checkpoint.weight_file import local_file
from maskrcnn_repro.config import check_values, key_table, keys_of
from maskrcnn_repro.config_history import value_of
from maskrcnn_repro.data.image_file import check_pixel_range
from maskrcnn_repro.data.proposals.prepare import check_proposal_keys
from maskrcnn_repro.engine.precision import check_precision
from maskrcnn_repro.engine.relations import check_division, check_relations
from maskrcnn_repro.engine.saving import check_saving
from maskrcnn_repro.engine.trackers import check_trackers
from maskrcnn_repro.errors import ConfigError, DataError, check_choice
from maskrcnn_repro.modeling.mask_head import build_mask_loss
from maskrcnn_repro.modeling.mask_head.losses import MASK_LOSS_REGISTRY
from maskrcnn_repro.modeling.meta_arch import check_inference
from maskrcnn_repro.modeling.narrow_resnet import check_stages, group_width
from maskrcnn_repro.modeling.roi_heads import check_res5
from maskrcnn_repro.pooler_keys import HEADS
from maskrcnn_repro.roi_ops import ROI_OP_REGISTRY

from detectron2 import modeling
from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY, ROI_HEADS_REGISTRY
from fvcore.common.registry import Registry

OUR_REGISTRIES = {"ROI_OP": ROI_OP_REGISTRY, "MASK_LOSS": MASK_LOSS_REGISTRY}
# A key of ours -> its neutral value, and the part that must read it: Detectron2's own parts do not, and
# numbers would be another row's unnoticed.
READ_BY = {
    "MODEL.ROI_OP.NAME": ("", "MODEL.ROI_HEADS.NAME"),
    **{f"MODEL.{head}.ROI_OP": ("", "MODEL.ROI_HEADS.NAME") for head in HEADS},
    "MODEL.ROI_HEADS.RES5_BLOCKS": (3, "MODEL.ROI_HEADS.NAME"),
    "MODEL.ROI_MASK_HEAD.LOSS": ("sigmoid", "MODEL.ROI_MASK_HEAD.NAME"),
    "MODEL.ROI_BOX_HEAD.MIN_SIZE": (0.0, "MODEL.ROI_HEADS.NAME"),
    "MODEL.ROI_BOX_HEAD.UNUSED_CLASSES": (0, "MODEL.ROI_HEADS.NAME"),
    "MODEL.RESNETS.NORM_EPS": (1e-5, "MODEL.META_ARCHITECTURE"),
    "MODEL.INFERENCE.PRECISION": ("float32", "MODEL.META_ARCHITECTURE"),
    "MODEL.INFERENCE.MASK_OUTPUT": ("bitmap", "MODEL.META_ARCHITECTURE"),
    "MODEL.INFERENCE.KEEP_IMAGES": (False, "MODEL.META_ARCHITECTURE"),
    "TEST.AUG.ENABLED": (False, "MODEL.META_ARCHITECTURE"),
}
DETECTRON2S_SEMANTIC = ("PanopticFPN", "SemanticSegmentor")
"""Detectron2's models that learn from semantic labels; others have a true ``takes_sem_seg``."""


def check_config(cfg: CfgNode, world_size: int, *, training: bool) -> None:
    """Raise the first mistake found in ``cfg``.

    Raises:
        ConfigError: a name or number that cannot work.
        DataError: no data set to train or evaluate on.
        CheckpointError: there is no file of that name.
    """
    check_model(cfg)
    needed = "TRAIN" if training else "TEST"
    if not cfg.DATASETS[needed]:
        raise DataError(f"DATASETS.{needed} names no data set; give it as ('NAME',).")
    check_proposal_keys(cfg, training=training)
    _check_weights(cfg)
    if training:
        check_training(cfg, world_size)
        check_precision(cfg)


def check_training(cfg: CfgNode, world_size: int) -> None:
    """Raise ConfigError for keys of a training that cannot work together, before any process is started."""
    check_saving(cfg)
    check_division(cfg, world_size)
    check_trackers(cfg)


def check_model(cfg: CfgNode) -> None:
    """Raise ConfigError for the first value or combination of values that cannot work, whatever the files."""
    check_values(cfg)
    for name, entry in keys_of(cfg).items():
        if entry.registry:
            names = [part for part, _ in _registry(entry.registry)]
            check_choice(name, value_of(cfg, name), [*names, *entry.choices])
    if cfg.MODEL.MASK_ON:
        build_mask_loss(cfg)
    check_inference(cfg)
    check_pixel_range(cfg.INPUT.PIXEL_RANGE)
    check_res5(cfg, ROI_HEADS_REGISTRY.get(cfg.MODEL.ROI_HEADS.NAME))
    narrow = cfg.MODEL.NARROW_RESNET
    if cfg.MODEL.BACKBONE.NAME.startswith("build_narrow_resnet"):
        check_stages(narrow.NUM_BLOCKS, narrow.CHANNELS, group_width(cfg))
    check_relations(cfg)
    for key, (neutral, part) in READ_BY.items():
        _check_read(cfg, key, neutral, part)
    _check_semantic_labels(cfg)


def _registry(name: str) -> Registry:
    """Return a registry by its name in the tables of keys."""
    return OUR_REGISTRIES.get(name) or getattr(modeling, f"{name}_REGISTRY")


def _check_read(cfg: CfgNode, key: str, neutral: object, part: str) -> None:
    value, name = value_of(cfg, key), value_of(cfg, part)
    registry = _registry(key_table()[part].registry)
    if value == neutral or _reads(registry.get(name), key):
        return
    # Whether a plug-in's reads it is not known here.
    ours = [
        name
        for name, entry in registry
        if entry.__module__.partition(".")[0] == "maskrcnn_repro" and _reads(entry, key)
    ]
    owner = "is Detectron2's and does" if _is_detectron2s(registry.get(name)) else "does"
    raise ConfigError(
        f"{key} {value!r} would be ignored: {part} {name!r} {owner} not read it. "
        f"Choose one of {', '.join(sorted(ours))}, or set {key} {neutral!r}."
    )


def _reads(entry: Callable, key: str) -> bool:
    return not _is_detectron2s(entry) and key not in getattr(entry, "ignored_keys", ())


def _check_semantic_labels(cfg: CfgNode) -> None:
    """Raise ConfigError if semantic labels are asked for and no part says that it learns from them."""
    places = {
        "MODEL.META_ARCHITECTURE": META_ARCH_REGISTRY,
        "MODEL.ROI_HEADS.NAME": ROI_HEADS_REGISTRY,
    }
    if not cfg.DATASETS.WITH_SEM_SEG or any(
        _takes_labels(registry.get(value_of(cfg, key))) for key, registry in places.items()
    ):
        return
    others = [
        name for registry in places.values() for name, part in registry if _takes_labels(part)
    ]
    parts = " nor ".join(f"{key} {value_of(cfg, key)!r}" for key in places)
    raise ConfigError(
        f"DATASETS.WITH_SEM_SEG is True, but neither {parts} learns from semantic labels; set it to False, or choose "
        f"a part with takes_sem_seg: {', '.join(others) or 'no loaded one has it'}."
    )


def _takes_labels(part: Callable) -> bool:
    return getattr(part, "takes_sem_seg", False) or (
        _is_detectron2s(part) and part.__name__ in DETECTRON2S_SEMANTIC
    )


def _is_detectron2s(entry: Callable) -> bool:
    return entry.__module__.partition(".")[0] == "detectron2"


def _check_weights(cfg: CfgNode) -> None:
    # Detectron2's own prefixes (detectron2://, https://) are fetched, not looked for.
    if cfg.MODEL.WEIGHTS and "://" not in cfg.MODEL.WEIGHTS:
        local_file(cfg.MODEL.WEIGHTS)
