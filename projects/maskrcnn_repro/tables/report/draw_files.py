"""Files of draws: the AP, PQ or GPS of a run on each draw of its test images, beside the run or kept with the code.

Shape legend: I images, B draws.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from maskrcnn_repro.errors import TableError
from maskrcnn_repro.evaluation.panoptic_resampling import METRICS as PANOPTIC_METRICS
from maskrcnn_repro.evaluation.resampling import METRICS
from maskrcnn_repro.evaluation.table import PANOPTIC, PRECISIONS
from maskrcnn_repro.tables.report.matching import AP_TOLERANCE, dataset_of, main_metric
from maskrcnn_repro.tables.report.places import kept_beside
from maskrcnn_repro.tables.report.statistics import DRAWS, SEED
from maskrcnn_repro.tables.runs.records import Record
from maskrcnn_repro.utils.files import replaced

import numpy as np
from numpy.typing import NDArray

METHOD = 1
"""Raised whenever the same files would give other numbers."""

THOUSAND = 1000.0

UNDEFINED = -1
"""Stands for NaN among thousandths."""

LARGEST = 100_000_000
"""Bytes that a file of draws may have when unpacked."""


@dataclass(frozen=True)
class Resampled:
    """One task of one run.

    Attributes:
        images: I.
        values: name of a metric (``AP``, ``AP50``, ``AP75``; of panoptic results ``PQ``, ``PQ_th``, ``PQ_st``) to its
            value on each draw, (B,), points; NaN for a draw without objects.
    """

    images: int
    values: Mapping[str, NDArray[np.floating]]


def stored_draws(record: Record, task: str, draws: int = DRAWS) -> Resampled | None:
    """Return what was drawn before of a record in a task; None if there is nothing, or of another record."""
    try:
        return _read(record, task, draws)
    except TableError:
        return None


def draws_to_keep(record: Record) -> bytes:
    """Return a file of all that was drawn of a run, which :func:`stored_draws` reads of its kept record.

    Points are kept to a thousandth. It is empty if nothing was drawn.
    """
    content: dict[str, Any] = {}
    for task in (*PRECISIONS, PANOPTIC):
        draws = stored_draws(record, task)
        if draws is None:
            continue
        content |= {f"{task} key": _key(record, task, DRAWS), f"{task} images": draws.images}
        for name, values in draws.values.items():
            whole = np.where(np.isnan(values), UNDEFINED, np.round(values * THOUSAND))
            content[f"{task} {name}"] = whole.astype(np.int32)
    file = io.BytesIO()
    if content:
        np.savez_compressed(file, **content)
    return file.getvalue()


def _key(record: Record, task: str, draws: int) -> str:
    name = dataset_of(record)
    parts = {
        "method": METHOD,
        "results": record.identity,
        "data": record.data.get(name),
        "task": task,
        "draws": draws,
        "seed": SEED,
    }
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _cache(record: Record, task: str) -> Path:
    return record.path.with_name(f"resampled_{task}.npz")


def write_draws(record: Record, task: str, draws: int, resampled: Resampled) -> None:
    """Write what was drawn of a run beside it; raise OutputError if that fails."""
    key = _key(record, task, draws)
    with replaced(_cache(record, task)) as beside:
        content: dict[str, Any] = {"key": key, "images": resampled.images, **resampled.values}
        np.savez(beside, **content)


def _read(record: Record, task: str, draws: int) -> Resampled:
    """Return what was drawn before of a run, or is kept with the code.

    Raises:
        TableError: it is not there, of another record, or cannot be read; the text continues "its draws".
    """
    file = kept_beside(record.path, "draws", ".npz") if record.kept else _cache(record, task)
    head = f"{task} " if record.kept else ""
    arrays = _arrays(file, head)
    if "key" not in arrays:
        raise TableError(f"of images are not kept for {task}")
    if arrays["key"].tolist() != _key(record, task, draws):
        raise TableError(f"{file} are of another record")
    try:
        resampled = _resampled(arrays, task, draws)
    except ValueError as error:
        raise TableError(f"{file} cannot be read: {error}") from error
    return resampled


def _arrays(file: Path, head: str) -> dict[str, NDArray[Any]]:
    """Return the arrays of a file whose names begin with ``head``, by the rest of their names."""
    if not os.path.lexists(file):
        raise TableError("of images are not kept")
    if not file.is_file():  # a pipe would be waited for
        raise TableError(f"{file} cannot be read: it is no file")
    try:
        with zipfile.ZipFile(file) as packed:
            if sum(member.file_size for member in packed.infolist()) > LARGEST:
                raise TableError(f"{file} cannot be read: unpacked it has over {LARGEST:,} bytes")
        with np.load(file, allow_pickle=False) as content:
            return {
                n.removeprefix(head): np.asarray(content[n])
                for n in content.files
                if n.startswith(head)
            }
    except TableError:
        raise
    except Exception as error:  # cut off, or of another program: wrong in any way
        raise TableError(f"{file} cannot be read") from error


def _resampled(arrays: Mapping[str, NDArray[Any]], task: str, draws: int) -> Resampled:
    """Return arrays as draws; raise ValueError if they are none."""
    names = PANOPTIC_METRICS if task == PANOPTIC else tuple(METRICS)
    absent = [name for name in ("images", *names) if name not in arrays]
    if absent:
        raise ValueError(f"it lacks {', '.join(f'{task} {name}' for name in absent)}")
    images = arrays["images"]
    if images.shape or images.dtype.kind not in "iu" or images < 1:
        raise ValueError(f"its {task} images are no number")
    values = {}
    for name in names:
        try:
            values[name] = _points(arrays[name], draws)
        except ValueError as error:
            raise ValueError(f"its {task} {name} {error}") from None
    resampled = Resampled(int(images), MappingProxyType(values))
    if are_mostly_empty(resampled, task):
        raise ValueError(f"most draws of {images} images hold no object")
    return resampled


def are_mostly_empty(draws: Resampled, task: str) -> bool:
    """Tell whether most draws of the images hold no object."""
    return bool(np.isnan(draws.values[main_metric(task)]).mean() > 0.5)


def _points(values: NDArray[Any], draws: int) -> NDArray[np.floating]:
    """Return values as points: whole numbers are thousandths; raise ValueError if they are none."""
    if values.shape != (draws,) or values.dtype.kind not in "if":
        raise ValueError(f"is not of {draws:,} numbers")
    if values.dtype.kind == "i":
        values = np.where(values == UNDEFINED, np.nan, values / THOUSAND)
    if not (np.isnan(values) | (np.abs(values - 50) <= 50 + AP_TOLERANCE)).all():
        raise ValueError("is not from 0 to 100 points")
    return values


def why_lost(record: Record, task: str, draws: int) -> str:
    """Return why there are no draws of a kept record."""
    try:
        _read(record, task, draws)
    except TableError as error:
        return f"its draws {error}"
    return ""
