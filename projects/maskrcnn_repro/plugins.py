"""Plug-ins: modules of other packages that bring heads, RoI operations, losses, models or data sets.

A plug-in registers its parts when it is imported, as this package does; a function ``add_config(cfg)`` in
it may add config keys. It is found where a package is merely installed, by an entry point of the group
``maskrcnn_repro.plugins`` that names the module, or where the config names the module in ``PLUGINS``.

Plug-ins are loaded with a config and again at the start of every process of a run: registrations are not
inherited by spawned processes, and a broken plug-in must not break ``import maskrcnn_repro``.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from maskrcnn_repro.errors import PluginError, did_you_mean

from detectron2.config import CfgNode

GROUP = "maskrcnn_repro.plugins"
VARIABLE = "MASKRCNN_REPRO_PLUGINS"
"""Set to 0, this environment variable leaves installed plug-ins out; those of PLUGINS still load."""


@dataclass(frozen=True)
class Plugin:
    """A module that registers something."""

    module: str
    distribution: str | None
    """Name of the installed package that the module is part of; None for a file on the search path."""
    version: str | None
    """Of that package."""
    announced: bool
    """Whether an entry point names the module; else the config does."""

    def __str__(self) -> str:
        package = f"{self.distribution} {self.version}" if self.distribution else "no package"
        return f"Plug-in {self.module!r} ({'installed' if self.announced else 'in PLUGINS'}, {package})"

    def load(self) -> None:
        """Import the module.

        Raises:
            PluginError: there is no such module, or whatever its import raises, the end of the process too.
        """
        try:
            importlib.import_module(self.module)
        except (Exception, SystemExit) as error:
            raise PluginError(f"{self} {self._reason(error)}") from error

    def add_config(self, cfg: CfgNode) -> None:
        """Let the loaded module add its config keys, if it has any.

        Raises:
            PluginError: whatever the module's ``add_config`` raises.
        """
        add_config = getattr(sys.modules[self.module], "add_config", None)
        if add_config is None:
            return
        try:
            add_config(cfg)
        except (Exception, SystemExit) as error:
            raise PluginError(f"{self} {self._reason(error)}") from error

    def _reason(self, error: BaseException) -> str:
        if isinstance(error, ModuleNotFoundError) and _is_parent(error.name, self.module):
            known = [plugin.module for plugin in installed_plugins()]
            return (
                f"cannot be found.{did_you_mean(self.module, known)} Install its package, or put the "
                f"folder of the module on PYTHONPATH. Installed plug-ins: {', '.join(known) or 'none'}."
            )
        if isinstance(error, SystemExit):
            reason = f"ends the process: sys.exit({error.code!r})"
        else:
            # Of fvcore's registries and Detectron2's catalogs, which say what is taken.
            taken = "already registered" in str(error)
            fault = "registers a name that is taken" if taken else "fails"
            reason = f"{fault}: {type(error).__name__}: {error}"
        way_out = f"set {VARIABLE}=0" if self.announced else "take it out of PLUGINS"
        return f"{reason}{self._place(error)}. Mend it, or {way_out} to run without it."

    def _place(self, error: BaseException) -> str:
        """Return file and line of the plug-in's own code that raised ``error``."""
        places = [
            f" ({frame.f_code.co_filename}:{line})"
            for frame, line in traceback.walk_tb(error.__traceback__)
            if _is_parent(self.module, frame.f_globals.get("__name__", ""))
        ]
        return places[-1] if places else ""  # a SyntaxError tells it itself


_loaded: dict[str, Plugin] = {}


def load_plugins(named: Sequence[str] = ()) -> tuple[Plugin, ...]:
    """Import the installed plug-ins, in the order of their modules' names, then those of the config.

    A plug-in that is loaded already is not loaded again.

    Args:
        named: value of the config key ``PLUGINS``.

    Returns:
        All of these plug-ins.

    Raises:
        PluginError: one of them cannot be imported.
    """
    wanted = [] if _is_switched_off() else [*installed_plugins()]
    announced = {plugin.module for plugin in wanted}
    others = [module for module in dict.fromkeys(named) if module not in announced]
    wanted += [_loaded.get(module) or _named(module) for module in others]
    for plugin in wanted:
        if plugin.module not in _loaded:
            plugin.load()
            _loaded[plugin.module] = plugin
    return tuple(wanted)


def loaded_plugins() -> tuple[Plugin, ...]:
    """Return the plug-ins that this process has loaded, which is part of every result."""
    return tuple(_loaded.values())


def installed_plugins() -> tuple[Plugin, ...]:
    """Return the plug-ins that installed packages announce, in the order of their modules' names."""
    return _announced(tuple(sys.path))


@cache
def _announced(path: tuple[str, ...]) -> tuple[Plugin, ...]:
    """Return the plug-ins of the packages on ``path``, which is ``sys.path``: reading them takes milliseconds."""
    found = {
        point.module: Plugin(point.module, point.dist.name, point.dist.version, announced=True)
        for point in importlib.metadata.entry_points(group=GROUP)
        if point.dist is not None
    }
    return tuple(found[module] for module in sorted(found))


def _named(module: str) -> Plugin:
    package = module.partition(".")[0]
    owners = importlib.metadata.packages_distributions().get(package, [None])
    version = owners[0] and importlib.metadata.version(owners[0])
    return Plugin(module, owners[0], version, announced=False)


def _is_switched_off() -> bool:
    value = os.environ.get(VARIABLE, "") or "1"
    if value not in ("0", "1"):
        raise PluginError(f"{VARIABLE}={value!r} is neither 0 (no installed plug-ins) nor 1.")
    return value == "0"


def _is_parent(name: str | None, module: str) -> bool:
    """Tell whether ``name`` is ``module`` or a package around it."""
    return name is not None and f"{module}.".startswith(f"{name}.")
