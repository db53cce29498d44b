"""Plug-ins: modules of other packages that add heads, RoI operations, losses, models or data sets.

A plug-in registers its parts when it is imported. A package's file ``config_keys.yaml``, if any, adds config keys with
what they may be; so does any module's function ``add_config(cfg)``, whose keys are checked by the type of their default.
An installed package announces its plug-in by an entry point of the group ``maskrcnn_repro.plugins`` that
names the module; any other module can be named in the config key ``PLUGINS``.

Plug-ins are loaded with a config and again at the start of every process of a run: registrations are not
inherited by spawned processes, and a broken plug-in must not break ``import maskrcnn_repro``.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from maskrcnn_repro.errors import PluginError, did_you_mean

from detectron2.config import CfgNode

GROUP = "maskrcnn_repro.plugins"
VARIABLE = "MASKRCNN_REPRO_PLUGINS"
"""Environment variable; 0 turns installed plug-ins off, those of PLUGINS are still loaded."""
KEYS_FILE = "config_keys.yaml"
"""Name of the file, in the folder of a plug-in that is a package, which declares its config keys."""


@dataclass(frozen=True)
class Plugin:
    """A module that registers parts of models or data sets, and the package that it belongs to."""

    module: str
    distribution: str | None
    """Name of the installed package with the module; None for a file on the search path."""
    version: str | None
    """Version of that package."""
    announced: bool
    """Whether an entry point names the module, rather than the config."""

    def __str__(self) -> str:
        package = f"{self.distribution} {self.version}" if self.distribution else "no package"
        return f"Plug-in {self.module!r} ({'installed' if self.announced else 'in PLUGINS'}, {package})"

    def load(self) -> None:
        """Import the module.

        Raises:
            PluginError: there is no such module, or its import raises anything, ``SystemExit`` included.
        """
        with self.blamed():
            importlib.import_module(self.module)

    @contextmanager
    def blamed(self) -> Iterator[None]:
        """Within the block any exception becomes a PluginError that names the plug-in."""
        try:
            yield
        # SystemExit, too: a plug-in must not end the process without being named.
        except (Exception, SystemExit) as error:
            raise PluginError(f"{self} {self._reason(error)}") from error

    @property
    def keys_file(self) -> Path | None:
        """The file ``config_keys.yaml`` in the folder of the loaded package; None without."""
        folders = getattr(sys.modules.get(self.module), "__path__", ())
        files = [Path(folder) / KEYS_FILE for folder in folders]
        return next((file for file in files if file.is_file()), None)

    def add_config(self, cfg: CfgNode) -> None:
        """Let the loaded module add its config keys, if it has any.

        Raises:
            PluginError: the module's ``add_config`` raises anything, ``SystemExit`` included.
        """
        add_config = getattr(sys.modules[self.module], "add_config", None)
        if add_config is not None:
            with self.blamed():
                add_config(cfg)

    def _reason(self, error: BaseException) -> str:
        if isinstance(error, ModuleNotFoundError) and _is_parent(error.name, self.module):
            installed = [plugin.module for plugin in installed_plugins()]
            return (
                f"cannot be found.{did_you_mean(self.module, installed)} Install its package, or put the "
                f"folder of the module on PYTHONPATH. Installed plug-ins: {', '.join(installed) or 'none'}."
            )
        if isinstance(error, SystemExit):
            reason = f"ends the process: sys.exit({error.code!r})"
        else:
            # fvcore's registries and Detectron2's catalogs say this, and name what is registered twice.
            taken = "already registered" in str(error)
            fault = "registers a name that is taken" if taken else "fails"
            reason = f"{fault}: {type(error).__name__}: {str(error).removesuffix('.')}"
        way_out = f"set {VARIABLE}=0" if self.announced else "take it out of PLUGINS"
        return f"{reason}{self._location(error)}. Mend it, or {way_out} to run without it."

    def _location(self, error: BaseException) -> str:
        """Return file and line of the plug-in's own code that raised ``error``."""
        locations = [
            f" ({frame.f_code.co_filename}:{line})"
            for frame, line in traceback.walk_tb(error.__traceback__)
            if _is_parent(self.module, frame.f_globals.get("__name__", ""))
        ]
        # A SyntaxError has no frame in the plug-in, and its message has the line.
        return locations[-1] if locations else ""


_loaded: dict[str, Plugin] = {}


def load_plugins(modules: Sequence[str] = ()) -> tuple[Plugin, ...]:
    """Import the installed plug-ins, in the order of their modules' names, then those of the config.

    Plug-ins that are loaded already are skipped.

    Args:
        modules: value of the config key ``PLUGINS``.

    Returns:
        All of these plug-ins, those included that were loaded before.

    Raises:
        PluginError: one of them cannot be imported.
    """
    plugins = [] if _is_switched_off() else [*installed_plugins()]
    announced = {plugin.module for plugin in plugins}
    # dict.fromkeys: without repetitions, in the config's order.
    others = [module for module in dict.fromkeys(modules) if module not in announced]
    plugins += [_loaded.get(module) or _plugin_of(module) for module in others]
    for plugin in plugins:
        if plugin.module not in _loaded:
            plugin.load()
            _loaded[plugin.module] = plugin
    return tuple(plugins)


def loaded_plugins() -> tuple[Plugin, ...]:
    """Return the plug-ins that this process has loaded; every result names them."""
    return tuple(_loaded.values())


def installed_plugins() -> tuple[Plugin, ...]:
    """Return the plug-ins that installed packages announce, in the order of their modules' names."""
    return _installed_on(tuple(sys.path))


# Cached, as reading the entry points takes milliseconds; by sys.path, as it decides which there are.
@cache
def _installed_on(path: tuple[str, ...]) -> tuple[Plugin, ...]:
    plugins = {
        point.module: Plugin(point.module, point.dist.name, point.dist.version, announced=True)
        for point in importlib.metadata.entry_points(group=GROUP)
        if point.dist is not None
    }
    return tuple(plugins[module] for module in sorted(plugins))


def _plugin_of(module: str) -> Plugin:
    owners = _owners_on(tuple(sys.path)).get(module.partition(".")[0], [None])
    version = owners[0] and importlib.metadata.version(owners[0])
    return Plugin(module, owners[0], version, announced=False)


# Cached, as it reads the file list of every installed package.
@cache
def _owners_on(path: tuple[str, ...]) -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()


def _is_switched_off() -> bool:
    value = os.environ.get(VARIABLE, "") or "1"
    if value not in ("0", "1"):
        raise PluginError(f"{VARIABLE}={value!r} is neither 0 (no installed plug-ins) nor 1.")
    return value == "0"


def _is_parent(name: str | None, module: str) -> bool:
    """Tell whether ``name`` is ``module`` or a package around it."""
    return name is not None and f"{module}.".startswith(f"{name}.")
