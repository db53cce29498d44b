"""Hooks of modules, which whatever takes a module's place would not call."""

from __future__ import annotations

from collections.abc import Callable, Collection

from torch import nn

_KINDS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")


def is_hooked(*modules: nn.Module, besides: Collection[Callable] = ()) -> bool:
    """Tell whether one of the modules has a hook of its forward or backward pass.

    Args:
        modules: the modules, without those inside of them.
        besides: hooks that do not count.
    """
    return any(
        hook not in besides
        for module in modules
        for kind in _KINDS
        for hook in getattr(module, kind).values()
    )
