"""Stages: the steps of an experiment, each with a config, a command, an output folder and a status.

A stage trains a model, stores an RPN's proposals, or evaluates. Its folder is ``output/LEVEL/EXPERIMENT/seedK`` or
lies in it.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from maskrcnn_repro._backend import BACKEND
from maskrcnn_repro._location import CHECKOUT
from maskrcnn_repro.checkpoint.backbone import BACKBONE_FILE
from maskrcnn_repro.config import find_config, load_config
from maskrcnn_repro.data import prepare_data
from maskrcnn_repro.old_names import former_experiments
from maskrcnn_repro.tables.paper.derivation import BACKBONE
from maskrcnn_repro.tables.paper.experiments import Experiment, overlays
from maskrcnn_repro.tables.paper.levels import check_level
from maskrcnn_repro.tables.runs.overlays import check_names
from maskrcnn_repro.tables.runs.records import (
    RESULTS,
    Expected,
    Status,
    evaluation_status,
    identity,
    stores_status,
    training_status,
    write_note,
)

from detectron2.config import CfgNode

WEIGHTS = "model_final.pth"
MASKRCNN = [sys.executable, "-m", "maskrcnn_cli"]
"""The command ``maskrcnn`` of this copy of the package; the one on ``PATH`` may be another's."""
_SCRIPT = CHECKOUT / "train_net.py"
TRAIN_NET = [sys.executable, str(_SCRIPT)] if _SCRIPT.is_file() else [*MASKRCNN, "train"]
STORE_PROPOSALS = [*MASKRCNN, "proposals"]
ALWAYS_OWN = frozenset({"SEED", "OUTPUT_DIR"})
"""Keys that every stage sets itself."""


@dataclass(frozen=True)
class Setting:
    """What all stages of a plan have in common: level, overrides, overlays, output folder and number of GPUs."""

    level: str
    overrides: tuple[str, ...] = ()
    """``KEY VALUE`` pairs, which make it a trial; its runs have a folder of their own."""
    root: Path = Path("output")
    num_gpus: int = 1
    overlays: tuple[Path, ...] = ()
    """The user's YAML files, merged between the level's and ``overrides``; their runs have a folder of their own."""

    def __post_init__(self) -> None:
        check_level(self.level)
        check_names(self.overlays)

    def plain(self) -> Setting:
        """Return the level itself: what is trained in place of published weights is one for all data and trials."""
        return replace(self, overrides=(), overlays=())

    @property
    def label(self) -> str:
        """Name of the folder: the level, the names of overlays, and for a trial a hash of its overrides."""
        parts = [self.level, *(file.stem for file in self.overlays)]
        if self.overrides:
            digest = hashlib.sha256("\0".join(self.overrides).encode()).hexdigest()
            parts += ["trial", digest[:8]]
        return "-".join(parts)

    @property
    def folder(self) -> Path:
        """Folder of all runs and reports."""
        return self.root / self.label

    def experiment_folders(self, experiment: str) -> list[Path]:
        """Return the folders where runs of an experiment may lie: under its name, then under former ones."""
        return [self.folder / name for name in (experiment, *former_experiments(experiment))]

    def run_folder(self, experiment: str, seed: int) -> Path:
        """Return the OUTPUT_DIR of a training: an existing folder, also under a former name, or a new one."""
        folders = [folder / f"seed{seed}" for folder in self.experiment_folders(experiment)]
        return next((folder for folder in folders if folder.is_dir()), folders[0])

    def seeds_there(self, experiment: str) -> list[int]:
        """Return the seeds for which an experiment has run folders, in increasing order."""
        paths = [path for f in self.experiment_folders(experiment) for path in f.glob("seed*")]
        names = {path.name.removeprefix("seed") for path in paths}
        return sorted(int(name) for name in names if name.isdecimal())


@dataclass(frozen=True, eq=False)
class Stage:
    """A training; subclasses are evaluations and the storing of proposals."""

    experiment: Experiment
    seed: int
    setting: Setting
    needs: tuple[Stage, ...] = ()

    @property
    def key(self) -> str:
        """Unique within a plan: ``r50_c4/seed1``."""
        return f"{self.experiment.id}/seed{self.seed}"

    @property
    def title(self) -> str:
        """Name in messages: ``r50_c4 seed 1``."""
        return f"{self.experiment.id} seed {self.seed}"

    @property
    def folder(self) -> Path:
        """Its OUTPUT_DIR."""
        return self.setting.run_folder(self.experiment.id, self.seed)

    @property
    def lock_folder(self) -> Path:
        """Folder that a runner locks while it runs the stage."""
        return self.setting.folder / ".claims" / self.key.replace("/", "-")

    @property
    def stored(self) -> StoreStage | None:
        """The stage whose stored proposals it trains on, if any."""
        return next((need for need in self.needs if isinstance(need, StoreStage)), None)

    @property
    def results(self) -> Path:
        """Its ``results.json``."""
        return self.folder / RESULTS

    @property
    def weights(self) -> Path:
        """What other stages start from: its model, or its backbone alone if it trains no more than that."""
        return self.folder / (BACKBONE_FILE if self.experiment.family == BACKBONE else WEIGHTS)

    @property
    def overwrites(self) -> bool:
        """Whether it may overwrite what another run left in its folder."""
        return False

    @cached_property
    def options(self) -> list[str]:
        """``KEY VALUE`` pairs of the command line."""
        pairs = [*self.experiment.overrides, *self.setting.overrides]
        for need in self.needs:
            if not isinstance(need, StoreStage):
                pairs += ["MODEL.WEIGHTS", str(need.weights)]
        if self.stored:
            datasets = self._build_config(pairs).DATASETS
            for split in ("TRAIN", "TEST"):
                names = datasets[split]
                files = tuple(str(self.stored.store(name)) for name in names)
                pairs += [f"DATASETS.PROPOSAL_FILES_{split}", repr(files)]
        return [*pairs, "SEED", str(self.seed), "OUTPUT_DIR", str(self.folder)]

    @cached_property
    def config(self) -> CfgNode:
        """The config that a run resolves at its start.

        Raises:
            UserError: the config or its data have a mistake.
        """
        cfg = self._build_config(self.options)
        prepare_data(cfg)
        cfg.freeze()
        return cfg

    def command_line(self, *, resume: bool = False) -> list[str]:
        """Return program and arguments."""
        return [*TRAIN_NET, *self.arguments(resume=resume)]

    def arguments(self, *, resume: bool = False, eval_only: bool = False) -> list[str]:
        """Return the arguments of ``train_net.py``."""
        arguments = ["--config-file", str(find_config(self.experiment.config))]
        for overlay in self._overlays:
            arguments += ["--overlay", str(overlay)]
        if self.setting.num_gpus != 1:
            arguments += ["--num-gpus", str(self.setting.num_gpus)]
        arguments += ["--eval-only"] if eval_only else []
        arguments += ["--resume"] if resume else []
        return [*arguments, *self.options]

    @property
    def own_keys(self) -> frozenset[str]:
        """Config keys that the stage sets last, so that a user's value would be overridden."""
        users = len(self.experiment.overrides) + len(self.setting.overrides)
        return frozenset(self.options[users::2])

    def note(self) -> dict[str, Any]:
        """Return the contents of its ``stage.json``: what it is, and the hashes of its inputs."""
        return {
            "experiment": self.experiment.id,
            "seed": self.seed,
            "level": self.setting.label,
            "overrides": list(self.setting.overrides),
            "backend": BACKEND.name,
            "inputs": {need.key: need.identity() for need in self.needs},
            "command": self.command_line(),
        }

    def write_note(self, **more: Any) -> None:
        """Write ``stage.json``, with ``more`` entries; before the stage runs, and after it with its seconds."""
        write_note(self.folder, {**self.note(), **more})

    def identity(self) -> str | None:
        """Return a hash of its results, which tells it from other runs of the same config; None if it is not done."""
        return identity(self.results)

    def status(self) -> Status:
        """Return its status, from the files in its folder.

        Raises:
            UserError: the config or its data have a mistake.
        """
        return training_status(self.folder, self.expected())

    def expected(self) -> Expected:
        """Return the run that its folder should hold."""
        keys = {f"DATASETS.PROPOSAL_FILES_{split}" for split in ("TRAIN", "TEST") if self.stored}
        if any(not isinstance(need, StoreStage) for need in self.needs):
            keys.add("MODEL.WEIGHTS")
        iterations = self.config.SOLVER.MAX_ITER
        return Expected(self.config, self.note(), frozenset(keys), iterations)

    def _build_config(self, options: Sequence[str]) -> CfgNode:
        return load_config(self.experiment.config, options, overlays=self._overlays)

    @property
    def _overlays(self) -> list[Path]:
        return [*overlays(self.experiment, self.setting.level), *self.setting.overlays]


@dataclass(frozen=True, eq=False)
class EvaluationStage(Stage):
    """An evaluation of the model that the training among its needs made.

    Attributes:
        since: results written before this time do not count (ISO 8601, UTC).
    """

    since: str = ""

    @property
    def results(self) -> Path:
        """Its ``results.json``."""
        return self.folder / "inference" / RESULTS

    @property
    def own_keys(self) -> frozenset[str]:
        """Weights and proposals are those of its training, which has taken the user's."""
        return ALWAYS_OWN

    @property
    def overwrites(self) -> bool:
        """Evaluations are cheap, so stale ones are overwritten."""
        return True

    def command_line(self, *, resume: bool = False) -> list[str]:
        """Return program and arguments."""
        return [*TRAIN_NET, *self.arguments(eval_only=True)]

    def status(self) -> Status:
        """Return its status: done, stale or missing; an evaluation is never interrupted."""
        return evaluation_status(self.folder, replace(self.expected(), since=self.since))


@dataclass(frozen=True, eq=False)
class RepeatedEvaluation(EvaluationStage):
    """A repeated evaluation of a finished training, in the training's folder."""

    @classmethod
    def of(cls, trained: Stage, since: str) -> RepeatedEvaluation:
        """Return the repetition of a training's last evaluation, or of a stage that only evaluates."""
        return cls(trained.experiment, trained.seed, trained.setting, trained.needs, since)

    @property
    def key(self) -> str:
        """Unique within a plan."""
        return f"{super().key}/again"

    def command_line(self, *, resume: bool = False) -> list[str]:
        """Return program and arguments; ``resume`` is ignored."""
        # A training resumes, to load the last checkpoint of its folder; an evaluation is given MODEL.WEIGHTS.
        trained = not self.experiment.evaluates
        return [*TRAIN_NET, *self.arguments(eval_only=True, resume=trained)]

    def write_note(self, **more: Any) -> None:
        """Do nothing: the folder's ``stage.json`` is the training's."""


@dataclass(frozen=True, eq=False)
class StoreStage(Stage):
    """The storing of an RPN's proposals; the RPN's training is its only need."""

    @property
    def key(self) -> str:
        """Unique within a plan: ``rpn_r50_c4/seed1/proposals``."""
        return f"{super().key}/proposals"

    @property
    def title(self) -> str:
        """Name in messages: ``rpn_r50_c4 proposals``."""
        return f"{self.experiment.id} proposals"

    @property
    def folder(self) -> Path:
        """Folder with a proposal store for each data set."""
        return super().folder / "proposals"

    @cached_property
    def options(self) -> list[str]:
        """``KEY VALUE`` pairs of the command line."""
        rpn = self.needs[0]
        return [*rpn.options, "MODEL.WEIGHTS", str(rpn.weights)]

    @property
    def own_keys(self) -> frozenset[str]:
        """Its weights are those of the RPN's training, which has taken the user's."""
        return ALWAYS_OWN

    @cached_property
    def config(self) -> CfgNode:
        """The config of the RPN's training."""
        return self.needs[0].config

    def store(self, dataset: str) -> Path:
        """Return the proposal store of a data set."""
        return self.folder / f"{dataset}.proposals"

    def command_line(self, *, resume: bool = False) -> list[str]:
        """Return program and arguments; ``resume`` is ignored, since the program skips finished stores."""
        return [*STORE_PROPOSALS, *self.arguments()]

    def identity(self) -> str | None:
        """Return that of the RPN's training, which determines its proposals."""
        return self.needs[0].identity()

    def status(self) -> Status:
        """Return its status, from the stores in its folder."""
        names = [*self.config.DATASETS.TRAIN, *self.config.DATASETS.TEST]
        return stores_status(self.folder, [self.store(name) for name in names], self.note())


def shell_command(words: Sequence[str]) -> str:
    """Return a command line to be typed in a shell, with paths relative to the current folder."""
    here = os.getcwd() + os.sep
    if list(words[: len(MASKRCNN)]) == MASKRCNN:
        words = ["maskrcnn", *words[len(MASKRCNN) :]]
    elif words[0] == sys.executable:
        words = ["python", *words[1:]]
    return " ".join(_quote(word.removeprefix(here)) for word in words)


def _quote(word: str) -> str:
    # Tuples of names hold single quotes, which shlex.quote would make hard to read.
    plain = "'" in word and not set(word) & set('"$`\\!')
    return f'"{word}"' if plain else shlex.quote(word)
