"""Stages: the steps of an experiment, each one process with a folder, a command and a state.

A stage trains, stores an RPN's proposals, or evaluates; its folder is ``output/LEVEL/EXPERIMENT/seedK`` or lies
in it.
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
from maskrcnn_repro.config import find_config, load_config
from maskrcnn_repro.data import prepare_data
from maskrcnn_repro.old_names import former_experiments
from maskrcnn_repro.tables.paper.data_file import look_up
from maskrcnn_repro.tables.paper.experiments import LEVELS, Experiment, overlays
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
"""``maskrcnn`` of this very copy, which need not be the one on ``PATH``."""
_SCRIPT = CHECKOUT / "train_net.py"
TRAIN_NET = [sys.executable, str(_SCRIPT)] if _SCRIPT.is_file() else [*MASKRCNN, "train"]
STORE_PROPOSALS = [*MASKRCNN, "proposals"]


@dataclass(frozen=True)
class Setting:
    """What all runs of a plan have in common."""

    level: str
    overrides: tuple[str, ...] = ()
    """``KEY VALUE`` pairs of a trial; its runs have folders of their own."""
    root: Path = Path("output")
    num_gpus: int = 1
    overlays: tuple[Path, ...] = ()
    """YAML files over the level's, below ``overrides``; runs made with them have folders of their own."""

    def __post_init__(self) -> None:
        look_up(dict.fromkeys(LEVELS), self.level, "Level")
        check_names(self.overlays)

    @property
    def label(self) -> str:
        """The level, then the names of overlays, then for trials a hash of what they override."""
        parts = [self.level, *(file.stem for file in self.overlays)]
        if self.overrides:
            digest = hashlib.sha256("\0".join(self.overrides).encode()).hexdigest()
            parts += ["trial", digest[:8]]
        return "-".join(parts)

    @property
    def folder(self) -> Path:
        """Where all runs and reports go."""
        return self.root / self.label

    def experiment_folders(self, experiment: str) -> list[Path]:
        """Return where the runs of an experiment lie: under its name, then under former ones."""
        return [self.folder / name for name in (experiment, *former_experiments(experiment))]

    def run_folder(self, experiment: str, seed: int) -> Path:
        """OUTPUT_DIR of a training; a run that was made under a former name stays where it is."""
        folders = [folder / f"seed{seed}" for folder in self.experiment_folders(experiment)]
        return next((folder for folder in folders if folder.is_dir()), folders[0])

    def seeds_there(self, experiment: str) -> list[int]:
        """Return the seeds of which there are run folders of an experiment, in order."""
        paths = [path for f in self.experiment_folders(experiment) for path in f.glob("seed*")]
        names = {path.name.removeprefix("seed") for path in paths}
        return sorted(int(name) for name in names if name.isdecimal())


@dataclass(frozen=True, eq=False)
class Stage:
    """A training, or the storing of an RPN's proposals."""

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
        """For people: ``r50_c4 seed 1``."""
        return f"{self.experiment.id} seed {self.seed}"

    @property
    def folder(self) -> Path:
        """What it writes into."""
        return self.setting.run_folder(self.experiment.id, self.seed)

    @property
    def claim(self) -> Path:
        """Folder whose lock says that a runner has the stage."""
        return self.setting.folder / ".claims" / self.key.replace("/", "-")

    @property
    def stored(self) -> StoreStage | None:
        """The stage whose proposals it trains on."""
        return next((need for need in self.needs if isinstance(need, StoreStage)), None)

    @property
    def results(self) -> Path:
        """Its ``results.json``."""
        return self.folder / RESULTS

    @property
    def replaces(self) -> bool:
        """Whether it may be run over a folder that holds something else."""
        return False

    @cached_property
    def options(self) -> list[str]:
        """``KEY VALUE`` pairs of the command line."""
        pairs = [*self.experiment.overrides, *self.setting.overrides]
        for need in self.needs:
            if not isinstance(need, StoreStage):
                pairs += ["MODEL.WEIGHTS", str(need.folder / WEIGHTS)]
        if self.stored:
            datasets = self._configured(pairs).DATASETS
            for split in ("TRAIN", "TEST"):
                names = datasets[split]
                files = tuple(str(self.stored.store(name)) for name in names)
                pairs += [f"DATASETS.PROPOSAL_FILES_{split}", repr(files)]
        return [*pairs, "SEED", str(self.seed), "OUTPUT_DIR", str(self.folder)]

    @cached_property
    def config(self) -> CfgNode:
        """The config as a run resolves it at its start.

        Raises:
            UserError: of the config or of the data.
        """
        cfg = self._configured(self.options)
        prepare_data(cfg)
        cfg.freeze()
        return cfg

    def command_line(self, *, resume: bool = False) -> list[str]:
        """Return program and arguments."""
        return [*TRAIN_NET, *self.arguments(resume=resume)]

    def arguments(self, *, resume: bool = False, eval_only: bool = False) -> list[str]:
        """Return the arguments of ``train_net.py``."""
        words = ["--config-file", str(find_config(self.experiment.config))]
        for overlay in self._overlays:
            words += ["--overlay", str(overlay)]
        if self.setting.num_gpus != 1:
            words += ["--num-gpus", str(self.setting.num_gpus)]
        words += ["--eval-only"] if eval_only else []
        words += ["--resume"] if resume else []
        return [*words, *self.options]

    def note(self) -> dict[str, Any]:
        """Return what :func:`write_note` keeps in the folder."""
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
        """Write the note: before the stage is run, and again, with what it took, after it."""
        write_note(self.folder, {**self.note(), **more})

    def identity(self) -> str | None:
        """Return what tells this run from another of the same config; None if it is not done."""
        return identity(self.results)

    def status(self) -> Status:
        """Look how far it is.

        Raises:
            UserError: of the config or of the data.
        """
        return training_status(self.folder, self.expected())

    def expected(self) -> Expected:
        """Return what its folder should have been made with."""
        keys = {f"DATASETS.PROPOSAL_FILES_{split}" for split in ("TRAIN", "TEST") if self.stored}
        if any(not isinstance(need, StoreStage) for need in self.needs):
            keys.add("MODEL.WEIGHTS")
        iterations = self.config.SOLVER.MAX_ITER
        return Expected(self.config, self.note(), frozenset(keys), iterations)

    def _configured(self, options: Sequence[str]) -> CfgNode:
        return load_config(self.experiment.config, options, overlays=self._overlays)

    @property
    def _overlays(self) -> list[Path]:
        return [*overlays(self.experiment, self.setting.level), *self.setting.overlays]


@dataclass(frozen=True, eq=False)
class EvaluationStage(Stage):
    """Another evaluation of the model of the training among its needs.

    Attributes:
        since: older results do not count (ISO 8601, UTC).
    """

    since: str = ""

    @property
    def results(self) -> Path:
        """Its ``results.json``."""
        return self.folder / "inference" / RESULTS

    @property
    def replaces(self) -> bool:
        """An evaluation is soon made again."""
        return True

    def command_line(self, *, resume: bool = False) -> list[str]:
        """Return program and arguments."""
        return [*TRAIN_NET, *self.arguments(eval_only=True)]

    def status(self) -> Status:
        """Look how far it is."""
        return evaluation_status(self.folder, replace(self.expected(), since=self.since))


@dataclass(frozen=True, eq=False)
class RepeatedEvaluation(EvaluationStage):
    """The evaluation of a finished training once more, in the training's folder."""

    @classmethod
    def of(cls, trained: Stage, since: str) -> RepeatedEvaluation:
        """Return the repetition for a training, or for an evaluation of one."""
        return cls(trained.experiment, trained.seed, trained.setting, trained.needs, since)

    @property
    def key(self) -> str:
        """Unique within a plan."""
        return f"{super().key}/again"

    def command_line(self, *, resume: bool = False) -> list[str]:
        """Return program and arguments: the last checkpoint of the folder, or the weights evaluated."""
        own = not self.experiment.evaluates
        return [*TRAIN_NET, *self.arguments(eval_only=True, resume=own)]

    def write_note(self, **more: Any) -> None:
        """Leave the training's note as it is."""


@dataclass(frozen=True, eq=False)
class StoreStage(Stage):
    """Storing the proposals of the RPN that is its one need."""

    @property
    def key(self) -> str:
        """Unique within a plan: ``rpn_r50_c4/seed1/proposals``."""
        return f"{super().key}/proposals"

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.experiment.id} proposals"

    @property
    def folder(self) -> Path:
        """Holds one store for each data set."""
        return super().folder / "proposals"

    @cached_property
    def options(self) -> list[str]:
        """``KEY VALUE`` pairs of the command line."""
        rpn = self.needs[0]
        weights = ["MODEL.WEIGHTS", str(rpn.folder / WEIGHTS)]
        return [*rpn.options, *weights]

    @cached_property
    def config(self) -> CfgNode:
        """The RPN's config."""
        return self.needs[0].config

    def store(self, dataset: str) -> Path:
        """Return where the proposals for a data set lie."""
        return self.folder / f"{dataset}.proposals"

    def command_line(self, *, resume: bool = False) -> list[str]:
        """Return program and arguments; finished stores are skipped by the program."""
        return [*STORE_PROPOSALS, *self.arguments()]

    def identity(self) -> str | None:
        """Return the RPN's: its proposals follow from it."""
        return self.needs[0].identity()

    def status(self) -> Status:
        """Look how far it is."""
        names = [*self.config.DATASETS.TRAIN, *self.config.DATASETS.TEST]
        return stores_status(self.folder, [self.store(name) for name in names], self.note())


def shown(words: Sequence[str]) -> str:
    """Return a command as a person types it: paths below the current folder are relative."""
    here = os.getcwd() + os.sep
    if list(words[: len(MASKRCNN)]) == MASKRCNN:
        words = ["maskrcnn", *words[len(MASKRCNN) :]]
    elif words[0] == sys.executable:
        words = ["python", *words[1:]]
    return " ".join(_quoted(word.removeprefix(here)) for word in words)


def _quoted(word: str) -> str:
    # Tuples of names hold single quotes, which shlex would take apart.
    plain = "'" in word and not set(word) & set('"$`\\!')
    return f'"{word}"' if plain else shlex.quote(word)
