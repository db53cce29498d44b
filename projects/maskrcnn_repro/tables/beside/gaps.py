"""Gaps of runs to the first of them, with intervals from the images that both were tested on.

Shape legend: I images, B draws.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from maskrcnn_repro.errors import TableError, UserError
from maskrcnn_repro.evaluation.coco import predictions_file
from maskrcnn_repro.evaluation.panoptic_resampling import PanopticSums
from maskrcnn_repro.evaluation.resampling import Matches, draw_images, match
from maskrcnn_repro.evaluation.surface_resampling import FILE as SURFACE_MATCHES
from maskrcnn_repro.evaluation.surface_resampling import read_matches
from maskrcnn_repro.evaluation.table import PANOPTIC, PRECISIONS, SURFACES
from maskrcnn_repro.tables.beside.run import Run
from maskrcnn_repro.tables.report.matching import check_evaluation, is_drawn, matches_of
from maskrcnn_repro.tables.report.model import Interval
from maskrcnn_repro.tables.report.statistics import DRAWS, SEED, interval
from maskrcnn_repro.utils.hashes import sha256_of

import numpy as np

LEVEL = 95.0
"""Confidence of an interval, per cent."""


@dataclass(frozen=True)
class Gap:
    """One metric of one run, beside that of the first run.

    Attributes:
        value: AP points; None where there is nothing to measure.
        gap: to the first run; None for the first itself and where one of both is missing.
        interval: of the gap over images alone: another training seed moves it too.
        reason: why there is no interval, where there could be one.
    """

    value: float | None
    gap: float | None = None
    interval: Interval | None = None
    reason: str = ""


@dataclass(frozen=True)
class Row:
    """One metric of all runs.

    Attributes:
        dataset: name of the test set.
        task: ``bbox``, ``segm``, ``keypoints`` or another evaluator's.
        metric: ``AP``, ``AP50`` …
        gaps: one per run.
    """

    dataset: str
    task: str
    metric: str
    gaps: tuple[Gap, ...]

    @property
    def title(self) -> str:
        """``mask AP50``."""
        return f"{PRECISIONS.get(self.task, self.task)} {self.metric}"


def rows(runs: Sequence[Run], *, classes: bool = False) -> Iterator[Row]:
    """Yield the metrics that any run has, data set by data set.

    Args:
        runs: two or more; the first is what the others are compared with.
        classes: with the AP of single classes.
    """
    drawer = _Drawer()
    for name in _names(runs):
        if classes or not name[-1].startswith("AP-"):
            yield Row(*name, tuple(_gap(run, runs[0], name, drawer) for run in runs))


@dataclass(frozen=True)
class Drawn:
    """One task of one run: its metrics on all images and on each draw of them.

    Attributes:
        image_ids: of the I images.
        values: metric to points.
        draws: metric to points of each draw, (B,); NaN for a draw without objects.
    """

    image_ids: tuple[int | str, ...]
    values: Mapping[str, float]
    draws: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, matches: Matches | PanopticSums) -> Drawn:
        """Draw the images of ``matches``; the same draws for all runs on as many images."""
        images = len(matches.image_ids)
        once = matches.resampled(np.ones((1, images), dtype=int))
        values = {metric: float(value[0]) for metric, value in once.items()}
        return cls(matches.image_ids, values, matches.resampled(draw_images(images, DRAWS, SEED)))


def paired_interval(ours: Drawn, first: Drawn, metric: str) -> Interval:
    """Return the interval of ``ours`` minus ``first`` over draws of the images that both share.

    Raises:
        TableError: the two were tested on different images, or most draws hold no object.
    """
    if ours.image_ids != first.image_ids:
        raise TableError("they were tested on different images")
    images = len(ours.image_ids)
    drawn = ours.draws[metric] - first.draws[metric]
    if np.isnan(drawn).mean() > 0.5:
        raise TableError(f"most draws of {images} images hold no object")
    gap = ours.values[metric] - first.values[metric]
    return interval({0: gap}, {0: drawn}, level=LEVEL, images=images)


class _Drawer:
    """Draws each task of each run once, and remembers also why one cannot be drawn."""

    def __init__(self) -> None:
        self._drawn: dict[tuple[Path, str, str], Drawn | UserError] = {}

    def __call__(self, run: Run, dataset: str, task: str) -> Drawn:
        place = (run.folder, dataset, task)
        if place not in self._drawn:
            try:
                self._drawn[place] = Drawn.of(_matches(run, dataset, task))
            except UserError as error:
                self._drawn[place] = error
        drawn = self._drawn[place]
        if isinstance(drawn, UserError):
            raise drawn
        return drawn


def _gap(run: Run, first: Run, name: tuple[str, str, str], drawer: _Drawer) -> Gap:
    dataset, task, metric = name
    value, other = (_value(side, *name) for side in (run, first))
    if run is first or value is None or other is None:
        return Gap(value)
    if not is_drawn(task, metric):
        return Gap(value, value - other)
    try:
        ours, theirs = (drawer(side, dataset, task) for side in (run, first))
        return Gap(value, value - other, paired_interval(ours, theirs, metric))
    except UserError as error:
        return Gap(value, value - other, reason=str(error).rstrip("."))


def _matches(run: Run, dataset: str, task: str) -> Matches | PanopticSums:
    if task == PANOPTIC:
        return matches_of(run.record, task)
    truth = run.truth.get(dataset)
    if truth is None or not Path(truth).is_file():
        raise TableError(f"the annotations of {dataset} are not at {truth} any more")
    if sha256_of(Path(truth)) != run.record.data.get(dataset):
        raise TableError(f"{truth} was changed since {run.name} was tested on it")
    file = predictions_file(run.folder / "inference", dataset)
    if task in SURFACES:
        file = file.with_name(SURFACE_MATCHES)
        matches = read_matches(file, task)
    else:
        sigmas = run.config.get("TEST.KEYPOINT_OKS_SIGMAS", ()) if task == "keypoints" else ()
        matches = match(truth, file, task, sigmas)
    check_evaluation(matches, task, run.record.metrics[dataset][task], (file, run.record.path))
    return matches


def _names(runs: Sequence[Run]) -> Mapping[tuple[str, str, str], None]:
    return dict.fromkeys(
        (dataset, task, metric)
        for run in runs
        for dataset, tasks in run.record.metrics.items()
        for task, values in tasks.items()
        for metric in values
    )


def _value(run: Run, dataset: str, task: str, metric: str) -> float | None:
    return run.record.metrics.get(dataset, {}).get(task, {}).get(metric)
