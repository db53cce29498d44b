"""Values of config keys that follow from the statistics of a data set, each with its reason.

The rules are pure: the same statistics and config give the same values. Each reads the config as the rules before
it, and the user, left it, so that all values fit those that were given.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

from maskrcnn_repro.config import set_value
from maskrcnn_repro.config_history import value_of
from maskrcnn_repro.data.statistics import Statistics

import numpy as np
from detectron2.config import CfgNode

SMALL_EXTENT = 24
"""Pixels that the root of a small object's area (the lower tenth) keeps where images are made smaller: six cells of a
map of stride 4."""
SHORTEST = 256
"""Pixels of the shorter side below which no image is made smaller, whatever its objects: they need surroundings."""
LONGEST = 1333
"""Most pixels of the longer side, Detectron2's own default."""
SMALLEST_ANCHOR = 8
NATURAL = 4
"""An anchor that may be chosen freely has at least so many cells of its map."""
LONG_SHAPE = 2.8
"""A tenth of the boxes longer than this, and an anchor of 2 has an IoU of less than 0.71 with them."""
KEPT_PER_OBJECT, FEWEST_KEPT, MOST_KEPT = 1.5, 50, 2000
MOST_SAMPLED = {"MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 128, "MODEL.RPN.BATCH_SIZE_PER_IMAGE": 256}
SEEN_PER_ROOT = 250
"""Images that a training sees, over the root of their number: 100 images 25 times, 10,000 images 2.5 times."""
EVALUATIONS = 10
EVALUATION_COST, EVALUATION_SHARE = 0.5, 0.25
"""Of an image in terms of one that is trained on; and the most that all evaluations may take of the training."""
CACHED_BYTES = 2 * 2**30


@dataclass(frozen=True)
class Suggestion:
    """A value of a config key, and the clause that says where it comes from."""

    key: str
    value: Any
    reason: str


Rule = Callable[[CfgNode, Statistics, Statistics], Iterator[Suggestion]]


def suggestions(
    cfg: CfgNode, train: Statistics, test: Statistics, given: Collection[str] = ()
) -> list[Suggestion]:
    """Return the values that suit a set to train on.

    Args:
        cfg: the base, with the user's values; it stays as it is.
        train: of the set that is trained on.
        test: of the set that is evaluated on.
        given: keys whose values stay.
    """
    cfg = cfg.clone()
    chosen = []
    for rule in RULES:
        for suggestion in rule(cfg, train, test):
            if suggestion.key not in given:
                set_value(cfg, suggestion.key, suggestion.value, "suggested")
                chosen.append(suggestion)
    return chosen


def _branches(cfg: CfgNode, train: Statistics, test: Statistics) -> Iterator[Suggestion]:
    if cfg.MODEL.MASK_ON and not train.outlined.any():
        yield Suggestion("MODEL.MASK_ON", False, "no object has a mask")


def _images(cfg: CfgNode, train: Statistics, test: Statistics) -> Iterator[Suggestion]:
    if train.empty:
        reason = f"{train.empty} images without objects teach what is none"
        yield Suggestion("DATALOADER.FILTER_EMPTY_ANNOTATIONS", False, reason)
    stored = int(train.sizes.prod(axis=1).sum()) * 3
    if cfg.DATALOADER.CACHE_IMAGES and stored > CACHED_BYTES:
        reason = f"decoded, the images take {stored / 2**30:.1f} GiB"
        yield Suggestion("DATALOADER.CACHE_IMAGES", False, reason)


def _image_size(cfg: CfgNode, train: Statistics, test: Statistics) -> Iterator[Suggestion]:
    own = train.short_side
    small = float(np.percentile(train.relative_extents(), 10))
    wanted = 32 * round(SMALL_EXTENT / small / 32)
    short = min(LONGEST, own if wanted >= own else max(wanted, min(SHORTEST, own)))
    reason = (
        f"a tenth of the objects is below {small:.1%} of its image's shorter side, here {small * short:.0f} px; the "
        f"images have {own} px"
    )
    yield Suggestion("INPUT.MIN_SIZE_TRAIN", (short,), reason)
    short = max(cfg.INPUT.MIN_SIZE_TRAIN)
    longest = max(short, min(LONGEST, int(np.ceil(short * train.elongation)))) if short else LONGEST
    reason = f"images are up to {train.elongation:.2f} times as long as wide; at most {LONGEST} px"
    yield Suggestion("INPUT.MAX_SIZE_TRAIN", longest, reason)
    yield Suggestion("INPUT.MIN_SIZE_TEST", short, "as in training")
    yield Suggestion("INPUT.MAX_SIZE_TEST", int(cfg.INPUT.MAX_SIZE_TRAIN), "as in training")


def _anchors(cfg: CfgNode, train: Statistics, test: Statistics) -> Iterator[Suggestion]:
    model = cfg.MODEL
    by_rpn = model.PROPOSAL_GENERATOR.NAME == "RPN" and not model.LOAD_PROPOSALS
    if not by_rpn or model.ANCHOR_GENERATOR.NAME != "DefaultAnchorGenerator":
        return
    sides = train.resized(max(cfg.INPUT.MIN_SIZE_TRAIN), int(cfg.INPUT.MAX_SIZE_TRAIN))
    low, high = np.percentile(np.sqrt(sides.prod(axis=1)), (10, 90))
    finest = 2 ** int((re.findall(r"\d+$", model.RPN.IN_FEATURES[0]) or ["2"])[0])
    sizes = anchor_sizes(low, high, len(model.RPN.IN_FEATURES), finest)
    reason = f"four fifths of the objects have {low:.0f} to {high:.0f} px after the resize"
    yield Suggestion("MODEL.ANCHOR_GENERATOR.SIZES", sizes, reason)
    flat, tall = np.percentile(sides[:, 1] / sides[:, 0], (10, 90))
    if flat < 1 / LONG_SHAPE or tall > LONG_SHAPE:
        shapes = [round(float(min(flat, 0.5)), 2), 1.0, round(float(max(tall, 2.0)), 2)]
        reason = f"a tenth of the boxes each is below {flat:.2f} and above {tall:.2f} in height over width"
        yield Suggestion("MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", [shapes], reason)


def anchor_sizes(low: float, high: float, levels: int, finest: int) -> list[list[int]]:
    """Return the sizes of each level's anchors in pixels, ascending, as many on each level.

    Neighbours differ by a factor of at most 2, so that a square has an IoU of at least 0.5 with one of them.

    Args:
        low: root of the area of small objects, in pixels.
        high: of large ones.
        levels: number of maps.
        finest: stride of the finest map in pixels.
    """
    least = max(SMALLEST_ANCHOR, low)
    doublings = max(0.0, np.log2(high / least) - 0.5)  # the largest reaches half a doubling further
    on_each = max(1, -(-int(np.ceil(doublings) + 1) // levels))
    count = on_each * levels
    if on_each == 1:
        # Large objects belong on coarse maps: the series moves down by octaves while its top still reaches them.
        spare = min(np.log2(least / (NATURAL * finest)), count - 0.5 - np.log2(high / least))
        least /= 2 ** max(0, int(spare))
    factor = 2.0 if on_each == 1 or count == 1 else (high / least) ** (1 / (count - 1))
    factor = min(2.0, max(2**0.5, factor))
    series = [round(float(least * factor**step)) for step in range(count)]
    return [series[on_each * level : on_each * (level + 1)] for level in range(levels)]


def _numbers(cfg: CfgNode, train: Statistics, test: Statistics) -> Iterator[Suggestion]:
    most = int(max(train.counts.max(), test.counts.max(initial=0)))
    kept = min(MOST_KEPT, max(FEWEST_KEPT, 10 * round(KEPT_PER_OBJECT * most / 10)))
    yield Suggestion("TEST.DETECTIONS_PER_IMAGE", kept, f"an image has up to {most} objects")
    kept = int(cfg.TEST.DETECTIONS_PER_IMAGE)
    for key in ("MODEL.RPN.POST_NMS_TOPK_TEST", "MODEL.RPN.PRE_NMS_TOPK_TEST"):
        if value_of(cfg, key) < 2 * kept:
            yield Suggestion(key, 2 * kept, f"{kept} detections are kept of an image")
    crowded = float(np.percentile(train.counts, 90))
    wanted = 2 ** int(np.ceil(np.log2(max(1.0, 2 * crowded))))
    for key, limit in MOST_SAMPLED.items():
        if value_of(cfg, key) < min(limit, wanted):
            reason = f"a tenth of the images has {crowded:.0f} objects or more"
            yield Suggestion(key, min(limit, wanted), reason)
    pixels = kept * cfg.INPUT.MIN_SIZE_TEST * cfg.INPUT.MAX_SIZE_TEST
    if cfg.MODEL.META_ARCHITECTURE == "MaskRCNN" and cfg.MODEL.MASK_ON and pixels > 2**27:
        reason = f"{kept} bitmaps would take {pixels / 2**20:.0f} MiB"
        yield Suggestion("MODEL.INFERENCE.MASK_OUTPUT", "rle", reason)


def _schedule(cfg: CfgNode, train: Statistics, test: Statistics) -> Iterator[Suggestion]:
    images, batch = len(train.sizes), int(cfg.SOLVER.IMS_PER_BATCH)
    iterations = 10 * max(1, round(SEEN_PER_ROOT * images**0.5 / batch / 10))
    reason = f"{images} images, each {iterations * batch / images:.0f} times"
    yield Suggestion("SOLVER.MAX_ITER", iterations, reason)
    last = int(cfg.SOLVER.MAX_ITER)
    warmup = min(1000, max(1, last // 20))
    yield Suggestion("SOLVER.WARMUP_ITERS", warmup, f"a twentieth of {last} iterations")
    if cfg.SOLVER.LR_SCHEDULER_NAME == "WarmupMultiStepLR":
        reason = "after two thirds and eight ninths, as in the paper's schedule"
        steps = tuple(sorted({last * 2 // 3, last * 8 // 9} - {0}))
        yield Suggestion("SOLVER.STEPS", steps, reason)


def _evaluations(cfg: CfgNode, train: Statistics, test: Statistics) -> Iterator[Suggestion]:
    last = int(cfg.SOLVER.MAX_ITER)
    seen = last * int(cfg.SOLVER.IMS_PER_BATCH)
    fitting = EVALUATION_SHARE * seen / (EVALUATION_COST * max(1, len(test.sizes)))
    count = max(1, min(EVALUATIONS, int(fitting)))
    period = -(-last // count)
    evaluated = bool(cfg.DATASETS.TEST)
    if evaluated:
        reason = f"{count} evaluations of {len(test.sizes)} images"
        yield Suggestion("TEST.EVAL_PERIOD", period, reason)
    yield Suggestion("SOLVER.CHECKPOINT_PERIOD", period, "with each evaluation")
    yield Suggestion("SOLVER.CHECKPOINT_KEEP", 2, "the best and the last one stay as well")
    if evaluated and len(test.sides):
        metric = "segm/AP" if cfg.MODEL.MASK_ON else "bbox/AP"
        yield Suggestion("TEST.BEST_METRIC", metric, "by which the best weights are kept")
        if cfg.TEST.BEST_METRIC and cfg.TEST.EVAL_PERIOD and count > 3:
            yield Suggestion("TEST.PATIENCE", count // 2, "half of the evaluations")


RULES: tuple[Rule, ...] = (
    _branches,
    _images,
    _image_size,
    _anchors,
    _numbers,
    _schedule,
    _evaluations,
)
"""In the order in which they build on one another."""
