"""Images held out of a COCO file for evaluation, where there is no file of their own for it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

HELD_OUT = 0.2
"""Share of the images that is held out, of those with objects and of those without alike; at most a half."""
Tree = dict[str, Any]
"""Top level of a COCO file."""


def hold_out(tree: Tree, seed: int) -> tuple[Tree, Tree]:
    """Return a COCO file without the images that are held out, and one of these alone.

    At least one image with objects goes to either side. If there is only one, both sides are the whole file.

    Args:
        tree: a sound file, which stays as it is.
        seed: of the draw, 0 or more; with the same file it draws the same images everywhere.
    """
    annotations = tree.get("annotations", [])
    used = {a["image_id"] for a in annotations if not a["iscrowd"]}
    ids = [image["id"] for image in tree["images"]]
    full = [number for number in ids if number in used]
    if len(full) < 2:
        return tree, tree
    random = np.random.default_rng(seed)
    drawn: set[int] = set()
    for group, least in ((full, 1), ([number for number in ids if number not in used], 0)):
        count = max(least, round(HELD_OUT * len(group)))
        drawn.update(group[place] for place in random.permutation(len(group))[:count])
    return _select_images(tree, set(ids) - drawn), _select_images(tree, drawn)


def _select_images(tree: Tree, ids: Collection[int]) -> Tree:
    return {
        **tree,
        "images": [image for image in tree["images"] if image["id"] in ids],
        "annotations": [a for a in tree["annotations"] if a["image_id"] in ids],
    }
