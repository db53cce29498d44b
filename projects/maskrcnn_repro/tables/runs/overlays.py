"""Overlays of the user's own: YAML files over a level's, such as data of their own, for all stages of a plan.

Their names tell the runs made with them from all others: ``output/mini-nucleus`` for ``nucleus.yaml``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from maskrcnn_repro.config import keys_in, leaves
from maskrcnn_repro.errors import ConfigError
from maskrcnn_repro.tables.paper.experiments import LEVELS, Experiment, experiment_config

TAKEN = (*LEVELS, "trial")
"""Words that stand in the names of runs' folders already."""
_PLAIN = re.compile(r"[A-Za-z0-9_]+")


def check_names(files: Iterable[Path]) -> None:
    """Check that runs can be told by the names of the overlays that they were made with.

    Raises:
        ConfigError: a name, without its ending, is no plain word, is taken, or is that of two files.
    """
    known: dict[str, Path] = {}
    for file in files:
        name = file.stem
        if not _PLAIN.fullmatch(name):
            raise ConfigError(
                f"--overlay {file}: {name!r} becomes part of a folder's name; give the file a name of letters, "
                "digits and underscores."
            )
        if name in TAKEN:
            raise ConfigError(
                f"--overlay {file}: the name {name!r} is taken; give the file another one than "
                f"{', '.join(TAKEN)}."
            )
        if name in known:
            raise ConfigError(
                f"--overlay {file} has the name of {known[name]}, {name!r}; rename one of them."
            )
        known[name] = file


def check_keys(files: Iterable[Path], compared: Sequence[Experiment], level: str) -> None:
    """Check that experiments still differ in what they vary when overlays lie over all of them.

    Args:
        files: the overlays.
        compared: the experiments of one table; the level has them.
        level: one of :data:`LEVELS`.

    Raises:
        ConfigError: a file sets a key in which some of them differ on purpose.
    """
    # What an evaluation varies is laid over everything.
    varied = tuple({key for one in compared if not one.evaluates for key in one.varies})
    for file in files:
        for key in keys_in(file):
            if not key.startswith(varied):
                continue
            values = {
                one.id: dict(leaves(experiment_config(one, level))).get(key) for one in compared
            }
            first, *others = values
            for other in others:
                if values[other] != values[first]:
                    raise ConfigError(
                        f"--overlay {file} sets {key}, in which {first} and {other} differ "
                        f"({values[first]!r}, {values[other]!r}); leave the key out of the file and of its "
                        "_BASE_."
                    )
