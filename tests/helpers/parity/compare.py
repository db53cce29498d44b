"""How close two measurements of a model must be: each comparison returns the differences, in words.

Instances are matched by class and box, not by rank: where two scores differ in the sixth digit, another
CPU may order them differently. ``strictness`` divides every tolerance; the recorder uses it to refuse
weights that stand on an edge.
"""

import numpy as np
import pytest

from tests.helpers.parity.models import decode

BOX = 1e-2  # px
SCORE = 1e-4
KEYPOINT = 0.1  # px
MASK = 1e-3  # fraction of the image's pixels
LOSS = 1e-4  # relative
GRADIENT = 1e-3  # relative


def losses(ours, stored, strictness=1):
    return _numbers(ours, stored, LOSS / strictness)


def gradients(ours, stored, strictness=1):
    return _numbers(ours, stored, GRADIENT / strictness)


def proposals(ours, stored, strictness=1):
    return _images(_proposals, ours, stored, strictness)


def detections(ours, stored, strictness=1):
    return _images(_detections, ours, stored, strictness)


def everything(ours, stored, strictness=1):
    parts = (losses, gradients, proposals, detections)
    return [
        difference
        for part in parts
        for difference in part(ours[part.__name__], stored[part.__name__], strictness)
    ]


def _numbers(ours, stored, relative):
    if ours.keys() != stored.keys():
        return [f"only one has {sorted(ours.keys() ^ stored.keys())}"]
    return [
        f"{name} is {ours[name]}, stored is {number}"
        for name, number in stored.items()
        if ours[name] != pytest.approx(number, rel=relative, abs=1e-7)
    ]


def _images(compare, ours, stored, strictness):
    if len(ours) != len(stored):
        return [f"{len(ours)} images, stored are {len(stored)}"]
    return [
        f"image {number}: {difference}"
        for number, pair in enumerate(zip(ours, stored, strict=True))
        for difference in compare(*pair, strictness)
    ]


def _proposals(ours, stored, strictness):
    order, differences = _partners(ours["boxes"], stored["boxes"], BOX / strictness)
    if differences:
        return differences
    return _within(np.array(ours["logits"])[order], stored["logits"], SCORE / strictness, "logits")


def _detections(ours, stored, strictness):
    if ours.keys() != stored.keys():
        return [f"only one has {sorted(ours.keys() ^ stored.keys())}"]
    if ours["size"] != stored["size"]:
        return [f"size is {ours['size']}, stored is {stored['size']}"]
    order, differences = _partners(
        ours["boxes"], stored["boxes"], BOX / strictness, ours["classes"], stored["classes"]
    )
    if differences:
        return differences
    differences = _within(
        np.array(ours["scores"])[order], stored["scores"], SCORE / strictness, "scores"
    )
    if "masks" in stored:
        differences += _masks(
            [ours["masks"][index] for index in order], stored["masks"], stored["size"], strictness
        )
    if "keypoints" in stored:
        points, expected = np.array(ours["keypoints"])[order], np.array(stored["keypoints"])
        differences += _within(
            points[..., :2], expected[..., :2], KEYPOINT / strictness, "keypoints"
        )
        differences += _within(
            points[..., 2], expected[..., 2], SCORE / strictness, "keypoint scores"
        )
    return differences


def _masks(ours, stored, size, strictness):
    shares = [
        (decode(mask, size) != decode(rle, size)).mean()
        for mask, rle in zip(ours, stored, strict=True)
    ]
    return [
        f"mask {number} differs in {share:.2%} of the image's pixels"
        for number, share in enumerate(shares)
        if share > MASK / strictness
    ]


def _within(ours, stored, tolerance, what):
    worst = np.abs(np.array(ours) - np.array(stored)).max()
    # Not `>`: NaN is a difference too.
    return [] if worst <= tolerance else [f"{what} differ by up to {worst:.3g}"]


def _partners(ours, stored, tolerance, our_classes=None, stored_classes=None):
    """Match boxes.

    Returns the index of ours that lies within ``tolerance`` of each stored box, and the differences
    where there is none.
    """
    if len(ours) != len(stored):
        return [], [f"{len(ours)} boxes, stored are {len(stored)}"]
    distance = np.abs(np.array(ours)[None] - np.array(stored)[:, None]).max(axis=2)
    if stored_classes is not None:
        distance[np.array(our_classes)[None] != np.array(stored_classes)[:, None]] = np.inf
    order = distance.argmin(axis=1)
    nearest = distance.min(axis=1)
    differences = [
        f"box {box} has no partner: the nearest is {gap:.3g} px away"
        for box, gap in zip(stored, nearest, strict=True)
        if not gap <= tolerance
    ]
    if len(set(order.tolist())) < len(order):
        differences.append("two stored boxes have the same partner")
    return order, differences
