"""``evaluation.html``: where a model errs, in one file that needs no network and no other file."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskrcnn_repro.analysis.analysis import Analysis, analyze
from maskrcnn_repro.analysis.confusion import fold_classes
from maskrcnn_repro.analysis.cost import ALL
from maskrcnn_repro.analysis.error_kinds import KINDS
from maskrcnn_repro.analysis.evaluation_set import EvaluationSet, read_set
from maskrcnn_repro.analysis.matching import SIZES
from maskrcnn_repro.analysis.pictures import MOST_BYTES, SIDE, worst_pictures
from maskrcnn_repro.analysis.plots import plots
from maskrcnn_repro.analysis.precision import average_precisions
from maskrcnn_repro.analysis.source import Source, run_source
from maskrcnn_repro.data.image_file import ImageFiles
from maskrcnn_repro.data.keypoints import oks_sigmas
from maskrcnn_repro.errors import ConfigError
from maskrcnn_repro.evaluation.resampling import METRICS, match
from maskrcnn_repro.evaluation.table import TASKS
from maskrcnn_repro.utils.files import write_text
from maskrcnn_repro.utils.hashes import sha256_of
from maskrcnn_repro.utils.provenance import code_origin, facts_of
from maskrcnn_repro.visualization.templates import templates_in

import numpy as np

logger = logging.getLogger(__name__)

PAGE = "evaluation.html"
MATRIX_CLASSES = 30
"""Classes in the confusion matrix; the others are one class."""
RECORDED, COMPUTED = "results.json of the run", "computed from the predictions"
"""Where the metrics of a task come from."""


@dataclass(frozen=True)
class Options:
    """How a page is made.

    Attributes:
        task: ``bbox`` or ``segm``; by default masks where there are some.
        iou: threshold of the IoU for errors, confusion and pictures, above 0.1.
        score: least one of a detection in the confusion matrix and on pictures.
        images: worst images that are shown, at most.
    """

    task: str | None = None
    iou: float = 0.5
    score: float = 0.5
    images: int = 24


def write_page(
    run: Path,
    *,
    dataset: str | None = None,
    out: Path | None = None,
    options: Options | None = None,
) -> Path:
    """Write the page of a run that was evaluated, and return its path.

    Args:
        run: folder with ``config.yaml`` and ``inference/NAME/coco_instances_results.json``.
        dataset: NAME; by default the first of ``DATASETS.TEST`` that has predictions.
        out: of the page; by default ``evaluation.html`` in the run folder.
        options: how it is made.

    Raises:
        DataError: there are no predictions, or a file is wrong.
        OutputError: the page cannot be written.
    """
    return write_page_of(run_source(run, dataset), out or run / PAGE, options)


def write_page_of(source: Source, out: Path, options: Options | None = None) -> Path:
    """Write the page of any COCO file and results, and return its path; errors as of :func:`write_page`."""
    options = options or Options()
    check_options(options)
    evaluated = read_set(source.truth, source.results, source.images, options.task)
    analysis = analyze(evaluated, options.iou, options.score)
    templates = templates_in(Path(__file__).parent)
    templates.filters["points"] = _points
    template = templates.get_template("evaluation.html.jinja")
    write_text(out, template.render(_content(source, evaluated, analysis, options)))
    return out


def check_options(options: Options) -> None:
    """Raise ConfigError for a threshold or a number out of its range."""
    if not 0.1 < options.iou <= 1:
        raise ConfigError(f"--iou {options.iou:g} must lie above 0.1 and be at most 1.")
    if not 0 <= options.score <= 1:
        raise ConfigError(f"--score {options.score:g} must lie between 0 and 1.")
    if options.images < 0:
        raise ConfigError(f"--worst {options.images} must be 0 or more.")


def _content(
    source: Source, evaluated: EvaluationSet, analysis: Analysis, options: Options
) -> dict[str, Any]:
    matrix, names = fold_classes(analysis.confusion, list(evaluated.class_names), MATRIX_CLASSES)
    files = ImageFiles(tuple(source.pixel_range))
    most = options.images if source.images is not None else 0
    counts = analysis.marks.counts.sum(axis=0)
    pictures = worst_pictures(evaluated, analysis, files, most)
    if pictures.unreadable:
        count, first = len(pictures.unreadable), pictures.unreadable[0]
        logger.warning("%d of the worst images cannot be shown: %s", count, first)
    return {
        "source": source,
        "evaluated": evaluated,
        "analysis": analysis,
        "task": TASKS[evaluated.task],
        "overall": _summarise_overall(analysis),
        "sizes": _sizes(analysis),
        "classes": _classes(evaluated, analysis),
        "tasks": _tasks(source, evaluated.keypoint_names),
        "plots": plots(analysis, evaluated.class_names),
        "kinds": _kinds(analysis),
        "matrix": matrix.tolist(),
        "matrix_names": names,
        "counts": dict(zip(("hits", "misses", "false_alarms"), counts.tolist(), strict=True)),
        "pictures": pictures,
        "side": SIDE,
        "megabytes": MOST_BYTES // 1_000_000,
        "origin": _origin(source, evaluated),
        "written": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def _summarise_overall(analysis: Analysis) -> dict[str, float]:
    """Return the metrics over all sizes, in points."""
    precisions = analysis.precisions["all"]
    return {name: average_precisions(precisions[:, at]) for name, at in METRICS.items()}


def _sizes(analysis: Analysis) -> list[tuple[str, str, int, list[float]]]:
    """Return each size with its range in pixels, number of objects, and AP, AP50 and AP75 in points."""
    limits = {"all": "any", "small": "up to 32²", "medium": "32² to 96²", "large": "96² and more"}
    return [
        (
            size,
            limits[size],
            int(analysis.objects[size].sum()),
            [average_precisions(analysis.precisions[size][:, at]) for at in METRICS.values()],
        )
        for size in SIZES
    ]


def _classes(evaluated: EvaluationSet, analysis: Analysis) -> list[dict[str, Any]]:
    """Return a row for each class, the lowest AP first, those without objects last."""
    detections = np.bincount(evaluated.detections.categories, minlength=len(evaluated.class_names))
    rows = []
    for index, name in enumerate(evaluated.class_names):
        values = [
            average_precisions(analysis.precisions["all"][[index], at]) for at in METRICS.values()
        ]
        values += [
            average_precisions(analysis.precisions[size][[index]]) for size in list(SIZES)[1:]
        ]
        f1, score = analysis.best[index]
        rows.append(
            {
                "name": name,
                "objects": int(evaluated.objects[index]),
                "detections": int(detections[index]),
                "values": values,
                "f1": 100 * f1,
                "score": score,
            }
        )
    return sorted(rows, key=lambda row: (np.isnan(row["values"][0]), row["values"][0]))


def _kinds(analysis: Analysis) -> list[dict[str, Any]]:
    """Return a row for each kind of error; the width of its bar is relative to the costliest one."""
    widest = max([value for value in analysis.costs.values() if value > 0], default=1.0)
    found, counted = analysis.matching.found(), analysis.matching.counted
    totals = {
        "all false alarms": int(analysis.matching.false_alarms[0].sum()),
        "all misses": int((counted & ~found).sum()),
    }
    return [
        {
            "name": name,
            "says": says,
            "count": totals[name] if name in ALL else analysis.errors.count(name),
            "cost": analysis.costs[name],
            "width": max(0.0, np.nan_to_num(analysis.costs[name]) / widest * 100),
            "total": name in ALL,
        }
        for name, says in {**KINDS, **ALL}.items()
    ]


def _tasks(
    source: Source, keypoint_names: Sequence[str]
) -> list[tuple[str, dict[str, float | None], str]]:
    """Return each task's metrics as the evaluation wrote them, of keypoints else those computed here, and which they are."""
    recorded = source.record.get("metrics", {}).get(source.name, {})
    tasks = [(TASKS[task], dict(recorded[task]), RECORDED) for task in TASKS if task in recorded]
    if keypoint_names and "keypoints" not in recorded:
        sigmas = source.oks_sigmas or oks_sigmas(keypoint_names)
        matches = match(source.truth, source.results, "keypoints", sigmas)
        tasks.append((TASKS["keypoints"], dict(matches.average_precision()), COMPUTED))
    return tasks


def _origin(source: Source, evaluated: EvaluationSet) -> dict[str, str]:
    """Return where the numbers come from, by name."""
    record = source.record
    code = record.get("code") or code_origin()
    made_by = facts_of(code, record.get("machine"))
    facts = {
        "Run": source.run,
        "Data set": source.name,
        "Objects": f"{source.truth}, SHA-256 {sha256_of(source.truth)}",
        "Predictions": f"{source.results}, SHA-256 {sha256_of(source.results)}",
        "Iterations": record.get("iterations"),
        "Seed": record.get("seed"),
        "Started from": record.get("weights"),
        "Config, SHA-256": record.get("config_sha256"),
        "Commit": code.get("commit") if isinstance(code, Mapping) else None,
        **{name: made_by.get(name) for name in ("Backend", "Versions", "Machine")},
        "Evaluated": record.get("written"),
        "Detections that count": f"{evaluated.limit} of a class in an image",
    }
    return {name: str(value) for name, value in facts.items() if value not in (None, "")}


def _points(value: float | None, digits: int = 1) -> str:
    """Return a number, or a dash where there is nothing to measure."""
    return "\N{EN DASH}" if value is None or np.isnan(value) else f"{value:.{digits}f}"
