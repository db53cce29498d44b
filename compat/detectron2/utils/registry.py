"""Registries (fvcore's) and objects by name."""

import pkgutil
import pydoc
from typing import Any

from fvcore.common.registry import Registry

from detectron2._absent import module_getattr

__all__ = ["Registry", "locate"]


def locate(name: str) -> Any:
    """Return the object that a dotted name such as ``package.module.Class`` stands for.

    Raises:
        ImportError: there is no such module or attribute.
    """
    found = pydoc.locate(name)
    if found is not None:
        return found
    try:
        # Unlike pydoc, it finds modules that their package hides, such as torch.optim.sgd.
        return pkgutil.resolve_name(name)
    except (AttributeError, ValueError, ImportError) as error:
        raise ImportError(f"Cannot locate {name!r}: {error}") from error


__getattr__ = module_getattr(__name__)
