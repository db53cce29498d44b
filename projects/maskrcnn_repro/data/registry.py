"""What a config says about its data sets, held against the data sets: names, classes, keypoints, masks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from maskrcnn_repro.data.custom import read_entries, register_custom
from maskrcnn_repro.data.densepose.truth import check_densepose
from maskrcnn_repro.data.keypoints import check_flip_pairs, flip_map, oks_sigmas
from maskrcnn_repro.data.panoptic.labels import (
    check_panoptic,
    has_labels,
    listed_names,
    stuff_names,
)
from maskrcnn_repro.data.panoptic.truth import register_panoptic
from maskrcnn_repro.data.sets import check_sets
from maskrcnn_repro.data.synthetic.families import GENERATED, is_generated
from maskrcnn_repro.errors import DataError, did_you_mean, listing

from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog

logger = logging.getLogger(__name__)


def prepare_data(cfg: CfgNode, *, training: bool = True) -> None:
    """Register the data sets that ``cfg`` names, and fill in the keys that follow from them.

    Sets ``MODEL.ROI_HEADS.NUM_CLASSES``, ``MODEL.SEM_SEG_HEAD.NUM_CLASSES``, ``MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS``,
    ``TEST.KEYPOINT_OKS_SIGMAS`` and ``INPUT.MASK_FORMAT``; call it before ``cfg`` is frozen. The
    keypoints that a mirror swaps go into the metadata of the data sets, where Detectron2 reads them.

    Args:
        cfg: names data sets.
        training: False for an evaluation alone.

    Raises:
        DataError: a name, a file, or a key that contradicts the data.
        ConfigError: ``INPUT.KEYPOINT_FLIP_PAIRS`` are no pairs of keypoints.
    """
    register_custom(cfg.DATASETS.CUSTOM)
    check_registered(cfg)
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = resolve_num_classes(cfg)
    _prepare_panoptic(cfg, training=training)
    if cfg.DATASETS.ONLY_WITH_KEYPOINTS:
        check_posed(cfg, "DATASETS.ONLY_WITH_KEYPOINTS")
    if cfg.MODEL.KEYPOINT_ON:
        check_posed(cfg, "MODEL.KEYPOINT_ON")
        cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS = resolve_num_keypoints(cfg)
        cfg.TEST.KEYPOINT_OKS_SIGMAS = resolve_oks_sigmas(cfg)
        set_flip_map(cfg)
    if cfg.MODEL.DENSEPOSE_ON:
        check_densepose(cfg, training=training)
    if cfg.MODEL.MASK_ON:
        cfg.INPUT.MASK_FORMAT = resolve_mask_format(cfg)
    check_sets(cfg, training=training)


def _prepare_panoptic(cfg: CfgNode, *, training: bool) -> None:
    entries = read_entries("DATASETS.PANOPTIC", cfg.DATASETS.PANOPTIC)
    names = [name for name, *_ in entries]
    if twice := [name for name in names if names.count(name) > 1]:
        raise DataError(
            f"DATASETS.PANOPTIC names {twice[0]!r} twice; give each data set one JSON with its folder."
        )
    for name, *files in entries:
        register_panoptic(name, *files)
    if cfg.TEST.PANOPTIC_QUALITY:
        for name in cfg.DATASETS.TEST:
            check_panoptic(name)
    if cfg.DATASETS.WITH_SEM_SEG:
        cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = resolve_num_stuff(cfg, training=training)


def check_registered(cfg: CfgNode) -> None:
    """Raise DataError if the config names a data set that nobody registered, or ``DATASETS.PANOPTIC`` has another form.

    Names such as ``mini_coco_seed7_val`` are registered on the way.
    """
    weights = cfg.MODEL.WEIGHTS_DATASET
    named = {
        "DATASETS.TRAIN": cfg.DATASETS.TRAIN,
        "DATASETS.TEST": cfg.DATASETS.TEST,
        "MODEL.WEIGHTS_DATASET": [weights] if weights else [],
        "DATASETS.PANOPTIC": [
            name for name, *_ in read_entries("DATASETS.PANOPTIC", cfg.DATASETS.PANOPTIC)
        ],
    }
    for key, names in named.items():
        for name in names:
            register_generated(name)
            if name not in DatasetCatalog:
                raise DataError(
                    f"{key}: {name!r} is not a registered data set."
                    f"{did_you_mean(name, DatasetCatalog.list())} Your own data is named in "
                    "DATASETS.CUSTOM."
                )


def register_generated(name: str) -> None:
    """Register a generated data set of any seed if the name is that of one."""
    for family in GENERATED:
        if identity := family.identify(name):
            family.register(identity[1])


def coco_file(name: str) -> Path:
    """Return the COCO file of a registered data set; that of generated data is written first.

    Raises:
        DataError: the set is not registered, or has no such file.
    """
    register_generated(name)
    if name not in DatasetCatalog:
        raise DataError(
            f"{name!r} is neither a COCO file (ending in .json) nor a registered data set."
            f"{did_you_mean(name, DatasetCatalog.list())}"
        )
    metadata = MetadataCatalog.get(name)
    file = metadata.get("given_json_file", metadata.get("json_file"))
    if file is None:
        raise DataError(f"Data set {name!r} has no COCO file; name one that has, or a file.")
    if is_generated(name) and not Path(file).is_file():
        DatasetCatalog.get(name)
    return Path(file)


def class_names(dataset_name: str) -> list[str]:
    """Return the classes of a registered data set, in the order of the model's classes.

    A data set that tells them only when loaded is loaded.
    """
    metadata = MetadataCatalog.get(dataset_name)
    if metadata.get("thing_classes") is None:
        DatasetCatalog.get(dataset_name)
    classes = metadata.get("thing_classes")
    if classes is None:
        raise DataError(f"Data set {dataset_name!r} has no 'thing_classes' in its metadata.")
    return list(classes)


def keypoint_names(dataset_name: str) -> list[str]:
    """Return the keypoints of a registered data set, in order; empty where it has none."""
    return list(MetadataCatalog.get(dataset_name).get("keypoint_names") or [])


def resolve_num_classes(cfg: CfgNode) -> int:
    """Return the number of classes that the model needs for its data sets.

    For the user's own data it is counted, and the config may leave Detectron2's default or say the same
    number. For registered data the config decides, but may not say less than there are.

    Raises:
        DataError: the config contradicts the data, or its data sets have different classes.
    """
    return _resolve_count(cfg, "ROI_HEADS", "NUM_CLASSES", class_names)


def check_posed(cfg: CfgNode, key: str) -> None:
    """Check that the data has the keypoints that ``key`` of the config, being True, asks for.

    Raises:
        DataError: a data set has no keypoints, or no object to train on has one that is annotated.
    """
    for name in _used(cfg) if key == "MODEL.KEYPOINT_ON" else cfg.DATASETS.TRAIN:
        if not keypoint_names(name):
            raise DataError(
                f"{key} is True, but data set {name!r} has no keypoint names (in a COCO file: "
                "'keypoints' of a category)."
            )
    for name in cfg.DATASETS.TRAIN:
        if not MetadataCatalog.get(name).get("has_posed", True):
            raise DataError(
                f"{key} is True, but no object of data set {name!r} has an annotated keypoint (one "
                "with a visibility above 0)."
            )


def resolve_num_keypoints(cfg: CfgNode) -> int:
    """Return the number of keypoints, which is that of the data.

    Raises:
        DataError: the data sets have different ones, or the config has neither their number nor
            Detectron2's default.
    """
    return _resolve_count(cfg, "ROI_KEYPOINT_HEAD", "NUM_KEYPOINTS", keypoint_names)


def resolve_num_stuff(cfg: CfgNode, *, training: bool = True) -> int:
    """Return the number of classes of semantic labels, all things together being one of them.

    Images to evaluate on need no such labels unless their panoptic quality is measured.

    Args:
        cfg: its sets are registered.
        training: False for an evaluation alone. Nothing is read then unless quality is measured or the config has
            Detectron2's default; sets to train on count if they have such labels, of which no image is looked at.

    Raises:
        DataError: a data set has no such labels, the data sets have different classes, or the config has neither
            their number nor Detectron2's default.
    """
    quality, configured = cfg.TEST.PANOPTIC_QUALITY, cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
    needed = [name for name in cfg.DATASETS.TEST if quality or has_labels(name)]
    if training:
        used, names_of = [*cfg.DATASETS.TRAIN, *needed], stuff_names
    elif quality or configured == get_cfg().MODEL.SEM_SEG_HEAD.NUM_CLASSES:
        trained = [name for name in cfg.DATASETS.TRAIN if has_labels(name)]
        used, names_of = [*trained, *needed] if quality else trained or needed, listed_names
    else:
        return int(configured)
    return _resolve_count(cfg, "SEM_SEG_HEAD", "NUM_CLASSES", names_of, used)


def set_flip_map(cfg: CfgNode) -> None:
    """Put the keypoints that a mirror swaps into the metadata of all data sets that ``cfg`` names.

    They are those of ``INPUT.KEYPOINT_FLIP_PAIRS``; if empty, those that the data set was registered
    with; without any, those that follow from the names.

    Raises:
        ConfigError: see :func:`maskrcnn_repro.data.keypoints.check_flip_pairs`.
    """
    pairs = cfg.INPUT.KEYPOINT_FLIP_PAIRS
    for name in _used(cfg):
        metadata, names = MetadataCatalog.get(name), keypoint_names(name)
        current = metadata.get("keypoint_flip_map")
        registered = metadata.get(
            "registered_flip_map", flip_map(names) if current is None else current
        )
        chosen = check_flip_pairs(pairs, names) if pairs else registered
        if current is not None:
            del metadata.keypoint_flip_map  # Detectron2 refuses to change it
        metadata.set(registered_flip_map=registered, keypoint_flip_map=chosen)


def resolve_oks_sigmas(cfg: CfgNode) -> list[float]:
    """Return the config's OKS sigmas, or those that follow from the keypoints' names.

    Raises:
        DataError: the config has not one positive number per keypoint.
    """
    sigmas = list(cfg.TEST.KEYPOINT_OKS_SIGMAS)
    used = _used(cfg)
    if not used:
        return sigmas
    names = keypoint_names(used[0])
    if not sigmas:
        return oks_sigmas(names)
    if len(sigmas) != len(names) or min(sigmas) <= 0:
        raise DataError(
            f"TEST.KEYPOINT_OKS_SIGMAS {sigmas} has not one positive number for each of the "
            f"{len(names)} keypoints of {used[0]!r}."
        )
    return sigmas


def resolve_mask_format(cfg: CfgNode) -> str:
    """Return ``"bitmask"`` where training data has RLE masks, else the config's ``INPUT.MASK_FORMAT``.

    Polygons become bitmasks without harm, while RLE cannot become polygons: Detectron2's loader would
    stop in the middle of training.
    """
    chosen = str(cfg.INPUT.MASK_FORMAT)
    for name in cfg.DATASETS.TRAIN:
        if chosen == "polygon" and MetadataCatalog.get(name).get("has_rle_masks"):
            logger.warning("Data set %r has RLE masks: INPUT.MASK_FORMAT becomes bitmask.", name)
            chosen = "bitmask"
    return chosen


def _used(cfg: CfgNode) -> list[str]:
    return [*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST]


def _resolve_count(
    cfg: CfgNode,
    head: str,
    key: str,
    names_of: Callable[[str], list[str]],
    used: Sequence[str] | None = None,
) -> int:
    configured, default = int(cfg.MODEL[head][key]), get_cfg().MODEL[head][key]
    what = "semantic classes" if head == "SEM_SEG_HEAD" else key.removeprefix("NUM_").lower()
    used = _used(cfg) if used is None else used
    if not used:
        return configured
    names = _common(used, what, names_of)
    # Classes that registered data does not have do no harm; a heatmap without a keypoint has no target.
    counted = head != "ROI_HEADS" or any(
        MetadataCatalog.get(name).get("is_custom") for name in used
    )
    if counted and configured in (default, len(names)):
        return len(names)
    if counted or configured < len(names):
        raise DataError(
            f"MODEL.{head}.{key} is {configured}, but {used[0]!r} has {len(names)} {what} ({listing(names)}); "
            f"leave the key out or set it to {len(names)}."
        )
    return configured


def _common(used: Sequence[str], what: str, names_of: Callable[[str], list[str]]) -> list[str]:
    """Return the names that all data sets share, in one order."""
    first = names_of(used[0])
    for other in used[1:]:
        names = names_of(other)
        if names == first:
            continue
        only_first = [n for n in first if n not in names]
        only_other = [n for n in names if n not in first]
        if not only_first and not only_other:
            raise DataError(
                f"Data sets {used[0]!r} and {other!r} have the same {what} in another order, so a "
                "prediction would mean different things; give them the same ids."
            )
        sides = {"the first has": only_first, "the second has": only_other}
        differences = "; ".join(
            f"only {side} {listing(only)}" for side, only in sides.items() if only
        )
        raise DataError(
            f"Data sets {used[0]!r} and {other!r} have different {what}: {differences}. Give both files the same "
            f"ones, those without objects too."
        )
    return first
