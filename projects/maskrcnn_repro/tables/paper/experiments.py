"""Experiments: which models are trained or evaluated, on what they build, and their configs at each level.

A row of the paper's tables names an experiment; several rows may share one. ``data/experiments.yaml`` lists them;
what a config already says is read from it (:mod:`derivation`). Plug-ins bring further ones (:mod:`additions`).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from maskrcnn_repro.config import configs_folder, find_config, load_config
from maskrcnn_repro.errors import TableError, listing
from maskrcnn_repro.old_names import current_experiment
from maskrcnn_repro.tables.paper.data_file import FOLDER, Node, describe_missing, look_up, read_data
from maskrcnn_repro.tables.paper.derivation import (
    BACKBONE,
    FAMILIES,
    base_of,
    config_of,
    family_of,
    varied_keys,
    weights_of,
)
from maskrcnn_repro.tables.paper.levels import (
    LEVELS,
    backbone_in_place_of,
    backbone_names,
    check_level,
)

from detectron2.config import CfgNode

SHORTENED_AT = "mini"
"""Level of trainings with fewer iterations: how many take as long as another training depends on the sizes."""
TEST_TIME_KEYS = (
    "TEST.",
    "INPUT.MIN_SIZE_TEST",
    "INPUT.MAX_SIZE_TEST",
    "MODEL.ROI_HEADS.NMS_THRESH_TEST",
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST",
    "MODEL.ROI_MASK_HEAD.SOFTMAX_INFERENCE",
    "DATASETS.TEST",
    "DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TEST",
)
"""Beginnings of the keys that an experiment that only evaluates may override."""


@dataclass(frozen=True)
class Experiment:
    """A model to train, or another evaluation of a trained one.

    Attributes:
        id: its name, also of its output folder: ``FOLDER_STEM`` of its config, without the folder for
            ``coco``; with ``evaluates``, the name of what it evaluates and a suffix.
        config: path below ``configs/``; of a plug-in's, the whole path.
        family: one of :data:`~derivation.FAMILIES`, a level has an overlay for each; or ``backbone``.
        baseline: id of the experiment that it is compared with; None without one.
        varies: all config keys in which it differs from the baseline.
        proposals: id of the RPN experiment whose stored proposals it is trained and tested on; None for an
            RPN and for joint training.
        init: id of the experiment whose weights it starts from; None for the config's ``MODEL.WEIGHTS``.
        evaluates: id of the experiment whose trained model this one evaluates, without training.
        overrides: ``KEY VALUE`` pairs, as on the command line; with ``evaluates`` only :data:`TEST_TIME_KEYS`, with
            ``shortens`` the number of iterations.
        cost: how long its training takes at the paper's sizes, in words; empty if untaken.
        levels: of a plug-in's, pairs of a level and the path of an overlay of its own there.
        shortens: id of the experiment that it repeats with fewer iterations, at level :data:`SHORTENED_AT`.
    """

    id: str
    config: str
    family: str
    baseline: str | None = None
    varies: tuple[str, ...] = ()
    proposals: str | None = None
    init: str | None = None
    evaluates: str | None = None
    overrides: tuple[str, ...] = ()
    cost: str = ""
    levels: tuple[tuple[str, str], ...] = ()
    shortens: str | None = None

    @property
    def is_rpn(self) -> bool:
        """Whether it trains a region proposal network alone: its config lies in a folder ``rpn``."""
        return Path(self.config).parent.name == "rpn"

    @property
    def is_shared(self) -> bool:
        """Whether it is trained once for all seeds of what needs it: an RPN, or a backbone on its own."""
        return self.is_rpn or self.family == BACKBONE


ADDED: dict[str, Experiment] = {}
"""Those of plug-ins by id, see :mod:`additions`."""


@functools.cache
def experiments() -> Mapping[str, Experiment]:
    """Return all experiments by id, each after those that it refers to.

    Raises:
        TableError: ``experiments.yaml`` has a mistake.
    """
    return parse_experiments(read_data(FOLDER / "experiments.yaml"))


@functools.cache
def backbones() -> Mapping[str, Experiment]:
    """Return the trainings of backbones that levels have in place of published weights, by id.

    Raises:
        TableError: ``levels.yaml`` has a mistake, or a backbone has no config.
    """
    return MappingProxyType(
        {name: Experiment(name, config_of(name), BACKBONE) for name in backbone_names()}
    )


def all_experiments() -> Mapping[str, Experiment]:
    """Return the paper's experiments, the backbones of levels, then the experiments of registered tables, by id.

    Raises:
        TableError: ``experiments.yaml`` or ``levels.yaml`` has a mistake.
    """
    return {**experiments(), **backbones(), **ADDED}


def find_experiment(name: str) -> Experiment:
    """Return an experiment, the paper's or a registered one, by id, by a former one, or by the path of its config.

    Raises:
        TableError: there is no such experiment.
        ConfigError: the path leads to no config.
    """
    if name.endswith(".yaml"):
        file = find_config(name).resolve()
        trained = [item for item in all_experiments().values() if not item.evaluates]
        ids = [item.id for item in trained if (configs_folder() / item.config).resolve() == file]
        if not ids:
            raise TableError(f"Config {name!r} is of no experiment; maskrcnn list names them all.")
        return all_experiments()[ids[0]]
    return look_up(all_experiments(), current_experiment(name), "Experiment")


def backbone_of(experiment: Experiment, level: str) -> Experiment | None:
    """Return the training of the backbone that an experiment has at a level; None where the level trains none.

    The experiment starts from its weights, unless from those of an experiment, and it has its widths.

    Raises:
        TableError: the level has no backbone in place of the weights that the config names.
    """
    if experiment.family == BACKBONE:
        return None
    name = backbone_in_place_of(weights_of(experiment.config), level)
    return backbones()[name] if name else None


def required_experiments(experiment: Experiment) -> tuple[Experiment, ...]:
    """Return the experiments that must run for ``experiment``, in order, itself last."""
    required: dict[str, Experiment] = {}
    for name in (experiment.proposals, experiment.init, experiment.evaluates):
        if name is not None:
            required.update((item.id, item) for item in required_experiments(find_experiment(name)))
    return (*required.values(), experiment)


def experiment_config(experiment: Experiment, level: str = "paper") -> CfgNode:
    """Return the config of an experiment at a level.

    Paths of stored proposals and of other experiments' weights are not set: they depend on the run.

    Raises:
        TableError: the level does not exist, or has no overlay for this family.
        ConfigError: the config has a mistake.
    """
    return load_config(
        experiment.config, experiment.overrides, overlays=overlays(experiment, level)
    )


def overlays(experiment: Experiment, level: str) -> list[Path]:
    """Return the YAML files that a level merges over the config of an experiment, in order; none over a backbone's.

    That of its family, ``configs/mini/level/c4.yaml``; ``rpn.yaml`` for a region proposal network; that of the backbone
    from which it starts there, ``configs/small/level/backbone_r50.yaml``; and, where the experiment varies what the
    family's overlay sets (schedule), one of its own name, ``configs/mini/level/x101_fpn_180k.yaml``.

    Raises:
        TableError: the level does not exist, or has no overlay for this family or these weights.
    """
    check_level(level)
    if experiment.shortens and level != SHORTENED_AT:
        raise TableError(
            f"Experiment {experiment.id!r} has its number of iterations at level {SHORTENED_AT} alone."
        )
    if experiment.family == BACKBONE:
        if experiment.id not in backbone_names(level):
            there = [name for name in LEVELS if experiment.id in backbone_names(name)]
            raise TableError(
                f"Level {level!r} trains no backbone {experiment.id!r}; choose --level {' or '.join(there)}."
            )
        return []
    own = [Path(file) for name, file in experiment.levels if name == level]
    if level == "paper":
        return own
    if experiment.levels and not own:
        raise TableError(
            f"Experiment {experiment.id!r} has overlays of its own for level "
            f"{listing(name for name, _ in experiment.levels)}, but none for {level!r}."
        )
    backbone = backbone_of(experiment, level)
    folder = configs_folder() / level / "level"
    path = folder / f"{experiment.family}.yaml"
    if not path.is_file():
        families = [name for name in FAMILIES if (folder / f"{name}.yaml").is_file()]
        raise TableError(
            f"Level {level!r} has no overlay for experiments of family {experiment.family!r} ({path.name} is "
            f"missing). It has {', '.join(families) or 'none at all'}."
        )
    names = [*(["rpn"] if experiment.is_rpn else []), *([backbone.id] if backbone else [])]
    names.append(experiment.evaluates or experiment.shortens or experiment.id)
    optional = [folder / f"{name}.yaml" for name in names]
    return [path, *(file for file in optional if file.is_file()), *own]


def parse_experiments(
    top: Node, earlier: Mapping[str, Experiment] | None = None, folder: Path | None = None
) -> Mapping[str, Experiment]:
    """Return the experiments of a file like ``experiments.yaml``.

    Args:
        top: the file.
        earlier: other experiments that these may refer to, and whose names are taken.
        folder: of a plug-in's file: each training names its ``config`` there; the config of one of the paper's
            follows from its name.

    Raises:
        TableError: a key or type is wrong, an experiment refers to one that does not stand above it or that has no
            weights of its own, or an evaluation overrides a key that matters in training.
    """
    taken = dict(earlier or {})
    parsed: dict[str, Experiment] = {}
    costs = top.maybe("costs", dict) or {}
    for name, node in top.node("experiments").nodes():
        if name in taken:
            raise TableError(f"{node.place} exists already; choose another name.")
        if "evaluates" in node:
            experiment = _parse_evaluation(name, node, taken)
        elif "shortens" in node:
            experiment = _parse_shortened(name, node, taken)
        else:
            config = _own_file(node, "config", folder) if folder else config_of(name)
            experiment = _parse_training(name, config, node, taken)
        levels = _parse_levels(node, folder) if folder and "levels" in node else experiment.levels
        cost = str(costs.pop(name, ""))
        parsed[name] = taken[name] = replace(experiment, cost=cost, levels=levels)
        node.end()
    if costs:
        raise TableError(
            f"{top.place}: costs: {describe_missing(parsed, next(iter(costs)), 'experiment')}"
        )
    return MappingProxyType(parsed)


def _own_file(node: Node, key: str, folder: Path) -> str:
    """Return the whole path of a config that a plug-in's file names, from its own folder."""
    name = node.take(key, str)
    path = (folder / name).resolve()
    if not path.is_file():
        raise TableError(f"{node.place}: {key} {name!r} does not exist in {folder}.")
    return str(path)


def _parse_levels(node: Node, folder: Path) -> tuple[tuple[str, str], ...]:
    files = node.node("levels")
    pairs = tuple((name, _own_file(files, name, folder)) for name in LEVELS if name in files)
    files.end()
    return pairs


def _parse_training(
    name: str, config: str, node: Node, earlier: Mapping[str, Experiment]
) -> Experiment:
    references: dict[str, Any] = {
        key: node.maybe(key, str) for key in ("baseline", "proposals", "init")
    }
    for key, reference in references.items():
        if reference and _find_earlier(earlier, reference, node).evaluates and key != "baseline":
            raise TableError(
                f"{node.place}: {key} {reference!r} only evaluates {earlier[reference].evaluates!r} and has no weights; "
                "name a training."
            )
    trained = {
        other.config: other.id
        for other in earlier.values()
        if not other.evaluates and not other.shortens
    }
    base = base_of(config, trained)
    baseline = references["baseline"] or (trained[base] if base else None)
    varies = varied_keys(config, earlier[baseline].config) if baseline else ()
    references |= {"baseline": baseline}
    return Experiment(name, config, family_of(config), varies=varies, **references)


def _parse_evaluation(name: str, node: Node, earlier: Mapping[str, Experiment]) -> Experiment:
    trained = _find_whole_training("evaluates", node, earlier)
    if not name.startswith(f"{trained.id}_"):
        raise TableError(
            f"{node.place} evaluates {trained.id}; its name must be that with a suffix, {trained.id}_SUFFIX."
        )
    overrides = _parse_overrides(node)
    return replace(
        trained,
        id=name,
        baseline=trained.id,
        varies=overrides[::2],
        init=None,
        evaluates=trained.id,
        overrides=overrides,
    )


def _parse_shortened(name: str, node: Node, earlier: Mapping[str, Experiment]) -> Experiment:
    whole = _find_whole_training("shortens", node, earlier)
    iterations = node.take("iterations", int)
    if iterations < 1:
        raise TableError(f"{node.place}: iterations must be at least 1, not {iterations}.")
    overrides = ("SOLVER.MAX_ITER", str(iterations))
    return replace(
        whole,
        id=name,
        baseline=whole.id,
        varies=overrides[:1],
        overrides=overrides,
        shortens=whole.id,
    )


def _find_whole_training(key: str, node: Node, earlier: Mapping[str, Experiment]) -> Experiment:
    """Return the experiment that a key names, which neither evaluates nor shortens another one."""
    whole = _find_earlier(earlier, node.take(key, str), node)
    if other := whole.evaluates or whole.shortens:
        raise TableError(
            f"{node.place} {key} {whole.id}, which is no whole training; name {other}."
        )
    return whole


def _find_earlier(earlier: Mapping[str, Experiment], name: str, node: Node) -> Experiment:
    if name not in earlier:
        raise TableError(
            f"{node.place}: {describe_missing(earlier, name, 'experiment')} It must stand above."
        )
    return earlier[name]


def _parse_overrides(node: Node) -> tuple[str, ...]:
    pairs: list[str] = []
    for key, value in node.node("overrides").rest().items():
        if not str(key).startswith(TEST_TIME_KEYS):
            raise TableError(
                f"{node.place}: overrides change {key}, which matters in training; give the experiment "
                f"a config of its own. Allowed are {', '.join(TEST_TIME_KEYS)}."
            )
        pairs += [str(key), str(value)]
    return tuple(pairs)
