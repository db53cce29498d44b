"""Whether a training may go on from a checkpoint: what its config, classes and data were, and what they are now.

``resume_rules.yaml`` says of every key whether a difference is free, told in a line, or refused. A refused one
is accepted by name (``--accept-change KEY``); config, checkpoints and results then list it.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskrcnn_repro._backend import BACKEND
from maskrcnn_repro._location import PACKAGE
from maskrcnn_repro.checkpoint.checkpointer import facts_in
from maskrcnn_repro.checkpoint.folder import CheckpointFolder
from maskrcnn_repro.checkpoint.model_file import labels_of
from maskrcnn_repro.checkpoint.weight_file import local_file, read_outline
from maskrcnn_repro.config import get_config, leaves
from maskrcnn_repro.config_history import spelled_today
from maskrcnn_repro.errors import CheckpointError, ConfigError, did_you_mean, listing, shorten
from maskrcnn_repro.utils.provenance import config_hash, data_origin

import yaml
from detectron2.config import CfgNode
from detectron2.utils import comm

logger = logging.getLogger(__name__)
CLASS_NAMES, TRAIN_DATA, PROCESSES = "CLASS_NAMES", "TRAIN_DATA", "PROCESSES"
BESIDE_CONFIG = (CLASS_NAMES, TRAIN_DATA, "BACKEND", PROCESSES)
"""What is compared beside the keys of the config."""
Values = dict[str, Any]
"""By config key, and by the names of :data:`BESIDE_CONFIG`."""


@dataclass(frozen=True)
class Difference:
    """A key whose value is no longer that of the checkpoint."""

    key: str
    before: Any
    now: Any
    rule: str
    """``free``, ``told`` or ``refused``."""

    def __str__(self) -> str:
        if self.key == CLASS_NAMES:
            return f"{self.key} {_difference_of_names(self.before, self.now)}"
        return f"{self.key} was {shorten(self.before)} and is {shorten(self.now)}"


def facts_of(cfg: CfgNode) -> dict[str, Any]:
    """Return what a checkpoint tells of its run, as plain values."""
    return {
        "config": spelled_today(cfg),
        "config_sha256": config_hash(cfg),
        **labels_of(cfg.DATASETS.TRAIN, stuff=cfg.DATASETS.WITH_SEM_SEG).facts(),
        "backend": str(BACKEND),
        "data": {name: data_origin(name)["sha256"] for name in cfg.DATASETS.TRAIN},
        "processes": comm.get_world_size(),
        "accepted_changes": list(cfg.ACCEPTED_CHANGES),
    }


def names_of(datasets: Sequence[str]) -> list[str]:
    """Return the classes of the first of several registered data sets; empty if it tells none."""
    return list(labels_of(datasets).class_names)


def settle_config(cfg: CfgNode, folder: Path | None, path: Path | None) -> CfgNode:
    """Return the config with which a training goes on, or with which a new one begins.

    SEED -1 is the checkpoint's seed. Differences are told in a line each.

    Args:
        cfg: resolved; ``ACCEPTED_CHANGES`` names the keys that may differ.
        folder: OUTPUT_DIR of the training that goes on; None for a new one.
        path: the checkpoint that it goes on from; None: there is nothing to compare, apart from the seed.

    Raises:
        CheckpointError: values differ in a way that would make it another training.
        ConfigError: an accepted key does not exist.
    """
    check_accepted(cfg)
    content = read_outline(path) if path else {}
    facts = facts_in(content)
    before = facts.get("config") or (_config_in(folder) if folder else {})
    settled = cfg.clone()
    settled.defrost()
    if settled.SEED < 0 and isinstance(before.get("SEED"), int):
        settled.SEED = before["SEED"]
    accepted = set(facts.get("accepted_changes", ()))
    if path and before:
        values = _values_before(before, facts, cfg)
        changes = differences(values, values_of(settled), int(content["iteration"]) + 1)
        accepted |= _judge(changes, path.name, cfg.ACCEPTED_CHANGES)
    elif path:
        logger.warning("%s and its folder do not tell its config: nothing is compared", path.name)
    settled.ACCEPTED_CHANGES = tuple(sorted(accepted))
    settled.freeze()
    return settled


def accepted_since(facts: Mapping[str, Any], cfg: CfgNode) -> set[str]:
    """Return the accepted keys whose values are not a checkpoint's; those that it was trained with itself are none.

    Args:
        facts: of the checkpoint; all accepted keys count if they do not tell its config.
        cfg: of :func:`settle_config`, whose ``ACCEPTED_CHANGES`` name also what was accepted before the checkpoint.
    """
    accepted = set(cfg.ACCEPTED_CHANGES)
    if not (accepted and facts.get("config")):
        return accepted
    before = _values_before(facts["config"], facts, cfg)
    return accepted & {change.key for change in differences(before, values_of(cfg), 0)}


def newest_in(folder: Path) -> Path | None:
    """Return the checkpoint that a training in ``folder`` goes on from; None if there is none.

    Raises:
        CheckpointError: there are checkpoints and none is intact.
    """
    return CheckpointFolder(folder, read_outline).newest(resumable=True)


def refuse_other_classes(cfg: CfgNode, path: str) -> None:
    """Refuse to evaluate a model on a data set of other classes, or of the same in another order.

    Raises:
        CheckpointError: the checkpoint ``path`` tells its classes, and they differ.
        ConfigError: an accepted key does not exist.
    """
    check_accepted(cfg)
    facts = facts_in(read_outline(local_file(path)))
    before, now = facts.get("class_names"), names_of(cfg.DATASETS.TEST)
    if not (before and now) or cfg.MODEL.META_ARCHITECTURE == "ProposalNetwork":
        return
    changes = differences({CLASS_NAMES: before}, {CLASS_NAMES: now}, 0)
    _judge(changes, path, cfg.ACCEPTED_CHANGES)


def check_accepted(cfg: CfgNode) -> None:
    """Raise ConfigError unless ``ACCEPTED_CHANGES`` names keys that exist."""
    for key in cfg.ACCEPTED_CHANGES:
        if key not in (keys := [*BESIDE_CONFIG, *dict(leaves(cfg))]):
            raise ConfigError(
                f"--accept-change {key}: there is no such key.{did_you_mean(key, keys)} It takes a whole "
                f"config key, such as SOLVER.BASE_LR, or one of {', '.join(BESIDE_CONFIG)}."
            )


def values_of(cfg: CfgNode) -> Values:
    """Return all that is compared, of a config of today."""
    facts = facts_of(cfg)
    return {**dict(leaves(facts["config"])), **_beside(facts)}


def differences(before: Values, now: Values, done: int) -> list[Difference]:
    """Return what differs between two runs, in the order of the keys of today.

    Args:
        before: of the checkpoint; what it lacks is not compared.
        now: of today.
        done: iterations of the checkpoint.
    """
    changed = [key for key in now if key in before and before[key] != now[key]]
    return [
        Difference(key, before[key], now[key], _rule(key, before, now, done)) for key in changed
    ]


def rule_of(key: str) -> str:
    """Return the rule in ``resume_rules.yaml`` for a key: free, told, ahead or refused.

    A key of a plug-in, of which the rules know nothing, is refused.
    """
    parts = key.split(".")
    for length in range(len(parts), 0, -1):
        if rule := rules().get(".".join(parts[:length])):
            return rule
    return "refused"


@functools.cache
def rules() -> dict[str, str]:
    """Return the rule of each key or section that ``resume_rules.yaml`` names."""
    text = (PACKAGE / "engine" / "resume_rules.yaml").read_text(encoding="utf-8")
    return {key: rule for rule, keys in yaml.safe_load(text).items() for key in keys}


def _rule(key: str, before: Values, now: Values, done: int) -> str:
    rule = rule_of(key)
    if rule != "ahead":
        return rule
    past = [[step for step in values[key] if step < done] for values in (before, now)]
    return "told" if past[0] == past[1] else "refused"


def _judge(found: Sequence[Difference], source: str, accepted: Sequence[str]) -> set[str]:
    """Tell the differences, and return those refused ones that are accepted.

    Raises:
        CheckpointError: one is refused and not accepted.
    """
    refused = [d for d in found if d.rule == "refused"]
    wrong = [d for d in refused if d.key not in accepted]
    if wrong:
        flags = " ".join(f"--accept-change {d.key}" for d in wrong)
        raise CheckpointError(
            f"{source} is of another training: {'; '.join(map(str, wrong))}. Give the values that it had, or "
            f"go on nevertheless with {flags}."
        )
    for difference in found:
        if difference.rule != "free":
            note = " (accepted)" if difference.rule == "refused" else ""
            logger.warning("Not as in %s: %s%s", source, difference, note)
    return {d.key for d in refused}


def _values_before(before: Mapping[str, Any], facts: Mapping[str, Any], cfg: CfgNode) -> Values:
    """Return what is compared of a checkpoint; a key that is newer than it had its default."""
    defaults = dict(leaves(spelled_today(get_config(cfg.PLUGINS))))
    return {**defaults, **dict(leaves(spelled_today(before))), **_beside(facts)}


def _beside(facts: Mapping[str, Any]) -> Values:
    digests = [digest for digest in facts.get("data", {}).values() if digest]
    values = {
        CLASS_NAMES: facts.get("class_names"),
        TRAIN_DATA: digests,
        "BACKEND": facts.get("backend"),
        PROCESSES: facts.get("processes"),
    }
    return {key: value for key, value in values.items() if value}


def _config_in(folder: Path) -> dict[str, Any]:
    """Return the values of a folder's ``config.yaml``; empty, and told, if it cannot be read."""
    path = folder / "config.yaml"
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        logger.warning("%s cannot be read: %s", path, str(error).split("\n", 1)[0])
        return {}
    return tree if isinstance(tree, dict) else {}


def _difference_of_names(before: Sequence[str], now: Sequence[str]) -> str:
    gone = [name for name in before if name not in now]
    new = [name for name in now if name not in before]
    if not (gone or new):
        return f"were {listing(before)} and are, in another order, {listing(now)}"
    parts = [f"lack {listing(gone)}"] * bool(gone) + [f"have {listing(new)} more"] * bool(new)
    return f"were {len(before)}, are {len(now)} and {' and '.join(parts)}"
