"""Mask R-CNN as its paper has it, as a Detectron2 extension.

Importing this package first chooses the Detectron2 that is used (see ``_backend``), then registers our
backbones, heads and data sets. Import it before anything from ``detectron2``.
"""

import importlib
import os
import warnings
from typing import TYPE_CHECKING, Any

from maskrcnn_repro import _backend

# Large tensors in huge pages, where Linux grants them on request: a CPU trains 4 % faster, and the RoI
# operations of 300 RoIs save most of their page faults. PyTorch reads it at its first allocation.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

BACKEND = _backend.activate()

with warnings.catch_warnings():
    # Of fvcore's own, at its import; it would stand above every message to a user of a newer PyTorch.
    warnings.filterwarnings("ignore", message="`torch.jit.script` is deprecated")
    from maskrcnn_repro import data as _data
    from maskrcnn_repro import modeling as _modeling
from maskrcnn_repro._version import __version__

if TYPE_CHECKING:
    from maskrcnn_repro.inference.prediction import Prediction
    from maskrcnn_repro.inference.predictor import Predictor

__all__ = ["BACKEND", "Prediction", "Predictor", "__version__"]

del _data, _modeling


def __getattr__(name: str) -> Any:
    # Drawing and trainers, which the predictor imports, would slow every other import of the package.
    if name in ("Prediction", "Predictor"):
        module = importlib.import_module(f"{__name__}.inference.{name.lower()}")
        return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
