"""Keypoints of a COCO file: names, limbs, numbers, visibility, and left against right."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from maskrcnn_repro.data.check.findings import Findings, shorten
from maskrcnn_repro.data.check.outlines import NUMBERS, are_finite
from maskrcnn_repro.data.check.records import Record
from maskrcnn_repro.data.keypoints import flip_pairs

import numpy as np

POSE = {"keypoints", "num_keypoints"}
_BORDER = 1.0
_LEAST = 20  # objects from which a share says something
_MIRRORED = 0.65
_APART = 2.0  # pixels between a left and a right keypoint that tell the side


def keypoint_names(categories: list[Record], findings: Findings) -> list[str]:
    """Return the keypoint names, which must be the same in all categories that have some."""
    with_names = [c for c in categories if c.get("keypoints")]
    for category in with_names:
        names, label = category["keypoints"], category["name"]
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            findings.add("keypoint-names", category["id"], name=label)
        elif len(set(names)) != len(names):
            findings.add("keypoint-names-twice", category["id"], name=label)
        elif names != with_names[0]["keypoints"]:
            first = with_names[0]["name"]
            findings.add("keypoint-names-differ", category["id"], name=label, first=first)
    if not with_names or "keypoint-names" in findings:
        return []
    return list(with_names[0]["keypoints"])


def skeleton(
    categories: list[Record], names: list[str], findings: Findings
) -> list[tuple[str, str]]:
    """Return the limbs of the first category that has some, each as the names of two keypoints."""
    category = next((c for c in categories if c.get("keypoints") and c.get("skeleton")), None)
    if category is None:
        return []
    try:
        ends = [(int(start), int(end)) for start, end in category["skeleton"]]
    except (TypeError, ValueError, OverflowError):
        ends = [(0, 0)]
    if any(not 1 <= end <= len(names) for edge in ends for end in edge):
        findings.add("skeleton-odd", category["id"], count=len(names))
        return []
    return [(names[start - 1], names[end - 1]) for start, end in ends]


def check_keypoints(
    annotations: list[Record], images: list[Record], names: list[str], findings: Findings
) -> None:
    """Note what is wrong with the keypoints of annotations; with no ``names`` nothing is looked at."""
    if not names:
        return
    sizes = {image["id"]: (image["width"], image["height"]) for image in images}
    poses = []
    for annotation in annotations:
        if not annotation.keys() >= POSE:
            findings.add("keypoints-absent", annotation["id"])
        # Objects of a class without keypoints do not have the field.
        if "keypoints" in annotation and _are_numbers(annotation, len(names), findings):
            pose = np.array(annotation["keypoints"], dtype=np.float32).reshape(-1, 3)
            _check_pose(annotation, pose, sizes.get(annotation["image_id"]), findings)
            if annotation["iscrowd"] == 0:
                poses.append(pose)
    if not any((pose[:, 2] > 0).any() for pose in poses):
        findings.add("keypoints-none", findings.file.name)
    if poses:
        _check_sides(np.stack(poses), names, findings)


def _are_numbers(annotation: Record, count: int, findings: Findings) -> bool:
    values: Any = annotation["keypoints"]
    if not isinstance(values, list) or len(values) != 3 * count:
        findings.add("keypoints-length", annotation["id"], count=count)
        return False
    try:
        wrong = next((v for v in values if type(v) not in NUMBERS or not math.isfinite(v)), None)
        sound = wrong is None and None not in values
    except OverflowError:
        wrong, sound = "a number beyond all bounds", False
    if not sound:
        findings.add("keypoints-no-numbers", annotation["id"], count=count, value=shorten(wrong))
    return sound


def _check_pose(
    annotation: Record, pose: np.ndarray, size: tuple[int, int] | None, findings: Findings
) -> None:
    """Check a (K, 3) array of x, y, visibility."""
    place, visible = annotation["id"], pose[:, 2] > 0
    odd = ~np.isin(pose[:, 2], (0, 1, 2))
    if odd.any():
        findings.add("keypoints-visibility", place, value=f"{pose[odd.argmax(), 2]:g}")
    count = int(visible.sum())
    if (told := annotation.get("num_keypoints", count)) != count:
        findings.add("keypoints-count", place, value=shorten(told), count=count)
    points = pose[visible, :2]
    if size is not None:
        outside = ((points < -_BORDER) | (points > np.add(size, _BORDER))).any(axis=1)
        if outside.any():
            value = "{:.6g}, {:.6g}".format(*points[outside.argmax()])
            findings.add("keypoints-outside", place, value=value, size="{} x {}".format(*size))
    box = annotation["bbox"]
    if len(points) and len(box) == 4 and set(map(type, box)) <= NUMBERS and are_finite(box):
        left_top, right_bottom = np.array(box[:2]), np.array(box[:2]) + box[2:]
        off = ((points < left_top - _BORDER) | (points > right_bottom + _BORDER)).any(axis=1)
        if off.mean() > 0.5:
            findings.add("keypoints-off-box", place)


def _check_sides(poses: np.ndarray, names: list[str], findings: Findings) -> None:
    """Compare left with right keypoints of (N, K, 3) poses.

    Of people who face the camera the left keypoints stand to the right of the right ones. Most do so.
    """
    pairs = [(names.index(left), names.index(right)) for left, right in flip_pairs(names)]
    if not pairs:
        return
    left, right = (poses[:, list(side)] for side in zip(*pairs, strict=True))
    gap = left[:, :, 0] - right[:, :, 0]
    told = (left[:, :, 2] > 0) & (right[:, :, 2] > 0) & (np.abs(gap) > _APART)
    sides = np.where(told, np.sign(gap), 0)
    facing = np.sign(sides.sum(axis=1))
    judged = facing != 0
    if judged.sum() >= _LEAST and (share := (facing[judged] < 0).mean()) > _MIRRORED:
        values = {"share": f"{share:.0%}", "count": int(judged.sum())}
        findings.add("keypoints-mirrored", findings.file.name, **values)
    for pair, (first, second) in enumerate(pairs):
        # Against the other pairs of the same object.
        others = np.sign(sides.sum(axis=1) - sides[:, pair])
        rows = told[:, pair] & (others != 0)
        if rows.sum() >= _LEAST and (sides[rows, pair] != others[rows]).mean() > _MIRRORED:
            values = {"first": names[first], "second": names[second]}
            findings.add("keypoint-pair-swapped", f"{names[first]}/{names[second]}", **values)


def check_flip_pairs_sides(
    pairs: Iterable[Sequence[str]], names: Sequence[str], findings: Findings
) -> None:
    """Note pairs of ``INPUT.KEYPOINT_FLIP_PAIRS`` that part a left name from its right one."""
    sides = {name: pair for pair in flip_pairs(names) for name in pair}
    for first, second in pairs:
        if sides.get(first) != sides.get(second):
            findings.add("flip-pair-odd", f"{first}/{second}", first=first, second=second)
