"""Proposals of a region proposal network, stored for detectors that are trained on them (Sec. 3.1).

The paper's ablations train the RPN apart and share no features with it. So an experiment has two stages:
an RPN writes its proposals into a store, detectors read them from there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maskrcnn_repro.proposals.storing import store_all

__all__ = ["store_all"]


def __getattr__(name: str) -> Any:
    # Late: storing runs the engine, whose loader reads this package's stores.
    if name == "store_all":
        from maskrcnn_repro.proposals.storing import store_all

        return store_all
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
