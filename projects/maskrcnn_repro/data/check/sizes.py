"""Objects against the sizes of a config: after the resize, for its anchors, and for its number of detections."""

from __future__ import annotations

from collections import Counter

from maskrcnn_repro.data.check.findings import Findings
from maskrcnn_repro.data.check.scan import Scan

import numpy as np
from detectron2.config import CfgNode

TINY = 4.0
"""Square root of the area in pixels after the resize, below which an object is hardly learnt."""
COCO_LIMIT = 100
"""Detections of a class in an image that COCO's evaluation takes."""
_FEW = 0.5


def check_sizes(scan: Scan, cfg: CfgNode, use: str, findings: Findings) -> None:
    """Note objects that a config makes hard to learn or to find.

    Args:
        scan: a complete one.
        cfg: sizes of images (the smallest that is trained on) and anchors, and kept detections.
        use: ``train`` or ``test``.
        findings: gets the notes.
    """
    objects, sizes = scan.objects, scan.sizes
    if objects is None or sizes is None:
        return
    rows = np.flatnonzero(objects.single)
    images = objects.images[rows]
    if use == "test":
        _check_number(images, objects.categories[rows], scan, cfg, findings)
    short = cfg.INPUT.MIN_SIZE_TEST if use == "test" else min(cfg.INPUT.MIN_SIZE_TRAIN, default=0)
    longest = cfg.INPUT.MAX_SIZE_TEST if use == "test" else cfg.INPUT.MAX_SIZE_TRAIN
    sides = objects.boxes[rows, 2:] * resize_factors(sizes, short, longest)[images][:, None]
    extents = np.sqrt(sides.prod(axis=1))
    for row in np.flatnonzero(extents < TINY):
        value = f"{extents[row]:.1f}"
        findings.add("object-tiny", int(objects.ids[rows[row]]), value=value, resize=short)
    if use == "train":
        _check_anchors(sides, objects.ids[rows], cfg, findings)


def resize_factors(sizes: np.ndarray, short: int, longest: int) -> np.ndarray:
    """Return the factors of a resize of the shorter side, as long as the longer one allows it."""
    if not short or not len(sizes):
        return np.ones(len(sizes))
    scales = short / sizes.min(axis=1).clip(min=1)
    return np.minimum(scales, longest / sizes.max(axis=1).clip(min=1))


def _check_number(
    images: np.ndarray, categories: np.ndarray, scan: Scan, cfg: CfgNode, findings: Findings
) -> None:
    """Note images with more objects than are kept, and with more of a class than COCO's evaluation takes."""
    kept, ids = int(cfg.TEST.DETECTIONS_PER_IMAGE), scan.image_ids
    for index, count in enumerate(np.bincount(images, minlength=len(ids)).tolist()):
        if count > kept >= 0:
            findings.add("objects-above-kept", ids[index], count=count, limit=kept)
    of_class = Counter(zip(images.tolist(), categories.tolist(), strict=True))
    # Of an image the last entry stays, which is that of its largest class.
    largest = dict(sorted((index, (count, place)) for (index, place), count in of_class.items()))
    for index, (count, place) in largest.items():
        if count > COCO_LIMIT:
            name = scan.class_names.get(place, place)
            findings.add("objects-above-coco", ids[index], count=count, name=name)


def _check_anchors(sides: np.ndarray, ids: np.ndarray, cfg: CfgNode, findings: Findings) -> None:
    """Note boxes that no anchor fits even where both have one centre."""
    model = cfg.MODEL
    by_rpn = model.PROPOSAL_GENERATOR.NAME == "RPN" and not model.LOAD_PROPOSALS
    if not by_rpn or model.ANCHOR_GENERATOR.NAME != "DefaultAnchorGenerator" or not len(sides):
        return
    least = float(model.RPN.IOU_THRESHOLDS[0])
    best = np.zeros(len(sides))
    for width, height in anchor_shapes(cfg):
        inner = np.minimum(sides, (width, height)).prod(axis=1)
        best = np.maximum(best, inner / (sides.prod(axis=1) + width * height - inner))
    misfits = np.flatnonzero(best < least)
    for row in misfits:
        value = "{:.0f} x {:.0f}".format(*sides[row])
        findings.add("anchor-none", int(ids[row]), value=value, iou=least)
    if len(misfits) > _FEW * len(sides):
        value = "{:.0f} x {:.0f}".format(*np.median(sides, axis=0))
        share = f"{len(misfits) / len(sides):.0%}"
        findings.add("anchor-few", findings.file.name, share=share, iou=least, value=value)


def anchor_shapes(cfg: CfgNode) -> set[tuple[float, float]]:
    """Return width and height of all anchors in pixels of the resized image.

    A ratio is height over width; an anchor's area is the square of its size.
    """
    generator = cfg.MODEL.ANCHOR_GENERATOR
    # A list alone is that of all levels.
    lists = [list(generator.SIZES), list(generator.ASPECT_RATIOS)]
    levels = max(map(len, lists))
    by_level = zip(*(each * levels if len(each) == 1 else each for each in lists), strict=False)
    return {
        (size / ratio**0.5, size * ratio**0.5)
        for sizes, ratios in by_level
        for size in sizes
        for ratio in ratios
    }
