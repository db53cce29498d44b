"""A split of images in two, by a seed: the same for any order of the images, and no group is divided."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from pathlib import PurePosixPath

from maskrcnn_repro.errors import ConfigError, DataError

FOLDER = "folder"
_ROBOFLOW = re.compile(r"\.rf\.[0-9A-Za-z]+(?=\.[^.]+$)")


def build_grouping(rule: str | None) -> Callable[[str], str]:
    """Return a function from a file name to its group; an empty one is a group of its own.

    Args:
        rule: :data:`FOLDER`, or a regular expression whose groups, or else whose match, name the group; None: an image
            alone, but Roboflow's copies of it (``NAME.rf.HASH.jpg``) together.

    Raises:
        ConfigError: it is no regular expression.
    """
    if rule is None:
        return original
    if rule == FOLDER:
        return lambda name: str(PurePosixPath(name).parent)
    try:
        pattern = re.compile(rule)
    except (re.error, OverflowError, RecursionError) as error:
        raise ConfigError(f"--group-by {rule!r} is no regular expression: {error}.") from error

    def group(name: str) -> str:
        match = pattern.search(original(name))
        return "" if match is None else "\0".join(text or "" for text in match.groups()) or match[0]

    return group


def original(name: str) -> str:
    """Return the name of the image of which Roboflow made a copy (``NAME.rf.HASH.jpg``), or the name itself."""
    return _ROBOFLOW.sub("", name)


def split(
    names: Iterable[str], share: float, seed: int, group_of: Callable[[str], str]
) -> frozenset[str]:
    """Return the names of the first part.

    Groups are taken in the order of a hash of seed and group, each if it brings the number of images nearer to the
    share; at least one is taken and one is left.

    Args:
        names: of all images.
        share: of the images in the first part, between 0 and 1.
        seed: another gives another split.
        group_of: see :func:`build_grouping`.

    Raises:
        DataError: there are fewer than two groups.
    """
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(group_of(name) or f"\0{original(name)}", []).append(name)
    if len(groups) < 2:
        raise DataError(
            "--split needs two groups of images or more; there is only one: change --group-by."
        )
    order = sorted(groups, key=lambda group: hashlib.sha256(f"{seed}:{group}".encode()).digest())
    wanted = share * sum(map(len, groups.values()))
    taken: list[str] = []
    count = 0
    for group in order:
        size = len(groups[group])
        if abs(count + size - wanted) <= abs(count - wanted):
            taken.append(group)
            count += size
    taken = (taken or order[:1]) if len(taken) < len(order) else taken[:-1]
    return frozenset(name for group in taken for name in groups[group])
