"""The config keys that this project adds to Detectron2's, and the one way to load a config.

Every key stands in ``config_keys.yaml`` with its meaning, unit and, where the paper speaks of it, its section; no
module reads a key that neither Detectron2 nor that file declares.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from maskrcnn_repro._location import CHECKOUT, PACKAGE
from maskrcnn_repro.config_history import is_earlier, spelled_today, value_of
from maskrcnn_repro.errors import ConfigError, PluginError, did_you_mean
from maskrcnn_repro.old_names import current_config
from maskrcnn_repro.plugins import Plugin, load_plugins
from maskrcnn_repro.pooler_keys import settle_poolers

import torch
import yaml
from detectron2.config import CfgNode, get_cfg

KEYS = PACKAGE / "config_keys.yaml"
"""Our keys as data: default, type, unit, section of the paper, and meaning of each."""


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML without tags that run code, in C where PyYAML has it; tuples, which older dumps hold, pass."""


_Loader.add_constructor(
    "tag:yaml.org,2002:python/tuple", lambda loader, node: tuple(loader.construct_sequence(node))
)


def add_config(cfg: CfgNode) -> None:
    """Add this project's keys to a config made by ``detectron2.config.get_cfg()``.

    Detectron2's own defaults stay. Such a config takes a run's ``config.yaml`` by ``cfg.merge_from_file``
    if the run had no plug-in with keys of its own; :func:`load_config` takes any.
    """
    for name, key in _read_keys().items():
        *nodes, last = name.split(".")
        node = cfg
        for part in nodes:
            node = node.setdefault(part, CfgNode())
        default = copy.copy(key["default"])
        node[last] = tuple(default) if key["type"] == "tuple" else default


@functools.cache
def _read_keys() -> Mapping[str, Mapping[str, Any]]:
    return MappingProxyType(yaml.load(KEYS.read_text(encoding="utf-8"), _Loader))


def get_config(plugins: Sequence[str] | None = None) -> CfgNode:
    """Return Detectron2's default config with this project's keys, ``MODEL.DEVICE`` a device that is there.

    Args:
        plugins: value of the key ``PLUGINS``: keys of these and of the installed plug-ins are added, too;
            None for no plug-in's.

    Raises:
        PluginError: a plug-in cannot be loaded.
    """
    cfg = get_cfg()
    add_config(cfg)
    cfg.MODEL.DEVICE = default_device()
    for plugin in () if plugins is None else load_plugins(plugins):
        _add_keys(cfg, plugin)
    return cfg


def default_device() -> str:
    """Return what ``MODEL.DEVICE: auto`` stands for: ``cuda`` where there is a GPU, else ``cpu``."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def load_config(
    config_file: str | os.PathLike[str],
    opts: Sequence[str] = (),
    *,
    overlays: Sequence[str | os.PathLike[str]] = (),
) -> CfgNode:
    """Return the defaults, overlaid by YAML files (each with its ``_BASE_`` chain) and ``KEY VALUE`` pairs.

    Args:
        config_file: path, or a name below the project's ``configs/`` folder; empty for defaults alone.
        opts: alternating keys and values, values as Python literals, as on the command line.
        overlays: further files, each over what came before, such as a level's sizes.

    A ``_BASE_`` is a path from its file's folder, or a name below the project's ``configs/`` folder.
    Plug-ins are loaded on the way, so that their keys are known. A run's ``config.yaml`` of an earlier
    version is read in today's spelling. ``MODEL.DEVICE: auto``, also where no file names a device, becomes
    :func:`default_device`; so ``detectron2.modeling.build_model`` takes the config.

    Raises:
        ConfigError: a file is missing or no YAML, a key does not exist, a value has the wrong type, or two
            keys name different RoI operations.
        PluginError: a plug-in cannot be loaded.
    """
    check_pairs(opts)
    names = (*([config_file] if config_file else []), *overlays)
    trees = [entry for name in names for entry in _chain(find_config(name))]
    cfg = get_config(_named_plugins(trees, opts))
    sources: dict[str, str] = {}
    for file, tree in trees:
        _check_version(tree, cfg, str(file))
        _check_keys(tree, cfg, str(file))
        _merge(cfg.merge_from_other_cfg, CfgNode(tree), str(file))
        sources |= dict.fromkeys(leaf_keys(CfgNode(tree)), str(file))
    for key, value in zip(opts[::2], opts[1::2], strict=True):
        _check_key(key, cfg, "command line")
        _merge(cfg.merge_from_list, [key, value], "command line")
        sources[key] = "command line"
    settle_poolers(cfg, sources)
    if cfg.MODEL.DEVICE == "auto":
        cfg.MODEL.DEVICE = default_device()
    return cfg


def check_pairs(words: Sequence[str]) -> None:
    """Raise ConfigError unless the words are alternately keys and values."""
    joined = next((word for word in words[::2] if re.match(r"[A-Z][\w.]*=", word)), None)
    if joined:
        raise ConfigError(
            f"Overrides come as KEY VALUE pairs: write {' '.join(joined.split('=', 1))} in the place of {joined}."
        )
    if len(words) % 2:
        raise ConfigError(
            f"Overrides come as KEY VALUE pairs, but the last word, {words[-1]!r}, is alone."
        )


def config_chain(name: str | os.PathLike[str]) -> list[tuple[Path, dict[str, Any]]]:
    """Return a YAML file behind the files of its ``_BASE_`` chain, each with the keys that it sets itself.

    Raises:
        ConfigError: a file is missing or no YAML.
    """
    return list(_chain(find_config(name)))


def keys_in(name: str | os.PathLike[str]) -> list[str]:
    """Return the dotted names of the keys that a YAML file sets, those of its ``_BASE_`` chain before its own.

    Raises:
        ConfigError: a file is missing or no YAML.
    """
    return [key for _, tree in config_chain(name) for key in leaf_keys(CfgNode(tree))]


def configs_folder() -> Path:
    """Return the folder of the project's YAML files, in a checkout or in a wheel."""
    for folder in (PACKAGE / "configs", CHECKOUT / "configs"):
        if folder.is_dir():
            return folder
    raise ConfigError(
        f"The configs folder is missing beside {PACKAGE}; install maskrcnn-repro again."
    )


def find_config(name: str | os.PathLike[str]) -> Path:
    """Return the path of a config given by path or by its name below :func:`configs_folder`.

    A former name (``old_names.yaml``) leads to the file of today.

    Raises:
        ConfigError: there is no such file.
    """
    own = _own_config(Path(name))
    for path in (Path(name), own):
        if path.is_file():
            return path
    if any(path.is_dir() for path in (Path(name), own)):
        raise ConfigError(f"Config file {str(name)!r} is a folder: name a .yaml file in it.")
    names = sorted(str(p.relative_to(configs_folder())) for p in configs_folder().rglob("*.yaml"))
    close = did_you_mean(os.path.relpath(own, configs_folder()), names)
    raise ConfigError(
        f"Config file {str(name)!r} does not exist.{close} The project's own lie in {configs_folder()}: "
        f"{_counts(names)}."
    )


def _counts(names: Sequence[str]) -> str:
    """Return how many files each folder holds: all their names would fill a screen."""
    folders = Counter(str(Path(name).parent) for name in names)
    return ", ".join(f"{count} in {folder}" for folder, count in folders.items())


def _own_config(name: Path) -> Path:
    """Return where a config of the project lies: by its name with or without the folder's, or by its path."""
    folder = configs_folder()
    short = Path(*name.parts[1:]) if name.parts[:1] == ("configs",) else name
    with contextlib.suppress(ValueError):
        short = name.resolve().relative_to(folder.resolve())
    return folder / current_config(short.as_posix())


def leaf_keys(cfg: CfgNode) -> Iterator[str]:
    """Yield the dotted name of every value in ``cfg``."""
    yield from (key for key, value in leaves(cfg) if not isinstance(value, CfgNode))


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted key and the value of each leaf of a tree of mappings; an empty one is a leaf."""
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _chain(path: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the bases of a YAML file, then the file, each with its own keys only."""
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), _Loader) or {}
    except OSError as error:
        raise ConfigError(f"Config file {path} cannot be read: {error.strerror}.") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"Config file {path} is no YAML: {error}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"Config file {path} holds no keys, but a {type(tree).__name__}.")
    base = tree.pop("_BASE_", None)
    tree = spelled_today(tree) if is_earlier(tree) else tree
    for name in [base] if isinstance(base, str) else base or []:
        yield from _chain(_find_base(path, name))
    yield path, tree


def _find_base(path: Path, name: str) -> Path:
    beside = path.parent / Path(name).expanduser()
    for base in (beside, _own_config(beside), _own_config(Path(name))):
        if base.is_file():
            return base
    raise ConfigError(
        f"{path}: its _BASE_ {name!r} does not exist, neither from its folder nor below "
        f"{configs_folder()}."
    )


def _named_plugins(
    trees: Sequence[tuple[Path, dict[str, Any]]], opts: Sequence[str]
) -> tuple[str, ...]:
    """Return what PLUGINS will be when all is merged; plug-ins add keys, so they come before that."""
    values = [(str(file), tree["PLUGINS"]) for file, tree in trees if "PLUGINS" in tree]
    pairs = zip(opts[::2], opts[1::2], strict=True)
    values += [("command line", value) for key, value in pairs if key == "PLUGINS"]
    source, value = values[-1] if values else ("", ())
    probe = CfgNode({"PLUGINS": ()})
    try:
        probe.merge_from_list(["PLUGINS", value])
    except ValueError:
        probe.PLUGINS = (None,)
    if not all(isinstance(name, str) for name in probe.PLUGINS):
        raise ConfigError(
            f"PLUGINS {value!r} ({source}) is no list of modules, also for one: ['NAME']."
        )
    return tuple(probe.PLUGINS)


def _add_keys(cfg: CfgNode, plugin: Plugin) -> None:
    """Add a plug-in's keys.

    Raises:
        PluginError: it also changes the default of a key that is not its own.
    """
    before = cfg.clone()
    plugin.add_config(cfg)
    for key in leaf_keys(before):
        if value_of(cfg, key) != value_of(before, key):
            raise PluginError(
                f"{plugin} changes the config key {key} from {value_of(before, key)!r} to "
                f"{value_of(cfg, key)!r}; add_config may only add keys."
            )


def _check_version(tree: dict[str, Any], cfg: CfgNode, source: str) -> None:
    if tree.get("VERSION", cfg.VERSION) != cfg.VERSION:
        raise ConfigError(
            f"{source} has VERSION {tree['VERSION']} of Detectron2's keys, but this is {cfg.VERSION}; "
            "detectron2.config.upgrade_config of Detectron2 converts it."
        )


def _check_keys(tree: dict[str, Any], cfg: CfgNode, source: str, prefix: str = "") -> None:
    for key, value in tree.items():
        name = f"{prefix}{key}"
        _check_key(name, cfg, source)
        if isinstance(value, dict) and isinstance(value_of(cfg, name), CfgNode):
            _check_keys(value, cfg, source, f"{name}.")


def _check_key(name: str, cfg: CfgNode, source: str) -> None:
    if value_of(cfg, name) is not None or name in (keys := set(leaf_keys(cfg))):
        return
    # Keys are long and share prefixes: the last word tells more than the whole.
    last = name.rpartition(".")[2]
    same_parent = [k for k in keys if k.rpartition(".")[0] == name.rpartition(".")[0]]
    hint = did_you_mean(name, same_parent) or did_you_mean(name, keys)
    if not hint:
        ends = {k.rpartition(".")[2]: k for k in sorted(keys)}
        hint = did_you_mean(last, ends)
    raise ConfigError(f"Config key {name!r} ({source}) does not exist.{hint}")


def _merge(merge: Any, argument: Any, source: str) -> None:
    """Call a merge method of yacs and turn its errors into ours."""
    try:
        merge(argument)
    except (ValueError, KeyError, AssertionError, TypeError) as error:
        raise ConfigError(f"{source}: {error}") from error
