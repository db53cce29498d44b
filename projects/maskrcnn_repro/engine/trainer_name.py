"""The name of a trainer's class in the config key ``TRAINER``, and the class of a name."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from maskrcnn_repro.engine.trainer import Trainer
from maskrcnn_repro.errors import ConfigError, did_you_mean, listing
from maskrcnn_repro.plugins import loaded_plugins

from detectron2.config import CfgNode


def trainer_of(cfg: CfgNode) -> type[Trainer]:
    """Return the class that ``cfg.TRAINER`` names: :class:`Trainer`, or a subclass as ``module:Class``.

    Raises:
        ConfigError: there is no such module or class, or it is no trainer.
    """
    if not cfg.TRAINER:
        return Trainer
    module_name, _, class_name = cfg.TRAINER.partition(":")
    module = _import(module_name, cfg.TRAINER)
    trainer: Any = getattr(module, class_name, None)
    if not (isinstance(trainer, type) and issubclass(trainer, Trainer)):
        # Beside its own, a module has the classes that it imports, Trainer at least.
        names = [name for name, value in vars(module).items() if _is_own_trainer(value, module)]
        raise ConfigError(
            f"TRAINER {cfg.TRAINER!r}: module {module_name!r} has no subclass of Trainer with the name "
            f"{class_name!r}.{did_you_mean(class_name, names)} It is written 'module:Class', and there are "
            f"{listing(f'{module_name}:{name}' for name in names)}."
        )
    return trainer


def name_of(trainer: type[Trainer]) -> str:
    """Return the value of ``cfg.TRAINER`` that names a class, in any process that finds its module.

    Raises:
        ConfigError: the class is in a running script that cannot be imported by the name of its file.
    """
    if trainer is Trainer:
        return ""
    module = trainer.__module__
    if module == "__main__" and not (module := running_module()):
        place = getattr(sys.modules["__main__"], "__file__", None) or "no file"
        raise ConfigError(
            f"Trainer {trainer.__qualname__} is in {place}, which other processes cannot import: put it into a "
            "file NAME.py whose NAME has no dot and is no other module's, and the file's folder on PYTHONPATH."
        )
    return f"{module}:{trainer.__qualname__}"


def running_module() -> str:
    """Return the name by which the running script can be imported; empty if there is none."""
    main = sys.modules["__main__"]
    if spec := getattr(main, "__spec__", None):  # python -m
        return str(spec.name)
    file = getattr(main, "__file__", None)
    if not file or "." in Path(file).stem:
        return ""
    spec = importlib.util.find_spec(Path(file).stem)
    origin = spec.origin if spec else None
    is_same = origin is not None and Path(origin).resolve() == Path(file).resolve()
    return Path(file).stem if is_same else ""


def _import(module_name: str, value: str) -> ModuleType:
    if module_name == "__main__":
        raise ConfigError(
            f"TRAINER {value!r} names the script that ran: write its file's name for '__main__'."
        )
    # The running script, a second time, would register its parts a second time.
    if module_name and module_name == running_module():
        return sys.modules["__main__"]
    try:
        return importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # whatever the module raises, an exit included
        hint = did_you_mean(module_name, [plugin.module for plugin in loaded_plugins()])
        parent, _, last = value.rpartition(".")
        if ":" not in value and parent:
            hint = f" Did you mean '{parent}:{last}'?"
        raise ConfigError(
            f"TRAINER {value!r}: module {module_name!r} cannot be imported "
            f"({type(error).__name__}: {error}).{hint} It is written 'module:Class', and the module's folder "
            "must be on PYTHONPATH."
        ) from error


def _is_own_trainer(value: object, module: ModuleType) -> bool:
    return (
        isinstance(value, type)
        and issubclass(value, Trainer)
        and f"{value.__module__}.".startswith(f"{module.__name__}.")
    )
