"""The AP, PQ or GPS of a run on each draw of its test images, kept beside the run: a second report is quick.

Shape legend: I images, B draws.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from maskrcnn_repro.data.panoptic.truth import PanopticTruth, open_truth
from maskrcnn_repro.errors import OutputError, TableError, UserError
from maskrcnn_repro.evaluation.panoptic import RESULTS
from maskrcnn_repro.evaluation.panoptic_resampling import METRICS as PANOPTIC_METRICS
from maskrcnn_repro.evaluation.panoptic_resampling import PanopticSums, count_images
from maskrcnn_repro.evaluation.resampling import METRICS, Matches, draw_images, match
from maskrcnn_repro.evaluation.surface_resampling import FILE as SURFACE_MATCHES
from maskrcnn_repro.evaluation.surface_resampling import read_matches
from maskrcnn_repro.evaluation.table import PANOPTIC, PRECISIONS, SURFACES
from maskrcnn_repro.tables.paper.numbers import Metric
from maskrcnn_repro.tables.report.gather import short_digest
from maskrcnn_repro.tables.report.places import detections_file, kept_beside
from maskrcnn_repro.tables.report.statistics import DRAWS, SEED
from maskrcnn_repro.tables.runs.records import CONFIG, Record, read_config
from maskrcnn_repro.utils.files import replaced
from maskrcnn_repro.utils.provenance import data_origin

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

METHOD = 1
"""Raised whenever the same files would give other numbers."""
THOUSAND = 1000.0
UNDEFINED = -1
"""Stands for NaN among thousandths."""
LARGEST = 100_000_000
"""Bytes that a file of draws may have when unpacked."""
AP_TOLERANCE = 0.05
"""AP points. A record's AP and that of the detections beside it are sums of the same numbers."""


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


class Resampler:
    """Draws the test images of records again, the same draws for all, and remembers the results.

    Args:
        draws: B.
        say: is told what takes long, one line each.

    Attributes:
        problems: record to the reason why its images cannot be drawn again.
    """

    def __init__(self, draws: int = DRAWS, say: Callable[[str], None] = lambda line: None) -> None:
        self.problems: dict[Path, str] = {}
        self._draws = draws
        self._say = say
        self._resampled: dict[tuple[Path, str], Resampled | None] = {}

    def prepare(self, pairs: Iterable[tuple[Record, Metric]]) -> None:
        """Do what :meth:`of` will be asked for, and tell how far it is."""
        missing = {}
        for record, metric in pairs:
            place = (record.path, metric.task)
            if place not in self._resampled and _has_draws(record, metric):
                there = stored_draws(record, metric.task, self._draws)
                if there is None and not record.kept:
                    missing[place] = record
                else:
                    self._resampled[place] = there
                if there is None and record.kept:
                    why = _why_lost(record, metric.task, self._draws)
                    self.problems[record.path] = f"no interval: {why}"
        if not missing:
            return
        self._say(f"Drawing test images again, for intervals: {len(missing)} evaluations.")
        # A bar on a terminal alone.
        for (path, task), record in tqdm(missing.items(), unit="evaluation", disable=None):
            self._resampled[path, task] = self._resample(record, task)

    def of(self, record: Record, metric: Metric) -> Resampled | None:
        """Return the draws of a record; None if the metric has none, or if :attr:`problems` says why not."""
        self.prepare([(record, metric)])
        return (
            self._resampled.get((record.path, metric.task))
            if is_drawn(metric.task, metric.key)
            else None
        )

    def problems_of(self, records: Iterable[Record]) -> list[str]:
        """Return what :attr:`problems` says of some records, each once."""
        return list(
            dict.fromkeys(
                f"{_title(record)}: {self.problems[record.path]}"
                for record in records
                if record.path in self.problems
            )
        )

    def _resample(self, record: Record, task: str) -> Resampled | None:
        try:
            matches = matches_of(record, task)
        except UserError as error:
            self.problems[record.path] = f"no interval: {str(error).rstrip('.')}"
            return None
        images = len(matches.image_ids)
        draws = Resampled(images, matches.resampled(draw_images(images, self._draws, SEED)))
        if _are_mostly_empty(draws, task):
            self.problems[record.path] = (
                f"no interval: most draws of {images} images hold no object"
            )
            return None
        try:
            _write(_cache(record, task), _key(record, task, self._draws), draws)
        except OutputError as error:
            self._say(f"{error} The next report draws again.")
        return draws


def stored_draws(record: Record, task: str, draws: int = DRAWS) -> Resampled | None:
    """Return what was drawn before of a record in a task; None if there is nothing, or of another record."""
    try:
        return _read(record, task, draws)
    except TableError:
        return None


def _title(record: Record) -> str:
    """Return a record for people: the folder of a run; experiment and seed of one that is kept with the code."""
    folder = record.path.parent
    return f"{folder.name} seed {record.seed}" if record.kept else str(folder)


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


def matches_of(record: Record, task: str) -> Matches | PanopticSums:
    """Match a record's detections or segments with those of its data set, in a task that it was measured in.

    Those of surface coordinates were matched when they were evaluated.

    Raises:
        UserError: annotations, detections or matches are missing, cannot be read, or are not those of the record.
    """
    file = _results_of(record, task)
    if task == PANOPTIC:
        matches: Matches | PanopticSums = _panoptic_sums(record, file)
    else:
        matches = read_matches(file, task) if task in SURFACES else match_anew(record, task)
    key, once = _main(task), np.ones((1, len(matches.image_ids)), dtype=int)
    there, own = float(matches.resampled(once)[key][0]), select_metrics(record, task).get(key)
    own = math.nan if own is None else own
    if not abs(there - own) <= AP_TOLERANCE:  # NaN, too
        title = f"{PRECISIONS[task]} AP" if task in PRECISIONS else key
        raise TableError(
            f"{file} is of another evaluation than {record.path.name}: its {title} is {there:.2f}, the record's {own:.2f}"
        )
    return matches


def _panoptic_sums(record: Record, file: Path) -> PanopticSums:
    _check_data(record)
    results = PanopticTruth.read(file, file.with_suffix(""), results=True)
    return count_images(open_truth(dataset_of(record)), results)


def match_anew(record: Record, task: str) -> Matches:
    """Match the detections beside a record, whatever the record says of them; otherwise :func:`matches_of`."""
    truth = _check_data(record)
    sigmas = ()
    if task == "keypoints":
        sigmas = read_config(record.path.with_name(CONFIG)).get("TEST.KEYPOINT_OKS_SIGMAS", ())
    return match(truth, _results_of(record, task), task, sigmas)


def _check_data(record: Record) -> str:
    """Return the path of the annotations that a record was measured on; raise TableError if they are not here."""
    name = dataset_of(record)
    truth = data_origin(name)
    if truth["json"] is None or truth["sha256"] is None:
        raise TableError(f"the annotations of data set {name} are not on this machine")
    if truth["sha256"] != record.data.get(name):
        raise TableError(
            f"the data set {name} of this machine is another version than the record's "
            f"(SHA-256 {short_digest(truth['sha256'])}, not {short_digest(record.data.get(name))})"
        )
    return str(truth["json"])


def _results_of(record: Record, task: str) -> Path:
    """Return where the detections, segments or matches that a record was measured on lie."""
    others = {PANOPTIC: RESULTS, **dict.fromkeys(SURFACES, SURFACE_MATCHES)}
    file = detections_file(record.path, dataset_of(record))
    return file.with_name(others.get(task, file.name))


def dataset_of(record: Record) -> str:
    """Return the data set that a table's numbers come from: the first one."""
    return next(iter(record.metrics), "")


def _has_draws(record: Record, metric: Metric) -> bool:
    """Tell whether a metric is one of all objects, and was measured."""
    return (
        is_drawn(metric.task, metric.key)
        and select_metrics(record, metric.task).get(metric.key) is not None
    )


def is_drawn(task: str, key: str) -> bool:
    """Tell whether images that are drawn again give a task's metric ``key``."""
    if task == PANOPTIC:
        return key in PANOPTIC_METRICS
    return task in PRECISIONS and key in METRICS


def _main(task: str) -> str:
    """Return the metric of a task that tells whether results are those of a record."""
    return "PQ" if task == PANOPTIC else "AP"


def select_metrics(record: Record, task: str) -> Mapping[str, float | None]:
    """Return the metrics of a task on the data set that a table's numbers come from; empty if there are none."""
    return record.metrics.get(dataset_of(record), {}).get(task, {})


def _cache(record: Record, task: str) -> Path:
    return record.path.with_name(f"resampled_{task}.npz")


def _write(file: Path, key: str, draws: Resampled) -> None:
    with replaced(file) as beside:
        content: dict[str, Any] = {"key": key, "images": draws.images, **draws.values}
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
    if _are_mostly_empty(resampled, task):
        raise ValueError(f"most draws of {images} images hold no object")
    return resampled


def _are_mostly_empty(draws: Resampled, task: str) -> bool:
    return bool(np.isnan(draws.values[_main(task)]).mean() > 0.5)


def _points(values: NDArray[Any], draws: int) -> NDArray[np.floating]:
    """Return values as points: whole numbers are thousandths; raise ValueError if they are none."""
    if values.shape != (draws,) or values.dtype.kind not in "if":
        raise ValueError(f"is not of {draws:,} numbers")
    if values.dtype.kind == "i":
        values = np.where(values == UNDEFINED, np.nan, values / THOUSAND)
    if not (np.isnan(values) | (np.abs(values - 50) <= 50 + AP_TOLERANCE)).all():
        raise ValueError("is not from 0 to 100 points")
    return values


def _why_lost(record: Record, task: str, draws: int) -> str:
    """Return why there are no draws of a kept record."""
    try:
        _read(record, task, draws)
    except TableError as error:
        return f"its draws {error}"
    return ""
