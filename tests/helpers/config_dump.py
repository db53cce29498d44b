"""Every resolved config as plain values: the project's files, and each experiment at each level.

Stored as the defaults and, for each config, what differs from them. ``scripts/record_config_dump.py`` writes the
dump, ``test_config_dump.py`` compares it with what the configs resolve to today.
"""

import fnmatch
import functools
import gzip
import json
from pathlib import Path

from maskrcnn_repro.config import configs_folder, get_config, load_config
from maskrcnn_repro.tables.paper.experiments import experiments, find_experiment
from maskrcnn_repro.tables.paper.levels import LEVELS
from maskrcnn_repro.tables.runs.plan import not_at_level, plan
from maskrcnn_repro.tables.runs.records import leaves
from maskrcnn_repro.tables.runs.stage import Setting

import yaml

from tests.helpers.paths import STORED

FOLDER = STORED / "configs"
DUMP = FOLDER / "resolved.json.gz"
DIFFERENCES = FOLDER / "differences.yaml"
COMPLETE = ("coco", "keypoints", "cityscapes", "rpn", "detectron2", "mini")
"""Folders of ``configs/`` whose files are configs of their own, not parts of others."""


def resolve_all(names=None, levels=LEVELS):
    """Return the leaf values of every config by its name.

    Names are ``defaults``, ``file FOLDER/FILE.yaml`` and ``LEVEL EXPERIMENT``. An experiment is resolved as the
    table runner resolves it: with its level's overlays, its proposals and its weights.

    Args:
        names: of the experiments; all by default.
        levels: at which they are resolved.
    """
    resolved = {"defaults": _values(get_config())}
    for folder in COMPLETE:
        for path in sorted((configs_folder() / folder).glob("*.yaml")):
            resolved[f"file {folder}/{path.name}"] = _values(load_config(path))
    for level in levels:
        resolved |= _resolve_level(level, experiments() if names is None else names)
    return resolved


@functools.cache
def resolve_stored_names():
    """Return :func:`resolve_all` of the experiments and levels that the dump holds."""
    stored = read_dump(DUMP)
    levels = [level for level in LEVELS if any(name.startswith(f"{level} ") for name in stored)]
    names = {name.partition(" ")[2] for name in stored if name.startswith("paper ")}
    return resolve_all(sorted(names), levels)


def _resolve_level(level, names):
    chosen = {name: find_experiment(name) for name in names}
    chosen = {name: item for name, item in chosen.items() if not not_at_level(item, level)}
    ids = [item.id for item in chosen.values()]
    # A folder that is not there: runs that lie in output/ must not matter.
    setting = Setting(level, root=Path("no_such_output"))
    stages = plan(ids, [1], setting, experiments()).stages
    by_key = {stage.key: stage for stage in stages}
    # Folders of runs are named by their experiment; its config file's name is the one that stays.
    folders = {
        f"{setting.folder}/{stage.experiment.id}/": _folder(level, stage) for stage in stages
    }
    configs = {name: by_key[f"{item.id}/seed1"].config for name, item in chosen.items()}
    return {f"{level} {name}": _values(config, folders) for name, config in configs.items()}


def _folder(level, stage):
    return f"output/{level}/{stage.experiment.config.removesuffix('.yaml')}/"


def _values(config, folders=None):
    return {key: _plain(value, folders or {}) for key, value in leaves(config)}


def _plain(value, folders):
    """Return a value as JSON has it, with neutral names of folders."""
    if isinstance(value, list | tuple):
        return [_plain(item, folders) for item in value]
    if isinstance(value, str):
        for old in folders:
            value = value.replace(old, folders[old])
    return value


def write_dump(path, resolved):
    """Write resolved configs as compressed JSON: the same bytes for the same configs."""
    defaults = resolved["defaults"]
    changed = {
        name: {key: value for key, value in values.items() if _differ(value, defaults.get(key))}
        for name, values in resolved.items()
        if name != "defaults"
    }
    text = json.dumps({"defaults": defaults, "configs": changed}, sort_keys=True, indent=0)
    path.write_bytes(gzip.compress(text.encode(), mtime=0))


def read_dump(path):
    """Return what :func:`write_dump` was given."""
    tree = json.loads(gzip.decompress(path.read_bytes()))
    configs = {name: tree["defaults"] | values for name, values in tree["configs"].items()}
    return {"defaults": tree["defaults"], **configs}


def read_allowed(path):
    """Return the differences that a file allows: dicts, described in the file."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))["differences"]


def compare(stored, now, allowed):
    """Return a text for each difference that is not allowed, and for each allowed one that there is not.

    Args:
        stored: configs by name, as :func:`resolve_all` returns them.
        now: the same, of today.
        allowed: as :func:`read_allowed` returns them.
    """
    added = {rule["added"] for rule in allowed if "added" in rule}
    texts = [f"{name}: in one of the two alone" for name in sorted(set(stored) ^ set(now) ^ added)]
    allowed = [rule for rule in allowed if "key" in rule]
    used = set()
    for name in sorted(set(stored) & set(now)):
        for key in sorted({*stored[name], *now[name]}):
            before, after = (tree[name].get(key, "absent") for tree in (stored, now))
            if not _differ(before, after):
                continue
            numbers = [n for n, rule in enumerate(allowed) if _allows(rule, name, key, stored, now)]
            used.update(numbers)
            if not numbers:
                texts.append(f"{name}: {key} was {before!r}, is {after!r}")
    unused = [rule for number, rule in enumerate(allowed) if number not in used]
    return [*texts, *(f"allowed, but there is no such difference: {rule}" for rule in unused)]


def _allows(rule, name, key, stored, now):
    if key not in (rule["key"], rule.get("renamed")):
        return False
    if not fnmatch.fnmatchcase(name, rule.get("configs", "*")):
        return False
    if "renamed" in rule:
        return stored[name].get(rule["key"], "absent") == now[name].get(rule["renamed"], "absent")
    return "value" not in rule or now[name].get(key, "absent") == rule["value"]


def _differ(before, after):
    # By their text: 1, 1.0 and True are equal, but not the same value of a config.
    return repr(before) != repr(after)
