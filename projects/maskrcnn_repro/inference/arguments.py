"""The types of a predictor's arguments."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from types import NoneType
from typing import Any

from maskrcnn_repro.checkpoint.model_source import ModelSource
from maskrcnn_repro.errors import ConfigError
from maskrcnn_repro.inference.web_image import UrlLimits

import numpy as np

ARGUMENTS: Mapping[str, tuple[tuple[type, ...], str]] = {
    "source": (
        (str, os.PathLike, ModelSource),
        "a path or a name of a model, or what find_model returns",
    ),
    "threshold": ((Real, NoneType), "a number, at least 0 and at most 1, or None"),
    "classes": (
        (list, tuple, set, frozenset, np.ndarray, NoneType),
        "a list of names of classes, or None for all",
    ),
    "device": ((str,), "auto, cpu, cuda or cuda:N"),
    "precision": ((str, NoneType), "auto, float32, bfloat16, float16, or None"),
    "fast": ((bool, NoneType), "True, False or None"),
    "tta": ((bool, NoneType), "True, False or None"),
    "tiles": ((Integral,), "a side in pixels, or 0 for none"),
    "overlap": ((Real,), "a part of a tile's side, at least 0 and at most 0.75"),
    "urls": ((UrlLimits, NoneType), "UrlLimits, or None to refuse addresses"),
    "max_pixels": ((Integral,), "a whole number, at least 0"),
    "config": ((str, os.PathLike), "a path or the name of a config"),
    "trust": ((bool,), "True or False"),
    "batch_size": ((Integral,), "a whole number, at least 1"),
    "on_error": ((Callable, NoneType), "a function of an input and its error, or None"),  # type: ignore[dict-item]
}
"""Argument -> its types, and in words what it may be; a bool is no number."""


def check_types(**arguments: Any) -> None:
    """Raise ConfigError for the first argument whose value has a wrong type."""
    for name, value in arguments.items():
        types, words = ARGUMENTS[name]
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            raise ConfigError(f"{name} {value!r:.80} must be {words}.")
