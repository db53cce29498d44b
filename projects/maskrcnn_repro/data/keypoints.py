"""Facts that follow from keypoint names: flip pairs, colours of limbs, and OKS sigmas."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from typing import Any

from maskrcnn_repro.errors import ConfigError, did_you_mean

from pycocotools.cocoeval import Params

logger = logging.getLogger(__name__)

# fmt: off
COCO_KEYPOINTS = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder",
    "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip",
    "left_knee", "right_knee", "left_ankle", "right_ankle",
)
# fmt: on

LIMB_COLORS = {"left": (70, 150, 255), "right": (255, 120, 60), "": (120, 220, 120)}
"""Side of a limb's ends -> RGB colour in pictures; "" if they have no side, or different ones."""

DEFAULT_SIGMA = 0.05
"""OKS sigma of keypoints that are not COCO's: between COCO's eye (0.025) and hip (0.107)."""

# "left" and "right" as whole words, also in camelCase; not the "right" of "bright" or "copyright".
_SIDE = re.compile(
    r"(?<![A-Za-z])(?:left|right)(?![a-z])|(?:Left|Right)(?![a-z])|(?<![A-Z])(?:LEFT|RIGHT)(?![A-Z])"
)
_OTHER_SIDE = {
    side: other_side
    for left, right in (("left", "right"), ("Left", "Right"), ("LEFT", "RIGHT"))
    for side, other_side in ((left, right), (right, left))
}


def flip_map(names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Return the (left, right) pairs of keypoint names that are swapped in a mirrored image.

    A left or right name without a counterpart is not swapped; a warning names it.
    """
    mirrored = _mirrored(names)
    unpaired = [name for name in names if mirrored[name] not in mirrored]
    if unpaired:
        logger.warning(
            "Keypoints %s have no counterpart on the other side and stay as they are when an image "
            "is mirrored; if that is wrong, rename them or set INPUT.RANDOM_FLIP none.",
            ", ".join(map(repr, unpaired)),
        )
    return flip_pairs(names)


def flip_pairs(names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Return the (left, right) pairs of :func:`flip_map`, without a word about the others."""
    mirrored = _mirrored(names)
    return tuple(
        (name, mirrored[name])
        for name in names
        if _side(name) == "left" and mirrored[name] in mirrored
    )


def _mirrored(names: Sequence[str]) -> dict[str, str]:
    return {name: _SIDE.sub(lambda side: _OTHER_SIDE[side.group()], name) for name in names}


def check_flip_pairs(pairs: Iterable[Any], names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Check ``INPUT.KEYPOINT_FLIP_PAIRS`` and return the pairs as tuples.

    Args:
        pairs: the key's value.
        names: all keypoints of the data.

    Raises:
        ConfigError: an entry is no pair of names, a name is no keypoint, or a name occurs twice.
    """
    key = "INPUT.KEYPOINT_FLIP_PAIRS"
    seen: set[str] = set()
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise ConfigError(
                f"{key} is a list of pairs, also for one: [['left_eye', 'right_eye']], but it has {pair!r}."
            )
        for name in pair:
            if name not in names:
                raise ConfigError(
                    f"{key}: {name!r} is no keypoint.{did_you_mean(str(name), names)} The data has "
                    f"{', '.join(names)}."
                )
            if name in seen:
                raise ConfigError(f"{key}: {name!r} stands there twice, but has one mirror image.")
            seen.add(name)
    return tuple((left, right) for left, right in pairs)


def limbs(edges: Iterable[tuple[str, str]]) -> list[tuple[str, str, tuple[int, int, int]]]:
    """Return the limbs as Detectron2's ``keypoint_connection_rules``: two keypoint names and an RGB colour."""
    rules = []
    for start, end in edges:
        sides = {_side(start), _side(end)} - {""}
        rules.append((start, end, LIMB_COLORS[sides.pop() if len(sides) == 1 else ""]))
    return rules


def _side(name: str) -> str:
    side = _SIDE.search(name)
    return side.group().lower() if side else ""


def oks_sigmas(names: Sequence[str]) -> list[float]:
    """Return COCO's OKS (object keypoint similarity) sigmas for COCO's names, else a default for all.

    A sigma is the standard deviation of annotators, as a fraction of the square root of the object's area.
    """
    if tuple(names) == COCO_KEYPOINTS:
        return [float(sigma) for sigma in Params(iouType="keypoints").kpt_oks_sigmas]
    logger.warning(
        "No OKS sigmas are known for these %d keypoints: %s is used for each; set "
        "TEST.KEYPOINT_OKS_SIGMAS to your own.",
        len(names),
        DEFAULT_SIGMA,
    )
    return [DEFAULT_SIGMA] * len(names)
