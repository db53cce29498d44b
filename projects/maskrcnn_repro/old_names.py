"""Former names of experiments and configs: each answers, silently, wherever a name is read.

The names are data, ``old_names.yaml``.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

from maskrcnn_repro._location import PACKAGE

import yaml


def current_experiment(name: str) -> str:
    """Return today's name of an experiment; a name that is no former one stays as it is."""
    return _names()["experiments"].get(name, name)


def former_experiments(name: str) -> list[str]:
    """Return the names that an experiment of today had before."""
    return [former for former, current in _names()["experiments"].items() if current == name]


def current_config(name: str) -> str:
    """Return today's name of a config below ``configs/``; one that is no former name stays as it is."""
    return _names()["configs"].get(name, name)


@functools.cache
def _names() -> Mapping[str, Mapping[str, str]]:
    tree = yaml.safe_load((PACKAGE / "old_names.yaml").read_text(encoding="utf-8"))
    return {kind: dict(names) for kind, names in tree.items()}
