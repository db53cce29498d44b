"""The defaults of a config, and the one way to load one.

Every key of ours stands in ``config_keys.yaml`` with its meaning, unit and, where the paper speaks of it, its section;
no module reads a key that neither Detectron2 nor that file declares. A plug-in's keys are declared and checked alike.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from maskrcnn_cli.parsing import split_pairs
from maskrcnn_repro.config.files import ConfigFile, config_files
from maskrcnn_repro.config.names import suggestions
from maskrcnn_repro.config.table import KEYS, Key, key_table, read_keys
from maskrcnn_repro.config.values import NAMES, literal, read_value
from maskrcnn_repro.config_history import value_of
from maskrcnn_repro.errors import ConfigError, PluginError
from maskrcnn_repro.plugins import Plugin, load_plugins, loaded_plugins
from maskrcnn_repro.pooler_keys import settle_poolers

import torch
from detectron2.config import CfgNode, get_cfg

COMMAND_LINE = "command line"
T = TypeVar("T")


def add_config(cfg: CfgNode) -> None:
    """Add this project's keys to a config made by ``detectron2.config.get_cfg()``.

    Detectron2's own defaults stay. Such a config takes a run's ``config.yaml`` by ``cfg.merge_from_file``
    if the run had no plug-in with keys of its own; :func:`load_config` takes any.
    """
    add_keys(cfg, KEYS)


def add_keys(cfg: CfgNode, file: Path) -> None:
    """Add the keys that have a default in a file like ``config_keys.yaml``, each with that default."""
    for name, key in read_keys(file).items():
        if "default" not in key:
            continue
        *nodes, last = name.split(".")
        node = cfg
        for part in nodes:
            node = node.setdefault(part, CfgNode())
        default = copy.copy(key["default"])
        node[last] = tuple(default) if key["type"] == "tuple" else default


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
    config_file: str | os.PathLike[str] | ConfigFile,
    opts: Sequence[str] = (),
    *,
    overlays: Sequence[str | os.PathLike[str]] = (),
) -> CfgNode:
    """Return the defaults, overlaid by YAML files (each with its ``_BASE_`` chain) and ``KEY VALUE`` pairs.

    Args:
        config_file: path, or a name below the project's ``configs/`` folder; empty for defaults alone; or what
            :func:`maskrcnn_repro.config.files.stored_config` returns.
        opts: alternating keys and values, values as Python literals, as on the command line; also ``KEY=VALUE``.
        overlays: further files, each over what came before, such as a level's sizes.

    A ``_BASE_`` is a path from its file's folder, or a name below the project's ``configs/`` folder.
    Plug-ins are loaded on the way, so that their keys are known. A run's ``config.yaml`` of an earlier
    version is read in today's spelling. ``MODEL.DEVICE: auto``, also where no file names a device, becomes
    :func:`default_device`; so ``detectron2.modeling.build_model`` takes the config.

    Raises:
        ConfigError: a file is missing or no YAML, a key does not exist, a value is not what the tables of keys
            allow, or two keys name different RoI operations.
        PluginError: a plug-in cannot be loaded.
    """
    pairs = pairs_of(opts)
    names = (*([config_file] if config_file else []), *overlays)
    files = [
        file
        for name in names
        for file in ([name] if isinstance(name, ConfigFile) else config_files(name))
    ]
    cfg = get_config(_named_plugins(files, pairs))
    sources: dict[str, str] = {}
    for file in files:
        _check_version(file, cfg)
        for key, value in leaves(file.tree):
            sources[key] = file.place(key)
            set_value(cfg, key, value, sources[key])
    for key, value in pairs:
        sources[key] = COMMAND_LINE
        set_value(cfg, key, value, COMMAND_LINE)
    table = keys_of(cfg)
    for key, place in sources.items():
        if key in table:
            _placed(table[key].check, key, value_of(cfg, key), place=place)
    settle_poolers(cfg, sources)
    if cfg.MODEL.DEVICE == "auto":
        cfg.MODEL.DEVICE = default_device()
    return cfg


def keys_of(cfg: CfgNode) -> Mapping[str, Key]:
    """Return what each key of a config may be: ours, Detectron2's that a run reads, and those that plug-ins declare."""
    there = set(leaf_keys(cfg)) | key_table().keys()
    return {name: key for name, key in _every_key().items() if name in there}


def _every_key() -> Mapping[str, Key]:
    """Return the same with the keys of all plug-ins that are loaded, whether a config has them or not."""
    return key_table(*filter(None, (plugin.keys_file for plugin in loaded_plugins())))


def check_values(cfg: CfgNode) -> None:
    """Raise ConfigError for the first value that the tables of keys do not allow; registries are not asked."""
    for name, key in keys_of(cfg).items():
        key.check(name, read_value(name, value_of(cfg, name), key))


def keys_in(name: str | os.PathLike[str]) -> list[str]:
    """Return the dotted names of the keys that a YAML file sets, those of its ``_BASE_`` chain before its own.

    Raises:
        ConfigError: a file is missing or no YAML.
    """
    return [key for file in config_files(name) for key, _ in leaves(file.tree)]


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


def pairs_of(opts: Sequence[str]) -> list[tuple[str, Any]]:
    """Return keys and values of the words of a command line: ``KEY VALUE`` or ``KEY=VALUE`` each.

    Raises:
        ConfigError: the last key has no value.
    """
    pairs = split_pairs(opts)
    for key, value in pairs:
        if value is None:
            raise ConfigError(
                f"{key!r} has no value: overrides come as KEY VALUE pairs, and it is the last word."
            )
    return pairs


def set_value(cfg: CfgNode, name: str, raw: Any, place: str) -> None:
    """Set a key to a value as YAML or the command line has it.

    Args:
        cfg: gets the value.
        name: dotted, of the key.
        raw: the value, or its text.
        place: where it stands, for messages.

    Raises:
        ConfigError: there is no such key, or it cannot have that value.
    """
    parent, _, last = name.rpartition(".")
    node = value_of(cfg, parent) if parent else cfg
    if isinstance(node, CfgNode) and last not in node and node.is_new_allowed():
        node[last] = literal(raw)
        return
    _check_key(name, cfg, place)
    default = node[last]
    if isinstance(default, CfgNode):
        if raw != {}:
            _refuse_section(name, raw, default, place)
    elif default is None and name not in _every_key():
        node[last] = literal(raw)
    else:
        key = _every_key().get(name) or Key(type(default).__name__)
        node[last] = copy.deepcopy(_placed(read_value, name, raw, key, place=place))


def _named_plugins(
    files: Sequence[ConfigFile], pairs: Sequence[tuple[str, Any]]
) -> tuple[str, ...]:
    """Return what PLUGINS will be when all is merged; plug-ins add keys, so they come before that."""
    values = [
        (file.place("PLUGINS"), file.tree["PLUGINS"]) for file in files if "PLUGINS" in file.tree
    ]
    values += [(COMMAND_LINE, value) for key, value in pairs if key == "PLUGINS"]
    place, value = values[-1] if values else ("", ())
    return _placed(read_value, "PLUGINS", value, key_table()["PLUGINS"], place=place)


def _placed(step: Callable[..., T], *args: Any, place: str) -> T:
    """Return ``step(*args)``; its errors say where the value stands."""
    try:
        return step(*args)
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}") from None


def _refuse_section(name: str, raw: Any, section: CfgNode, place: str) -> None:
    first = next(iter(leaf_keys(section)), "KEY")
    raise ConfigError(
        f"{place}: {name} is a section of keys and cannot be {raw!r}; set its keys, such as {name}.{first}."
    )


def _add_keys(cfg: CfgNode, plugin: Plugin) -> None:
    """Add a plug-in's keys.

    Raises:
        PluginError: it also changes the default of a key that is not its own, or declares what such a key may be.
    """
    before = cfg.clone()
    if file := plugin.keys_file:
        with plugin.blamed():
            _refuse_declared(file, cfg)
            add_keys(cfg, file)
    plugin.add_config(cfg)
    for key in leaf_keys(before):
        if value_of(cfg, key) != value_of(before, key):
            raise PluginError(
                f"{plugin} changes the config key {key} from {value_of(before, key)!r} to "
                f"{value_of(cfg, key)!r}; add_config may only add keys."
            )


def _refuse_declared(file: Path, cfg: CfgNode) -> None:
    """Raise ConfigError if a plug-in's file has an entry without a type, or one of a key that others declare."""
    there = set(leaf_keys(cfg))
    for name, fields in read_keys(file).items():
        if not isinstance(fields, Mapping) or fields.get("type") not in NAMES:
            raise ConfigError(f"{file}: {name} needs a type, one of {', '.join(NAMES)}.")
        if "default" in fields and name in there:
            raise ConfigError(f"{file}: {name} exists; a plug-in may only add keys.")
        if "default" not in fields and (name in key_table() or name not in there):
            raise ConfigError(
                f"{file}: {name} needs a default; only a key of Detectron2 that nothing here checks has none."
            )
    key = key_table(file)
    for name, fields in read_keys(file).items():
        if "default" in fields:
            key[name].check(name, read_value(name, fields["default"], key[name]))


def _check_version(file: ConfigFile, cfg: CfgNode) -> None:
    version = file.tree.get("VERSION", cfg.VERSION)
    if version != cfg.VERSION:
        raise ConfigError(
            f"{file.place('VERSION')} has VERSION {version} of Detectron2's keys, but this is {cfg.VERSION}; "
            "detectron2.config.upgrade_config of Detectron2 converts it."
        )


def _check_key(name: str, cfg: CfgNode, place: str) -> None:
    if value_of(cfg, name) is not None or name in (keys := set(leaf_keys(cfg))):
        return
    unread = set(leaf_keys(get_cfg())) - key_table().keys()
    close = " or ".join(repr(key) for key in suggestions(name, keys, unread))
    hint = f" Did you mean {close}?" if close else ""
    raise ConfigError(f"Config key {name!r} ({place}) does not exist.{hint}")
