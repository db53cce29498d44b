"""A failed step on disk: all that is needed to do it again, as tensors and plain values.

H, W = height and width of an image in pixels of the model's input.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maskrcnn_repro.checkpoint.weight_file import read_content
from maskrcnn_repro.errors import CheckpointError
from maskrcnn_repro.utils.files import replaced

import numpy as np
import torch
from detectron2.structures import BitMasks, Boxes, Instances, Keypoints, PolygonMasks

KIND = "failed step"
NEEDED = ("config", "model", "batch", "generators", "losses", "iteration", "rank", "processes")
FIELDS = {"Boxes": Boxes, "BitMasks": BitMasks, "Keypoints": Keypoints}
"""Structures of Detectron2 that are one tensor, ``tensor``."""


def write_step(path: Path, step: Mapping[str, Any]) -> None:
    """Write a failed step whole or not at all.

    Args:
        path: the file.
        step: the values of :data:`NEEDED` and others; ``batch`` is the model's input.
    """
    with replaced(path) as beside:
        torch.save(
            {"kind": KIND, **step, "batch": [_plain(image) for image in step["batch"]]}, beside
        )


def read_step(path: Path) -> dict[str, Any]:
    """Return a failed step; nothing that the file names is run.

    Raises:
        CheckpointError: the file cannot be read, or is none of :func:`write_step`.
    """
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise CheckpointError(
            f"{path} {what}; name the file of a failed training, such as OUTPUT_DIR/failure/rank0.pth."
        )
    step = read_content(path)
    if step.get("kind") != KIND or any(name not in step for name in NEEDED):
        raise CheckpointError(
            f"{path} is no failed step; a training that stops with status 3 writes one, "
            "OUTPUT_DIR/failure/rank0.pth."
        )
    return {**step, "batch": [_restore(image) for image in step["batch"]]}


def generator_states() -> dict[str, Any]:
    """Return the states of Python's, NumPy's and PyTorch's random generators."""
    name, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(np.asarray(keys, np.int64)), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
    }


def set_generator_states(states: Mapping[str, Any]) -> None:
    """Set all random generators; those of GPUs where there are as many."""
    random.setstate(states["python"])
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(states["torch"])
    if states["cuda"] and torch.cuda.device_count() == len(states["cuda"]):
        torch.cuda.set_rng_state_all(states["cuda"])


def _plain(image: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of an image's input can be written: tensors, plain values and instances of these."""
    values = {name: _plain_value(value) for name, value in image.items()}
    return {name: value for name, value in values.items() if value is not None}


def _plain_value(value: Any) -> Any:
    if isinstance(value, Instances):
        fields = {name: _plain_value(field) for name, field in value.get_fields().items()}
        return {"image_size": value.image_size, "fields": fields}
    if isinstance(value, PolygonMasks):
        polygons = [
            [torch.from_numpy(np.asarray(p)) for p in outline] for outline in value.polygons
        ]
        return {"PolygonMasks": polygons}
    for name, structure in FIELDS.items():
        if isinstance(value, structure):
            return {name: value.tensor.detach().cpu()}
    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    return value if isinstance(value, str | int | float | bool) else None


def _restore(image: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _instances(value) if isinstance(value, dict) and "fields" in value else value
        for name, value in image.items()
    }


def _instances(value: Mapping[str, Any]) -> Instances:
    instances = Instances(tuple(value["image_size"]))
    for name, field in value["fields"].items():
        instances.set(name, _describe_structure(field))
    return instances


def _describe_structure(field: Any) -> Any:
    if not isinstance(field, dict):
        return field
    ((kind, content),) = field.items()
    if kind == "PolygonMasks":
        return PolygonMasks([[p.numpy() for p in outline] for outline in content])
    return FIELDS[kind](content)
