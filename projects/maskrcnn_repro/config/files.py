"""Config files: where they lie, what they say, and in which line each key stands."""

from __future__ import annotations

import contextlib
import copy
import functools
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maskrcnn_repro._location import CHECKOUT, PACKAGE
from maskrcnn_repro.config_history import is_earlier, spelled_today
from maskrcnn_repro.errors import ConfigError, did_you_mean
from maskrcnn_repro.old_names import current_config

import yaml

LARGEST = 1_000_000
"""Bytes of a config file, and values that its aliases may unfold to."""
DEEPEST = 50
"""Nested lists and mappings of a config file."""
MOST_FILES = 1000
"""Files of a ``_BASE_`` chain, repetitions counted."""
_MERGE = "tag:yaml.org,2002:merge"


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML without tags that run code, in C where PyYAML has it; tuples, which older dumps hold, pass."""


_Loader.add_constructor(
    "tag:yaml.org,2002:python/tuple", lambda loader, node: tuple(loader.construct_sequence(node))
)


@dataclass(frozen=True)
class ConfigFile:
    """A YAML file of a chain, with the keys that it sets itself."""

    path: Path
    tree: dict[str, Any]
    """Nested keys, without ``_BASE_``, in today's spelling."""
    bases: list[str] = field(default_factory=list)
    lines: dict[str, int] = field(default_factory=dict)
    """Dotted key or section -> its line, from 1."""

    def place(self, key: str) -> str:
        """Return ``FILE:LINE`` of a dotted key, or of the section that holds it."""
        while key and key not in self.lines:
            key = key.rpartition(".")[0]
        return f"{self.path}:{self.lines[key]}" if key else str(self.path)


def config_files(name: str | os.PathLike[str]) -> list[ConfigFile]:
    """Return a YAML file behind the files of its ``_BASE_`` chain.

    Raises:
        ConfigError: a file is missing, no YAML, or its own base.
    """
    files: list[ConfigFile] = []
    for file in _chain(find_config(name), ()):
        files.append(file)
        if len(files) > MOST_FILES:
            raise ConfigError(f"Config file {name}: its _BASE_ chain has over {MOST_FILES} files.")
    return files


def config_chain(name: str | os.PathLike[str]) -> list[tuple[Path, dict[str, Any]]]:
    """Return the paths of :func:`config_files` and the keys that each file sets itself.

    Raises:
        ConfigError: a file is missing, no YAML, or its own base.
    """
    return [(file.path, file.tree) for file in config_files(name)]


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


def _chain(path: Path, below: tuple[Path, ...]) -> Iterator[ConfigFile]:
    """Yield the bases of a YAML file, then the file; ``below`` are the files that lead to it."""
    if path.resolve() in below:
        raise ConfigError(f"Config file {path} is its own _BASE_, by way of {below[-1]}.")
    file = read_config_file(path)
    for name in file.bases:
        yield from _chain(_find_base(file, name), (*below, path.resolve()))
    yield file


def _find_base(file: ConfigFile, name: str) -> Path:
    beside = file.path.parent / Path(name).expanduser()
    for base in (beside, _own_config(beside), _own_config(Path(name))):
        if base.is_file():
            return base
    raise ConfigError(
        f"{file.place('_BASE_')}: its _BASE_ {name!r} does not exist, neither from its folder nor below "
        f"{configs_folder()}."
    )


def read_config_file(path: Path) -> ConfigFile:
    """Return what a YAML file says.

    Raises:
        ConfigError: it cannot be read, is no YAML or too large, says a key twice, or holds no keys.
    """
    tree, lines = _parse(path, _read(path))
    base = tree.pop("_BASE_", None)
    bases = [base] if isinstance(base, str) else base or []
    if not isinstance(bases, list) or not all(isinstance(name, str) for name in bases):
        place = ConfigFile(path, {}, [], lines).place("_BASE_")
        raise ConfigError(f"{place}: its _BASE_ {base!r} must be the name of a file, or a list.")
    return ConfigFile(path, spelled_today(tree) if is_earlier(tree) else tree, bases, lines)


def stored_config(path: Path, content: str | Mapping[str, Any]) -> ConfigFile:
    """Return the whole config that a file of weights holds, of any version.

    Args:
        path: of that file, for error messages.
        content: the config as YAML, or its nested values.

    Raises:
        ConfigError: it is no YAML, or too large.
    """
    if isinstance(content, str):
        if len(content) > LARGEST:
            raise ConfigError(f"The config in {path} has over {LARGEST} characters.")
        content = _parse(path, content)[0]
    return ConfigFile(path, spelled_today(content))


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST:
            raise ConfigError(
                f"Config file {path} has over {LARGEST} bytes, which no config needs."
            )
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"Config file {path} is not in UTF-8: byte {error.start} is {error.object[error.start]:#x}."
        ) from error
    except OSError as error:
        raise ConfigError(f"Config file {path} cannot be read: {error.strerror}.") from error


def _parse(path: Path, text: str) -> tuple[dict[str, Any], dict[str, int]]:
    """Return the tree of a file and the line of each key, for the caller to change."""
    return copy.deepcopy(_parse_yaml(path, text))


# A report loads the configs of all runs, each of ten files that they share.
@functools.lru_cache(maxsize=500)
def _parse_yaml(path: Path, text: str) -> tuple[dict[str, Any], dict[str, int]]:
    try:
        _check_nesting(path, text)
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return {}, {}
        _count_unfolded(path, node, {})
        lines = dict(_lines(path, node)) if isinstance(node, yaml.MappingNode) else {}
        tree = loader.construct_document(node) or {}
    except ConfigError:
        raise
    # PyYAML raises any of these for a value that its tag does not fit, such as !!int ''.
    except (
        yaml.YAMLError,
        ArithmeticError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
    ) as error:
        text = " ".join(str(error).split())
        raise ConfigError(f"Config file {path} is no YAML: {text}.") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"Config file {path} holds no keys, but {str(tree)!r:.80}.")
    return tree, lines


def _check_nesting(path: Path, text: str) -> None:
    """Raise ConfigError for a file that would exhaust the stack of the recursive composer."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            line = event.start_mark.line + 1
            raise ConfigError(f"{path}:{line}: the file nests deeper than {DEEPEST} levels.")


def _count_unfolded(path: Path, node: yaml.Node, sizes: dict[int, int]) -> int:
    """Return how many values a node has when its aliases are written out.

    Raises:
        ConfigError: it holds itself, or too many.
    """
    if id(node) in sizes:
        if not sizes[id(node)]:
            line = node.start_mark.line + 1
            raise ConfigError(f"{path}:{line}: a value holds itself, by an alias.")
        return sizes[id(node)]
    sizes[id(node)] = 0
    inside = node.value if isinstance(node, yaml.CollectionNode) else ()
    parts = (part for entry in inside for part in (entry if isinstance(entry, tuple) else (entry,)))
    size = 1 + sum(_count_unfolded(path, part, sizes) for part in parts)
    if size > LARGEST:
        line = node.start_mark.line + 1
        raise ConfigError(f"{path}:{line}: aliases unfold to over {LARGEST} values.")
    sizes[id(node)] = size
    return size


def _lines(path: Path, node: yaml.MappingNode, prefix: str = "") -> Iterator[tuple[str, int]]:
    """Yield each dotted key below a node with its line.

    Raises:
        ConfigError: a key is no name, or stands there twice, of which YAML would keep one.
    """
    twice = [
        name for name, count in Counter(key.value for key, _ in _pairs(node)).items() if count > 1
    ]
    for key, value in node.value:
        name, line = f"{prefix}{key.value}", key.start_mark.line + 1
        if key.tag == _MERGE:
            merged = value.value if isinstance(value, yaml.SequenceNode) else [value]
            for other in (item for item in merged if isinstance(item, yaml.MappingNode)):
                yield from _lines(path, other, prefix)
            continue
        if key.tag != "tag:yaml.org,2002:str":
            raise ConfigError(f"{path}:{line}: {key.value!r} is no name of a key.")
        if key.value in twice:
            lines = [str(k.start_mark.line + 1) for k, _ in _pairs(node) if k.value == key.value]
            raise ConfigError(
                f"{path}: {name} stands in the lines {' and '.join(lines)}; write it once."
            )
        yield name, line
        if isinstance(value, yaml.MappingNode):
            yield from _lines(path, value, f"{name}.")


def _pairs(node: yaml.MappingNode) -> list[tuple[yaml.Node, yaml.Node]]:
    """Return the keys and values that a mapping writes itself; what it merges may repeat them."""
    return [
        (key, value)
        for key, value in node.value
        if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE
    ]
