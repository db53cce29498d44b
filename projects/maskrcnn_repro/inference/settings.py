"""What a predictor's arguments make of a model: its config, its classes, its views of an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from maskrcnn_repro.checkpoint.model_file import Labels
from maskrcnn_repro.checkpoint.model_source import ModelSource
from maskrcnn_repro.data.image_file import ImageError
from maskrcnn_repro.data.keypoints import flip_pairs
from maskrcnn_repro.data.resize import resizing
from maskrcnn_repro.engine.resolve import resolve_device
from maskrcnn_repro.engine.trained import load_trained
from maskrcnn_repro.errors import CheckpointError, ConfigError, check_choice, did_you_mean, listing
from maskrcnn_repro.inference.fast.build import accelerate
from maskrcnn_repro.modeling.meta_arch import PRECISIONS
from maskrcnn_repro.modeling.tta import TestTimeAugmentation
from maskrcnn_repro.utils.precision import computes_in_bfloat16

from detectron2.config import CfgNode
from detectron2.data import transforms as T
from torch import nn


def least_score(threshold: float | str | None, lowest: float | None) -> float | None:
    """Return the score above which a predictor's detections lie; None for the config's.

    Args:
        threshold: what its user says.
        lowest: of an exported file, the lowest score that it knows; None without one.

    Raises:
        ConfigError: another word than ``auto``.
    """
    if threshold is None:
        return lowest
    if not isinstance(threshold, str):
        return threshold
    if threshold != "auto":
        raise ConfigError(
            f"threshold {threshold!r} must be a number, at least 0 and at most 1, auto or None."
        )
    return max(0.5, lowest or 0.0)


def settings(
    model: ModelSource,
    threshold: float | None,
    device: str,
    precision: str | None,
    tta: bool | None,
) -> CfgNode:
    """Return the config of a model with a predictor's arguments.

    Raises:
        CheckpointError: the model finds no objects by itself.
        ConfigError: an argument cannot have its value.
    """
    cfg = model.cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = resolve_device(device)
    if threshold is not None:
        if not 0 <= threshold <= 1:
            raise ConfigError(f"threshold {threshold} must be at least 0 and at most 1.")
        cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = float(threshold)
        # Things in a panoptic map are detections, too.
        cfg.MODEL.PANOPTIC_FPN.COMBINE.INSTANCES_CONFIDENCE_THRESH = float(threshold)
    cfg.MODEL.INFERENCE.PRECISION = _precision(cfg, precision)
    if cfg.MODEL.META_ARCHITECTURE == "GeneralizedRCNN":
        cfg.MODEL.META_ARCHITECTURE = (
            "MaskRCNN"  # the same numbers, and it reads the keys below MODEL.INFERENCE
        )
    cfg.MODEL.INFERENCE.MASK_OUTPUT = "rle"
    cfg.MODEL.INFERENCE.KEEP_IMAGES = False
    if tta is not None:
        cfg.TEST.AUG.ENABLED = tta
    cfg.freeze()
    return cfg


def is_automatic(model: ModelSource, precision: str | None) -> bool:
    """Tell whether a predictor's precision, or where that is None the config's, is ``auto``."""
    return (precision or model.cfg.MODEL.INFERENCE.PRECISION) == "auto"


def _precision(cfg: CfgNode, name: str | None) -> str:
    name = str(cfg.MODEL.INFERENCE.PRECISION) if name is None else name
    check_choice("precision", name, PRECISIONS)
    return automatic_precision(cfg) if name == "auto" else name


def automatic_precision(cfg: CfgNode) -> str:
    """Return ``bfloat16`` where the device computes in it and no result would be rounded to it, else ``float32``."""
    # Detectron2's keypoint head would round coordinates.
    rounds = cfg.MODEL.KEYPOINT_ON and cfg.MODEL.ROI_KEYPOINT_HEAD.NAME.startswith("KRCNN")
    return "bfloat16" if computes_in_bfloat16(cfg.MODEL.DEVICE) and not rounds else "float32"


@dataclass(frozen=True)
class Detector:
    """What finds the objects of images."""

    model: nn.Module
    """Is called and answers like a model of Detectron2 in evaluation mode, which it is, or with ``TEST.AUG.ENABLED`` many
    views of one."""
    divisor: int
    """Padded sides of images are multiples of so many pixels."""
    path: str
    """How it computes, such as ``plain float32`` or ``fused bfloat16``."""


def build_detector(cfg: CfgNode, source: ModelSource, *, fast: bool) -> Detector:
    """Return what finds the objects of images.

    Args:
        cfg: of :func:`settings`.
        source: of the model.
        fast: replace its parts as :func:`~maskrcnn_repro.inference.fast.build.accelerate` does, where that is possible.

    Raises:
        CheckpointError: its weights do not fit, or it finds no objects by itself.
        ConfigError: see :class:`TestTimeAugmentation`.
    """
    model = load_trained(cfg, str(source.weights))[0].eval()
    if not hasattr(model, "roi_heads"):
        raise CheckpointError(
            f"{source.weights} is a {cfg.MODEL.META_ARCHITECTURE}, which finds no objects; name the run of a detector "
            "(MODEL.META_ARCHITECTURE 'MaskRCNN')."
        )
    if model.proposal_generator is None:
        raise CheckpointError(
            f"{source.weights} finds no objects by itself: it needs stored proposals; put a region proposal network "
            "that was trained on the same backbone into it with maskrcnn join-weights."
        )
    path = f"plain {cfg.MODEL.INFERENCE.PRECISION}"
    if fast:
        path = accelerate(model, cfg) or path
    divisor = max(1, int(getattr(model.backbone, "size_divisibility", 1)))
    if cfg.TEST.AUG.ENABLED:
        model = _with_views(cfg, model, source.labels)
    return Detector(model, divisor, path)


def _with_views(cfg: CfgNode, model: nn.Module, labels: Labels) -> TestTimeAugmentation:
    return TestTimeAugmentation(
        model=model,
        min_sizes=cfg.TEST.AUG.MIN_SIZES,
        max_size=cfg.TEST.AUG.MAX_SIZE,
        flip=cfg.TEST.AUG.FLIP,
        nms_threshold=cfg.MODEL.ROI_HEADS.NMS_THRESH_TEST,
        max_detections=cfg.TEST.DETECTIONS_PER_IMAGE,
        flip_indices=_flip_indices(labels),
    )


def _flip_indices(labels: Labels) -> list[int] | None:
    """Return the index of each keypoint's mirror image; None if the model does not say.

    It does not name its keypoints, or names left and right ones without pairs.
    """
    names = list(labels.keypoint_names)
    if not labels.flip_pairs and flip_pairs(names):
        return None
    other = {a: b for pair in labels.flip_pairs for a, b in (pair, pair[::-1])}
    return [names.index(other.get(name, name)) for name in names] or None


def class_ids(chosen: Sequence[str] | None, names: Sequence[str]) -> list[int] | None:
    """Return the places of the chosen classes; None for all.

    Raises:
        ConfigError: the model has no such class, or none is chosen.
    """
    if chosen is None:
        return None
    if not len(chosen):
        raise ConfigError(
            f"classes {chosen!r} must be a list of names of classes, or None for all."
        )
    for name in chosen:
        if not isinstance(name, str):
            raise ConfigError(
                f"classes: {name!r:.80} is no name of a class; it has {listing(names)}."
            )
        if name not in names:
            raise ConfigError(
                f"classes: the model has no class {name!r}.{did_you_mean(name, names)} It has {listing(names)}."
            )
    return [index for index, name in enumerate(names) if name in chosen]


def augmentations(cfg: CfgNode) -> T.AugmentationList:
    """Return what resizes an image as in an evaluation; with several views each is made of the file's pixels."""
    return T.AugmentationList([] if cfg.TEST.AUG.ENABLED else [resizing(cfg, is_train=False)])


def check_shape(cfg: CfgNode, name: str, height: int, width: int) -> None:
    """Raise ImageError for an image so long that nothing of its shorter side would be left.

    Args:
        cfg: with the limits of the model's input.
        name: what the error message calls the image.
        height: H, in pixels.
        width: W.
    """
    largest = cfg.TEST.AUG.MAX_SIZE if cfg.TEST.AUG.ENABLED else cfg.INPUT.MAX_SIZE_TEST
    if largest * min(height, width) < 0.5 * max(height, width):
        raise ImageError(
            f"Image {name} has {width} x {height} pixels: resized to at most {largest} its shorter side would have "
            "none; crop it, or predict it in tiles."
        )
