"""Mask R-CNN as its paper has it, as a Detectron2 extension.

Importing this package first chooses the Detectron2 that is used (see ``_backend``), then registers our
backbones, heads and data sets. Import it before anything from ``detectron2``.
"""

from maskrcnn_repro import _backend

BACKEND = _backend.activate()

from maskrcnn_repro import data as _data  # noqa: E402  (registers data sets)
from maskrcnn_repro import modeling as _modeling  # noqa: E402  (registers backbones and heads)
from maskrcnn_repro._version import __version__  # noqa: E402

__all__ = ["BACKEND", "__version__"]

del _data, _modeling
