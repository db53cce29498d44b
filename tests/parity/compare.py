"""How close two measurements of a model must be.

Instances are matched by class and box, not by rank: where two scores differ in the sixth digit, another
CPU may order them differently. ``strictness`` divides every tolerance; the recorder uses it to refuse
weights that stand on an edge.
"""

import numpy as np
import pytest

from parity.models import decode

BOX = 1e-2  # px
SCORE = 1e-4
KEYPOINT = 0.1  # px
MASK = 1e-3  # fraction of the image's pixels
LOSS = 1e-4  # relative
GRADIENT = 1e-3  # relative


def losses(ours, stored, strictness=1):
    _same_numbers(ours, stored, LOSS / strictness)


def gradients(ours, stored, strictness=1):
    _same_numbers(ours, stored, GRADIENT / strictness)


def proposals(ours, stored, strictness=1):
    assert len(ours) == len(stored)
    for one, other in zip(ours, stored, strict=True):
        order = _partners(one["boxes"], other["boxes"], BOX / strictness)
        _within(np.array(one["logits"])[order], other["logits"], SCORE / strictness, "logits")


def detections(ours, stored, strictness=1):
    assert len(ours) == len(stored)
    for one, other in zip(ours, stored, strict=True):
        assert one["size"] == other["size"]
        order = _partners(
            one["boxes"], other["boxes"], BOX / strictness, one["classes"], other["classes"]
        )
        _instances(one, other, order, strictness)


def everything(ours, stored, strictness=1):
    losses(ours["losses"], stored["losses"], strictness)
    gradients(ours["gradients"], stored["gradients"], strictness)
    proposals(ours["proposals"], stored["proposals"], strictness)
    detections(ours["detections"], stored["detections"], strictness)


def _same_numbers(ours, stored, relative):
    assert ours.keys() == stored.keys()
    for name, number in stored.items():
        assert ours[name] == pytest.approx(number, rel=relative, abs=1e-7), (
            f"{name} is {ours[name]}, stored is {number}"
        )


def _instances(one, other, order, strictness):
    assert one.keys() == other.keys()
    _within(np.array(one["scores"])[order], other["scores"], SCORE / strictness, "scores")
    if "masks" in other:
        size = other["size"]
        for index, rle in zip(order, other["masks"], strict=True):
            differing = decode(one["masks"][index], size) != decode(rle, size)
            share = differing.mean()
            assert share <= MASK / strictness, (
                f"a mask differs in {share:.2%} of the image's pixels"
            )
    if "keypoints" in other:
        ours = np.array(one["keypoints"])[order]
        stored = np.array(other["keypoints"])
        _within(ours[..., :2], stored[..., :2], KEYPOINT / strictness, "keypoints")
        _within(ours[..., 2], stored[..., 2], SCORE / strictness, "keypoint scores")


def _within(ours, stored, tolerance, what):
    worst = np.abs(np.array(ours) - np.array(stored)).max()
    assert worst <= tolerance, f"{what} differ by up to {worst:.3g}"


def _partners(ours, stored, tolerance, our_classes=None, stored_classes=None):
    """Return, for every stored box, the index of ours that lies within ``tolerance`` of it."""
    assert len(ours) == len(stored), f"{len(ours)} boxes, stored are {len(stored)}"
    distance = np.abs(np.array(ours)[None] - np.array(stored)[:, None]).max(axis=2)
    if stored_classes is not None:
        distance[np.array(our_classes)[None] != np.array(stored_classes)[:, None]] = np.inf
    order = distance.argmin(axis=1)
    nearest = distance.min(axis=1)
    worst = nearest.argmax()
    assert nearest[worst] <= tolerance, (
        f"box {stored[worst]} has no partner: the nearest is {nearest[worst]:.3g} px away"
    )
    assert len(set(order.tolist())) == len(order), "two stored boxes have the same partner"
    return order
