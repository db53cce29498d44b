"""Metrics as a person reads them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from tabulate import tabulate

TASKS = {"bbox": "box", "segm": "mask", "keypoints": "keypoints", "boundary": "boundary"}
"""Tasks that are measured from COCO results files, as a person calls them."""
DENSEPOSE = "densepose"
"""What the tasks of surface coordinates begin with."""
SURFACES = {f"{DENSEPOSE}_gps": "GPS", f"{DENSEPOSE}_gpsm": "GPSm"}
"""Tasks of surface coordinates, as a person calls them."""
PRECISIONS = {**TASKS, **SURFACES}
"""Tasks with an AP, as a person calls them."""
COLUMNS = ("AP", "AP50", "AP75", "APs", "APm", "APl")
PROPOSALS = "box_proposals"
"""Detectron2's name of the task of a region proposal network; its metrics are recalls."""
CORRECTED = " (corrected)"
"""Behind the name of a metric that leaves out what COCO's code miscounts, see ``traps``."""
LIMITS = (100, 1000)
PANOPTIC = "panoptic"
"""The task of panoptic maps."""
CLASSIFICATION = "classification"
"""The task of classes of whole images."""
NO_TRUTH = "no metrics: the data set has no annotations to compare the predictions with"
RECALLS = ("AR", "ARs", "ARm", "ARl")


def metrics_table(tasks: Mapping[str, Mapping[str, float | None]]) -> str:
    """Return COCO's metrics in points, one line per task; of proposals their recall, one per limit.

    A dash stands where there is nothing to measure (no object of that size; keypoints have no APs). Corrected
    metrics have a line of their own, and so has each task of a user's own evaluator. Without any task the text
    says why that is.
    """
    if not tasks:
        return NO_TRUTH
    precisions = [
        [
            PRECISIONS[task] + suffix,
            *(_points(values.get(f"{column}{suffix}")) for column in COLUMNS),
        ]
        for task, values in tasks.items()
        for suffix in ("", CORRECTED)
        if task in PRECISIONS and (not suffix or f"AP{suffix}" in values)
    ]
    values = tasks.get(PROPOSALS, {})
    recalls = [
        [f"{limit} proposals", *(_points(values.get(f"{column}@{limit}")) for column in RECALLS)]
        for limit in (LIMITS if values else ())
    ]
    others = [
        f"{task}: {', '.join(f'{name} {_points(number)}' for name, number in numbers.items())}"
        for task, numbers in tasks.items()
        if task not in PRECISIONS and task not in (PROPOSALS, PANOPTIC)
    ]
    tables = [_table(precisions, COLUMNS)] if precisions else []
    tables += [_table(recalls, RECALLS)] if recalls else []
    tables += [_panoptic(tasks[PANOPTIC])] if PANOPTIC in tasks else []
    tables += ["\n".join(others)] if others else []
    return "\n\n".join(tables)


def summary(tasks: Mapping[str, Mapping[str, float | None]]) -> str:
    """Return one line: ``box AP 31.5 · mask AP 25.8``, or ``AR@100 40.2 · AR@1000 51.6``."""
    precisions = [
        f"{PRECISIONS[task]} AP {_points(values.get('AP'))}"
        for task, values in tasks.items()
        if task in PRECISIONS
    ]
    values = tasks.get(PROPOSALS, {})
    recalls = [f"AR@{n} {_points(values.get(f'AR@{n}'))}" for n in (LIMITS if values else ())]
    if PANOPTIC in tasks:
        precisions.append(f"PQ {_points(tasks[PANOPTIC].get('PQ'))}")
    return " · ".join([*precisions, *recalls])


def _panoptic(values: Mapping[str, float | None]) -> str:
    """Return PQ, SQ and RQ of all, of things, of stuff and of each class."""
    groups = {"": "panoptic", "_th": "things", "_st": "stuff"}
    groups |= {name[2:]: name[3:] for name in values if name.startswith("PQ-")}
    columns = ("PQ", "SQ", "RQ")
    rows = [
        [title, *(_points(values.get(f"{column}{ending}")) for column in columns)]
        for ending, title in groups.items()
    ]
    return _table(rows, columns)


def _table(rows: Sequence[Sequence[str]], columns: Sequence[str]) -> str:
    return tabulate(
        rows,
        headers=["", *columns],
        tablefmt="simple",
        disable_numparse=True,
        colalign=("left", *["right"] * len(columns)),
    )


def _points(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.1f}"
