"""What follows from the names of keypoints: which ones a mirror swaps, and how exactly each is known."""

from __future__ import annotations

import logging
import re

from pycocotools.cocoeval import Params

logger = logging.getLogger(__name__)

# fmt: off
COCO_KEYPOINTS = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder",
    "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip",
    "left_knee", "right_knee", "left_ankle", "right_ankle",
)
# fmt: on

DEFAULT_SIGMA = 0.05
"""OKS sigma of a keypoint that COCO does not have: between its eye (0.025) and its hip (0.107)."""

# The words as such, also in camelCase; not the "right" of "bright" or "copyright".
_SIDE = re.compile(
    r"(?<![A-Za-z])(?:left|right)(?![a-z])|(?:Left|Right)(?![a-z])|(?<![A-Z])(?:LEFT|RIGHT)(?![A-Z])"
)
_OTHER_SIDE = {
    one: other
    for left, right in (("left", "right"), ("Left", "Right"), ("LEFT", "RIGHT"))
    for one, other in ((left, right), (right, left))
}


def flip_map(names: list[str]) -> list[tuple[str, str]]:
    """Return the (left, right) pairs of names that change places in a mirrored image.

    A left or right name without its counterpart keeps its place; a warning names it.
    """
    mirrored = {name: _SIDE.sub(lambda side: _OTHER_SIDE[side.group()], name) for name in names}
    alone = [name for name in names if mirrored[name] not in mirrored]
    if alone:
        logger.warning(
            "Keypoints %s have no counterpart on the other side and stay as they are when an image "
            "is mirrored; if that is wrong, rename them or set INPUT.RANDOM_FLIP none.",
            ", ".join(map(repr, alone)),
        )
    pairs = []
    for name in names:
        side = _SIDE.search(name)
        if side and side.group().lower() == "left" and mirrored[name] in mirrored:
            pairs.append((name, mirrored[name]))
    return pairs


def oks_sigmas(names: list[str]) -> list[float]:
    """Return COCO's object-keypoint-similarity sigmas for COCO's names, else one default for all.

    A sigma is the standard deviation of annotators, as a fraction of the square root of the area.
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
