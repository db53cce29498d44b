"""Experiments: what is trained or evaluated, and the stages that lead there.

A row of the paper's tables points to an experiment; several rows may be one experiment. The data lie in
``data/experiments.yaml``.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from maskrcnn_repro.config import configs_folder, load_config
from maskrcnn_repro.errors import TableError
from maskrcnn_repro.tables.paper.data_file import FOLDER, Node, look_up, missing, read_data

from detectron2.config import CfgNode

LEVELS = ("paper", "mini")
"""Sizes at which experiments run: the paper's, or minutes on a CPU with generated data."""

# What may change between training and an experiment that only evaluates (`evaluates`).
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


@dataclass(frozen=True)
class Experiment:
    """One thing that is trained, or evaluated in another way.

    Attributes:
        id: its name, also of its output folder.
        config: path below ``configs/``.
        family: which overlay of a level fits it: c4, c5, fpn, keypoint, cityscapes.
        baseline: id of the experiment that it is compared with; None for a root.
        varies: config keys, or their prefixes, in which it differs from the baseline, and no others.
        proposals: id of the RPN experiment whose stored proposals it is trained and tested on; None for an
            RPN and for joint training.
        init: id of the experiment whose weights it starts from; None for the config's ``MODEL.WEIGHTS``.
        evaluates: id of the experiment whose trained model this one evaluates, without training.
        overrides: config keys and values in turn, as on the command line; only with ``evaluates``, and
            only of what matters at test time.
        cost: what its training takes at the paper's sizes, in words; empty if that is not known.
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

    @property
    def is_rpn(self) -> bool:
        """Whether it is a region proposal network alone: its config lies in a folder ``rpn``."""
        return Path(self.config).parent.name == "rpn"


def experiments() -> Mapping[str, Experiment]:
    """Return all experiments by id, each behind those that it refers to.

    Raises:
        TableError: the data are wrong.
    """
    return _read()


def find_experiment(name: str) -> Experiment:
    """Return an experiment by id.

    Raises:
        TableError: there is none of that id.
    """
    return look_up(experiments(), name, "Experiment")


def stages(experiment: Experiment) -> tuple[Experiment, ...]:
    """Return what must run for ``experiment``, in order, itself last."""
    found: dict[str, Experiment] = {}
    for name in (experiment.proposals, experiment.init, experiment.evaluates):
        if name is not None:
            found.update((one.id, one) for one in stages(find_experiment(name)))
    return (*found.values(), experiment)


def experiment_config(experiment: Experiment, level: str = "paper") -> CfgNode:
    """Return the config of an experiment at a level.

    Stored proposals and the weights of other stages are not in it: their place depends on the run.

    Raises:
        TableError: the level does not exist, or not for this family.
        ConfigError: the config is wrong.
    """
    return load_config(
        experiment.config, experiment.overrides, overlays=overlays(experiment, level)
    )


def overlays(experiment: Experiment, level: str) -> list[Path]:
    """Return the YAML files that a level lays over the config of an experiment.

    First that of its family, ``configs/levels/mini_c4.yaml``; then that of the folder of its config, if
    there is one (``configs/levels/mini/rpn.yaml``); then, where the experiment varies what the family's
    overlay sets (depth, schedule), one of its own, ``configs/levels/mini/r101-c4.yaml``.

    Raises:
        TableError: the level does not exist, or not for this family.
    """
    if level not in LEVELS:
        raise TableError(f"{missing(LEVELS, level, 'Level')} There are {', '.join(LEVELS)}.")
    if level == "paper":
        return []
    folder = configs_folder() / "levels"
    path = folder / f"{level}_{experiment.family}.yaml"
    if not path.is_file():
        there = [p.stem.removeprefix(f"{level}_") for p in sorted(folder.glob(f"{level}_*.yaml"))]
        raise TableError(
            f"Level {level!r} has no overlay for experiments of family {experiment.family!r} ({path.name} is "
            f"missing). It has {', '.join(there) or 'none at all'}."
        )
    names = (Path(experiment.config).parent.name, experiment.evaluates or experiment.id)
    more = [folder / level / f"{name}.yaml" for name in names]
    return [path, *(one for one in more if one.is_file())]


@functools.cache
def _read() -> Mapping[str, Experiment]:
    return parse_experiments(read_data(FOLDER / "experiments.yaml"))


def parse_experiments(top: Node) -> Mapping[str, Experiment]:
    """Return the experiments of a file like ``experiments.yaml``.

    Raises:
        TableError: a key or type is wrong, one refers to an experiment that does not stand above it, or an
            evaluation overrides what matters in training.
    """
    found: dict[str, Experiment] = {}
    costs = top.maybe("costs", dict) or {}
    for name, node in top.node("experiments").nodes():
        found[name] = replace(_experiment(name, node, found), cost=str(costs.pop(name, "")))
    if costs:
        raise TableError(f"{top.place}: costs: {missing(found, next(iter(costs)), 'experiment')}")
    return MappingProxyType(found)


def _experiment(name: str, node: Node, before: Mapping[str, Experiment]) -> Experiment:
    evaluates = node.maybe("evaluates", str)
    trained = None if evaluates is None else _earlier(before, evaluates, node)
    changed = _overrides(node) if trained else ()
    made = Experiment(
        id=name,
        config=trained.config if trained else node.take("config", str),
        family=trained.family if trained else node.take("family", str),
        baseline=trained.id if trained else node.maybe("baseline", str),
        varies=changed[::2] if trained else node.names("varies"),
        proposals=trained.proposals if trained else node.maybe("proposals", str),
        init=None if trained else node.maybe("init", str),
        evaluates=evaluates,
        overrides=changed,
    )
    for other in (made.baseline, made.proposals, made.init):
        if other is not None:
            _earlier(before, other, node)
    node.end()
    return made


def _earlier(before: Mapping[str, Experiment], name: str, node: Node) -> Experiment:
    if name not in before:
        raise TableError(
            f"{node.place}: {missing(before, name, 'experiment')} It must stand above."
        )
    return before[name]


def _overrides(node: Node) -> tuple[str, ...]:
    pairs: list[str] = []
    for key, value in node.node("overrides").rest().items():
        if not str(key).startswith(TEST_TIME_KEYS):
            raise TableError(
                f"{node.place}: overrides change {key}, which matters in training; give the experiment "
                f"a config of its own. Allowed are {', '.join(TEST_TIME_KEYS)}."
            )
        pairs += [str(key), str(value)]
    return tuple(pairs)
