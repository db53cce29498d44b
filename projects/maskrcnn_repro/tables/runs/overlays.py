"""Checks of a user's overlays: YAML files, such as their own data, that are merged over a level in all stages.

Their names become part of the folder of the runs: ``output/mini-nucleus`` for ``nucleus.yaml``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from maskrcnn_repro.config import keys_in, leaves
from maskrcnn_repro.errors import ConfigError
from maskrcnn_repro.tables.paper.experiments import Experiment, experiment_config
from maskrcnn_repro.tables.paper.levels import LEVELS

if TYPE_CHECKING:
    from maskrcnn_repro.tables.runs.stage import Setting, Stage

TAKEN = (*LEVELS, "trial")
"""Words that names of folders already use."""
_CURES = {
    "SEED": ", by --seed and --seeds",
    "OUTPUT_DIR": ", below the folder of --output",
    "MODEL.WEIGHTS": ", of another training of the plan",
    "DATASETS.PROPOSAL_FILES_TRAIN": ", of the plan's RPN",
    "DATASETS.PROPOSAL_FILES_TEST": ", of the plan's RPN",
}
"""What a stage sets itself, to where it is from."""
_PLAIN_WORD = re.compile(r"[A-Za-z0-9_]+")


def check_names(files: Iterable[Path]) -> None:
    """Check that the overlays' names tell their runs from all others.

    Raises:
        ConfigError: a file name, without its suffix, is no plain word, is one of :data:`TAKEN` or that of two files.
    """
    file_of: dict[str, Path] = {}
    for file in files:
        name = file.stem
        if not _PLAIN_WORD.fullmatch(name):
            raise ConfigError(
                f"--overlay {file}: {name!r} becomes part of a folder's name; give the file a name of letters, "
                "digits and underscores."
            )
        if name in TAKEN:
            raise ConfigError(
                f"--overlay {file}: the name {name!r} is taken; give the file another one than "
                f"{', '.join(TAKEN)}."
            )
        if name in file_of:
            raise ConfigError(
                f"--overlay {file} has the name of {file_of[name]}, {name!r}; rename one of them."
            )
        file_of[name] = file


def check_kept(stages: Iterable[Stage], setting: Setting) -> None:
    """Check that the stages of a plan take what the user sets.

    Raises:
        ConfigError: an override or an overlay sets a key that a stage sets itself.
    """
    places = {key: str(file) for file in setting.overlays for key in keys_in(file)}
    places |= dict.fromkeys(setting.overrides[::2], "command line")
    for stage in stages:
        lost = next((key for key in places if key in stage.own_keys), None)
        if lost:
            raise ConfigError(
                f"{lost} ({places[lost]}) would be lost: {stage.title} has its own{_CURES.get(lost, '')}; leave it out."
            )


def check_keys(files: Iterable[Path], compared: Sequence[Experiment], level: str) -> None:
    """Check that overlays leave the experiments of a table different in the keys that they vary.

    Args:
        files: the overlays.
        compared: the experiments of one table; all exist at the level.
        level: one of :data:`LEVELS`.

    Raises:
        ConfigError: an overlay sets a key in which two of the experiments differ on purpose.
    """
    # The overrides of an experiment that only evaluates come after overlays, so no overlay can undo them.
    trained = [experiment for experiment in compared if not experiment.evaluates]
    varied = tuple({key for experiment in trained for key in experiment.varies})
    for file in files:
        for key in keys_in(file):
            if not key.startswith(varied):
                continue
            values = {
                experiment.id: dict(leaves(experiment_config(experiment, level))).get(key)
                for experiment in compared
            }
            first, *others = values
            for other in others:
                if values[other] != values[first]:
                    raise ConfigError(
                        f"--overlay {file} sets {key}, in which {first} and {other} differ "
                        f"({values[first]!r}, {values[other]!r}); leave the key out of the file and of its "
                        "_BASE_."
                    )
