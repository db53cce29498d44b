"""Config file, family, baseline and varied keys of an experiment, from its name and its config's ``_BASE_`` files."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Container
from typing import Any

from maskrcnn_repro.config import config_chain, configs_folder, find_config, leaves
from maskrcnn_repro.errors import TableError

FAMILIES = ("c4", "c5", "fpn", "keypoints", "cityscapes")
"""Files of ``configs/base/``: the last of them in a chain is the family of an experiment."""
BACKBONE = "backbone"
"""Family of the trainings of backbones alone, which only levels have."""
NOT_COMPARED = frozenset({"OUTPUT_DIR", "VERSION"})
"""Keys that do not describe a model."""


def config_of(name: str) -> str:
    """Return the path, below ``configs/``, of the config of a trained experiment.

    ``rpn_r50_c4`` has ``rpn/r50_c4.yaml``; a name without a folder's in front lies in ``coco``: ``r50_c4`` has
    ``coco/r50_c4.yaml``.

    Raises:
        TableError: neither file exists.
    """
    folder, _, stem = name.partition("_")
    candidates = [f"{folder}/{stem}.yaml", f"coco/{name}.yaml"]
    for config in candidates:
        if (configs_folder() / config).is_file():
            return config
    raise TableError(
        f"Experiment {name!r} has no config: neither {' nor '.join(candidates)} is in {configs_folder()}."
    )


def family_of(config: str) -> str:
    """Return which of :data:`FAMILIES` a config belongs to.

    Raises:
        TableError: it builds on no family's base.
        ConfigError: a file is missing or no YAML.
    """
    bases = [path.stem for path, _ in config_chain(config) if path.parent.name == "base"]
    families = [name for name in bases if name in FAMILIES]
    if not families:
        raise TableError(
            f"{config} is of no family: it builds on none of base/{', base/'.join(FAMILIES)}."
        )
    return families[-1]


def base_of(config: str, complete: Container[str]) -> str | None:
    """Return the nearest experiment's config in the ``_BASE_`` chain of a config; None if there is none.

    Args:
        config: path below ``configs/``, or a whole one.
        complete: configs of experiments; the others in a chain, such as ``base/c4.yaml``, are only parts of one.

    Raises:
        ConfigError: a file is missing or no YAML.
    """
    root = configs_folder().resolve()
    paths = [path.resolve() for path, _ in config_chain(config)[:-1]]
    names = [
        path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
        for path in paths
    ]
    return next((name for name in reversed(names) if name in complete), None)


def header_of(config: str) -> str:
    """Return the comment at the head of a config as one line: purpose, assumptions and cost.

    Raises:
        ConfigError: the config does not exist.
    """
    lines = find_config(config).read_text(encoding="utf-8").splitlines()
    comment = itertools.takewhile(lambda line: line.startswith("#"), lines)
    return " ".join(line.removeprefix("#").strip() for line in comment)


def varied_keys(config: str, baseline: str) -> tuple[str, ...]:
    """Return the keys in which two configs differ: first those that ``config`` sets, in its order.

    Raises:
        ConfigError: a file is missing or no YAML.
    """
    values, others = _values_set_in(config), _values_set_in(baseline)
    differing = (key for key in {**values, **others} if values.get(key) != others.get(key))
    return tuple(key for key in differing if key not in NOT_COMPARED)


@functools.cache
def weights_of(config: str) -> str:
    """Return ``MODEL.WEIGHTS`` as a config or its bases set it; empty where none does.

    Raises:
        ConfigError: a file is missing or no YAML.
    """
    return str(_values_set_in(config).get("MODEL.WEIGHTS", ""))


def _values_set_in(config: str) -> dict[str, Any]:
    """Return the values that a config and its bases set, by dotted key."""
    return {key: value for _, tree in config_chain(config) for key, value in leaves(tree)}
