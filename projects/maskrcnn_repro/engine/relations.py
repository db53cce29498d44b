"""Config keys that contradict each other, each with a right value: what would fail later, or mean something else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from maskrcnn_repro._backend import BACKEND
from maskrcnn_repro.data.cached_images import CHANNELS
from maskrcnn_repro.engine.accumulation import parts_of
from maskrcnn_repro.errors import ConfigError
from maskrcnn_repro.modeling.classifier import BackboneClassifier
from maskrcnn_repro.modeling.norms import check_groups
from maskrcnn_repro.pooler_keys import HEADS, operation_of

from detectron2.config import CfgNode
from detectron2.modeling import ROI_HEADS_REGISTRY, StandardROIHeads

PAPERS_SAMPLES = 2
"""``MODEL.ROI_OP.SAMPLES`` that shared bases set, whatever the operation."""
PYRAMIDS = {
    "build_resnet_fpn_backbone": "build_resnet_backbone",
    "build_narrow_resnet_fpn_backbone": "build_narrow_resnet_backbone",
}
"""Backbones with an FPN, and what is below it."""


def check_relations(cfg: CfgNode) -> None:
    """Raise ConfigError for the first contradiction between keys."""
    for relation in RELATIONS:
        for text in relation(cfg):
            raise ConfigError(text)
    _groups(cfg)


def check_division(cfg: CfgNode, processes: int) -> None:
    """Raise ConfigError unless the batch of a training can be divided among its processes.

    Args:
        cfg: with the batch of ``SOLVER.REFERENCE_WORLD_SIZE`` processes, or of as many as there are.
        processes: of the training.
    """
    images, reference = cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.REFERENCE_WORLD_SIZE
    parts = parts_of(cfg, processes)
    if reference and images % reference:
        raise ConfigError(
            f"SOLVER.IMS_PER_BATCH {images} is the batch of SOLVER.REFERENCE_WORLD_SIZE {reference} processes and must "
            "be a multiple of it; with 0 nothing is scaled."
        )
    if not reference and images % (processes * parts):
        of_parts = (
            f" times SOLVER.ACCUMULATE, {processes} x {parts}" if parts > 1 else f", {processes}"
        )
        raise ConfigError(
            f"SOLVER.IMS_PER_BATCH {images} is the number of images over all processes and must be a multiple of "
            f"their number{of_parts}."
        )


def remarks(cfg: CfgNode) -> list[str]:
    """Return sentences about keys that say nothing in this config, or may mean something else than was meant."""
    solver, texts = cfg.SOLVER, []
    late = [step for step in solver.STEPS if step >= solver.MAX_ITER]
    if solver.LR_SCHEDULER_NAME != "WarmupMultiStepLR":
        if solver.STEPS:
            texts.append(f"SOLVER.STEPS {solver.STEPS} is ignored by {solver.LR_SCHEDULER_NAME}.")
    elif late:
        texts.append(
            f"SOLVER.STEPS {solver.STEPS}: the rate does not drop at {', '.join(map(str, late))}, as the training "
            f"ends at SOLVER.MAX_ITER {solver.MAX_ITER}."
        )
    if solver.WARMUP_ITERS > solver.MAX_ITER:
        texts.append(
            f"SOLVER.WARMUP_ITERS {solver.WARMUP_ITERS} is longer than the training, SOLVER.MAX_ITER "
            f"{solver.MAX_ITER}: the rate never reaches SOLVER.BASE_LR."
        )
    if cfg.TEST.BEST_METRIC and not cfg.DATASETS.TEST:
        texts.append(
            f"TEST.BEST_METRIC {cfg.TEST.BEST_METRIC!r} says nothing, nor does TEST.PATIENCE: DATASETS.TEST is empty."
        )
    return texts + _silent_pooling(cfg)


def _silent_pooling(cfg: CfgNode) -> list[str]:
    model = cfg.MODEL
    on = {
        "ROI_BOX_HEAD": True,
        "ROI_MASK_HEAD": model.MASK_ON,
        "ROI_KEYPOINT_HEAD": model.KEYPOINT_ON,
    }
    texts = [
        f"MODEL.{head}.ROI_OP {model[head].ROI_OP!r} says nothing: the model has no such branch."
        for head in HEADS
        if model[head].ROI_OP and not on[head]
    ]
    operations = {operation_of(model, head) for head in HEADS if on[head]}
    if model.ROI_OP.SAMPLES != PAPERS_SAMPLES and operations == {"RoIPool"}:
        texts.append(
            f"MODEL.ROI_OP.SAMPLES {model.ROI_OP.SAMPLES} says nothing: RoIPool reads every cell of a bin."
        )
    return texts


def _image_keys(cfg: CfgNode) -> Iterator[str]:
    keys = cfg.INPUT
    sizes = keys.MIN_SIZE_TRAIN
    if keys.MIN_SIZE_TRAIN_SAMPLING == "range" and (len(sizes) != 2 or sizes[0] > sizes[1]):
        yield (
            f"INPUT.MIN_SIZE_TRAIN {sizes} is no range; give its two ends, the lower one first, or set "
            "INPUT.MIN_SIZE_TRAIN_SAMPLING 'choice'."
        )
    mean, std = cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD
    # Grey images under three means become three equal channels, as a pre-trained network reads them.
    allowed = sorted({CHANNELS[keys.FORMAT], 3})
    if len(mean) != len(std) or len(mean) not in allowed:
        yield (
            f"MODEL.PIXEL_MEAN {list(mean)} and MODEL.PIXEL_STD {list(std)} must have "
            f"{' or '.join(map(str, allowed))} values each: INPUT.FORMAT is {keys.FORMAT!r}."
        )


def _crop(cfg: CfgNode) -> Iterator[str]:
    crop = cfg.INPUT.CROP
    if not crop.ENABLED:
        return
    place = f"INPUT.CROP.SIZE {list(crop.SIZE)}"
    if crop.TYPE.startswith("relative") and max(crop.SIZE) > 1:
        yield f"{place} must be fractions of at most 1: INPUT.CROP.TYPE is {crop.TYPE!r}."
    elif crop.TYPE.startswith("absolute") and any(side != int(side) for side in crop.SIZE):
        yield f"{place} must be whole pixels: INPUT.CROP.TYPE is {crop.TYPE!r}."
    elif crop.TYPE == "absolute_range" and crop.SIZE[0] > crop.SIZE[1]:
        yield f"{place} is no range; give the least side first."


def _schedule(cfg: CfgNode) -> Iterator[str]:
    solver = cfg.SOLVER
    if solver.LR_SCHEDULER_NAME == "WarmupCosineLR" and solver.BASE_LR_END > solver.BASE_LR:
        yield f"SOLVER.BASE_LR_END {solver.BASE_LR_END} is above SOLVER.BASE_LR {solver.BASE_LR}."
    if solver.OPTIMIZER == "SGD" and solver.NESTEROV and not solver.MOMENTUM:
        yield "SOLVER.NESTEROV True needs a SOLVER.MOMENTUM above 0."


def _matching(cfg: CfgNode) -> Iterator[str]:
    for name in ("RPN", "ROI_HEADS"):
        thresholds, labels = cfg.MODEL[name].IOU_THRESHOLDS, cfg.MODEL[name].IOU_LABELS
        if len(labels) != len(thresholds) + 1:
            yield (
                f"MODEL.{name}.IOU_LABELS {list(labels)} must have one entry more than "
                f"MODEL.{name}.IOU_THRESHOLDS {list(thresholds)}."
            )


def _features(cfg: CfgNode) -> Iterator[str]:
    """Yield sentences about feature maps that the backbone lacks; of a plug-in's backbone they are not known here."""
    model, name = cfg.MODEL, cfg.MODEL.BACKBONE.NAME
    bottom = PYRAMIDS.get(name, name)
    if bottom not in PYRAMIDS.values():
        return
    if bottom == "build_narrow_resnet_backbone":
        stages = ["stem", *(f"res{2 + i}" for i in range(len(model.NARROW_RESNET.NUM_BLOCKS)))]
        yield from _describe_absent(
            "MODEL.RESNETS.OUT_FEATURES", model.RESNETS.OUT_FEATURES, stages
        )
    maps: Sequence[str] = model.RESNETS.OUT_FEATURES
    if name in PYRAMIDS:
        if not model.FPN.IN_FEATURES:
            yield f"MODEL.FPN.IN_FEATURES is empty, but MODEL.BACKBONE.NAME is {name!r}."
        yield from _describe_absent("MODEL.FPN.IN_FEATURES", model.FPN.IN_FEATURES, maps)
        levels = [
            int(stage.removeprefix("res")) for stage in model.FPN.IN_FEATURES if stage != "stem"
        ]
        yield from _pyramid(levels, model.FPN.IN_FEATURES)
        # Detectron2's has a coarser map of the last one.
        levels += [levels[-1] + 1] * (name == "build_resnet_fpn_backbone")
        maps = [f"p{level}" for level in levels]
    if model.META_ARCHITECTURE == BackboneClassifier.__name__:
        return
    if model.PROPOSAL_GENERATOR.NAME == "RPN":
        yield from _describe_absent("MODEL.RPN.IN_FEATURES", model.RPN.IN_FEATURES, maps)
    if model.META_ARCHITECTURE != "ProposalNetwork":
        yield from _describe_absent(
            "MODEL.ROI_HEADS.IN_FEATURES", model.ROI_HEADS.IN_FEATURES, maps
        )


def _describe_absent(key: str, names: Sequence[str], maps: Sequence[str]) -> Iterator[str]:
    for name in names:
        if name not in maps:
            yield f"{key} has {name!r}, but the maps there are {', '.join(maps)}."


def _pyramid(levels: Sequence[int], names: Sequence[str]) -> Iterator[str]:
    if list(levels) != list(range(levels[0], levels[0] + len(names))) if levels else names:
        yield f"MODEL.FPN.IN_FEATURES {list(names)} must be neighbouring stages, the finest first."


def _anchors(cfg: CfgNode) -> Iterator[str]:
    count = len(cfg.MODEL.RPN.IN_FEATURES)
    if cfg.MODEL.PROPOSAL_GENERATOR.NAME != "RPN":
        return
    for name in ("SIZES", "ASPECT_RATIOS"):
        lists = cfg.MODEL.ANCHOR_GENERATOR[name]
        if len(lists) not in (1, count):
            yield (
                f"MODEL.ANCHOR_GENERATOR.{name} has {len(lists)} lists; give one, or one for each of the {count} "
                "maps of MODEL.RPN.IN_FEATURES."
            )
    if 0 in cfg.MODEL.RPN.CONV_DIMS:
        yield f"MODEL.RPN.CONV_DIMS {list(cfg.MODEL.RPN.CONV_DIMS)} has 0 channels; -1 keeps their number."


def _resnet(cfg: CfgNode) -> Iterator[str]:
    keys = cfg.MODEL.RESNETS
    if cfg.MODEL.BACKBONE.NAME not in ("build_resnet_backbone", "build_resnet_fpn_backbone"):
        return
    for key, value in {"RES2_OUT_CHANNELS": 64, "RES5_DILATION": 1, "NUM_GROUPS": 1}.items():
        if keys.DEPTH < 50 and keys[key] != value:
            yield f"MODEL.RESNETS.{key} {keys[key]} must be {value}: MODEL.RESNETS.DEPTH is {keys.DEPTH}."


def _embedded(cfg: CfgNode) -> Iterator[str]:
    """Yield what needs an installed Detectron2."""
    values: dict[str, Any] = {
        "MODEL.RESNETS.DEFORM_ON_PER_STAGE": any(cfg.MODEL.RESNETS.DEFORM_ON_PER_STAGE),
        "VIS_PERIOD": cfg.VIS_PERIOD > 0,
        "MODEL.ROI_BOX_HEAD.USE_FED_LOSS": cfg.MODEL.ROI_BOX_HEAD.USE_FED_LOSS,
    }
    if BACKEND.name == "embedded":
        yield from (
            f"{key} is set, but needs an installed Detectron2; the embedded subset lacks it."
            for key, wanted in values.items()
            if wanted
        )


def _sampler(cfg: CfgNode) -> Iterator[str]:
    name = cfg.DATALOADER.SAMPLER_TRAIN
    if name == "RandomSubsetTrainingSampler" and "RANDOM_SUBSET_RATIO" not in cfg.DATALOADER:
        yield (
            f"DATALOADER.SAMPLER_TRAIN {name!r} reads DATALOADER.RANDOM_SUBSET_RATIO, which Detectron2 does not have; "
            "add that key by a plug-in's add_config."
        )
    if name == "WeightedTrainingSampler" and BACKEND.name == "embedded":
        yield f"DATALOADER.SAMPLER_TRAIN {name!r} needs an installed Detectron2; the embedded subset lacks it."


def _box_head(cfg: CfgNode) -> Iterator[str]:
    head, name = cfg.MODEL.ROI_BOX_HEAD, cfg.MODEL.ROI_HEADS.NAME
    heads = ROI_HEADS_REGISTRY.get(name)
    has_heads = cfg.MODEL.META_ARCHITECTURE != "ProposalNetwork"
    if not head.NAME and has_heads and issubclass(heads, StandardROIHeads):
        yield (
            f"MODEL.ROI_BOX_HEAD.NAME is empty, but MODEL.ROI_HEADS.NAME {name!r} needs a box head, such as "
            "'FastRCNNConvFCHead'."
        )
    if head.NAME == "FastRCNNConvFCHead" and not (head.NUM_CONV or head.NUM_FC):
        yield f"MODEL.ROI_BOX_HEAD.NUM_CONV and NUM_FC are both 0, but {head.NAME} needs a layer."
    if head.USE_FED_LOSS and not head.USE_SIGMOID_CE:
        yield "MODEL.ROI_BOX_HEAD.USE_FED_LOSS True needs MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE True."


def _groups(cfg: CfgNode) -> None:
    """Raise ConfigError if GN cannot divide the channels of a part that the model has."""
    model, mask = cfg.MODEL, cfg.MODEL.ROI_MASK_HEAD
    if model.BACKBONE.NAME in PYRAMIDS:
        check_groups("MODEL.FPN.OUT_CHANNELS", model.FPN.OUT_CHANNELS, model.FPN.NORM)
    if model.ROI_BOX_HEAD.NUM_CONV and model.ROI_BOX_HEAD.NAME:
        check_groups(
            "MODEL.ROI_BOX_HEAD.CONV_DIM", model.ROI_BOX_HEAD.CONV_DIM, model.ROI_BOX_HEAD.NORM
        )
    if model.MASK_ON:
        check_groups("MODEL.ROI_MASK_HEAD.CONV_DIM", mask.CONV_DIM, mask.NORM)


def _evaluation(cfg: CfgNode) -> Iterator[str]:
    sigmas, count = cfg.TEST.KEYPOINT_OKS_SIGMAS, cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS
    if cfg.MODEL.KEYPOINT_ON and sigmas and len(sigmas) != count:
        yield (
            f"TEST.KEYPOINT_OKS_SIGMAS has {len(sigmas)} entries, but MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS "
            f"is {count}."
        )
    for entry in cfg.TEST.EXPECTED_RESULTS:
        words, numbers = entry[:2], entry[2:]
        right = all(isinstance(word, str) for word in words)
        if not right or not all(isinstance(number, int | float) for number in numbers):
            yield f"TEST.EXPECTED_RESULTS has {entry!r}; write ['bbox', 'AP', 38.5, 0.2]: value and tolerance last."


RELATIONS: tuple[Callable[[CfgNode], Iterator[str]], ...] = (
    _image_keys,
    _crop,
    _schedule,
    _matching,
    _features,
    _anchors,
    _resnet,
    _embedded,
    _sampler,
    _box_head,
    _evaluation,
)
"""Each yields a sentence for every contradiction of one kind."""
