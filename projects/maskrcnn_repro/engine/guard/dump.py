"""A failed step on disk: all that is needed to do it again, as tensors and plain values.

H, W = height and width of an image in pixels of the model's input.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from maskrcnn_repro.checkpoint.weight_file import read_content
from maskrcnn_repro.data.densepose.targets import SurfaceTargets
from maskrcnn_repro.errors import CheckpointError, listing
from maskrcnn_repro.utils.files import replaced

import numpy as np
import torch
from detectron2.structures import BitMasks, Boxes, Instances, Keypoints, PolygonMasks

logger = logging.getLogger(__name__)
KIND = "failed step"
NEEDED = ("config", "model", "batch", "generators", "losses", "iteration", "rank", "processes")
FIELDS = {"Boxes": Boxes, "BitMasks": BitMasks, "Keypoints": Keypoints}
"""Structures of Detectron2 that are one tensor, ``tensor``."""


def write_step(path: Path, step: Mapping[str, Any]) -> None:
    """Write a failed step whole or not at all; what of its batch cannot be written is left out, and logged by name.

    Args:
        path: the file.
        step: the values of :data:`NEEDED` and others; ``batch`` is the model's input.
    """
    batch = [_plain(image) for image in step["batch"]]
    with replaced(path) as beside:
        torch.save({"kind": KIND, **step, "batch": batch}, beside)
    pairs = zip(step["batch"], batch, strict=True)
    if lost := sorted({name for image, plain in pairs for name in _left_out(image, plain)}):
        logger.warning("%s lacks %s: values of a kind that it cannot hold", path, listing(lost))


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


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of an image's input, or of the fields of instances, can be written: tensors, plain values, structures."""
    written = {name: _plain_value(value) for name, value in values.items()}
    return {name: value for name, value in written.items() if value is not None}


def _left_out(image: Mapping[str, Any], plain: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of an image's values, and of fields of its instances, that are not in what is written of it."""
    for name, value in image.items():
        if isinstance(value, Instances):
            written = plain[name]["fields"]
            yield from (f"{name}.{field}" for field in value.get_fields() if field not in written)
        elif value is not None and name not in plain:
            yield name


def _plain_value(value: Any) -> Any:
    if isinstance(value, Instances):
        return {"image_size": value.image_size, "fields": _plain(value.get_fields())}
    if isinstance(value, SurfaceTargets):
        tensors = (value.points, value.parts, value.has_parts)
        return {"SurfaceTargets": [tensor.detach().cpu() for tensor in tensors]}
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
        if field is not None:  # what earlier versions wrote for a field of another kind
            instances.set(name, _restore_structure(field))
    return instances


def _restore_structure(field: Any) -> Any:
    if not isinstance(field, dict):
        return field
    ((kind, content),) = field.items()
    if kind == "PolygonMasks":
        return PolygonMasks([[p.numpy() for p in outline] for outline in content])
    if kind == "SurfaceTargets":
        points, parts, has_parts = content
        return SurfaceTargets(points, parts, has_parts, torch.arange(len(points)))
    return FIELDS[kind](content)
