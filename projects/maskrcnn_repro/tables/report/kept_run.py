"""What is kept of a run: its record, and beside it curves, draws of images, and what its model finds on a few of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maskrcnn_repro.tables.report.boundary import TASK, measured_before
from maskrcnn_repro.tables.report.curve_files import curve_text, read_curve
from maskrcnn_repro.tables.report.draw_files import draws_to_keep
from maskrcnn_repro.tables.report.matching import dataset_of
from maskrcnn_repro.tables.report.model import Report
from maskrcnn_repro.tables.report.pictured import (
    Place,
    Scene,
    Unreadable,
    predictions_text,
    read_predictions,
    read_scene,
    scene_files,
)
from maskrcnn_repro.tables.report.places import curve_file, kept_beside
from maskrcnn_repro.tables.runs.reading import read_json
from maskrcnn_repro.tables.runs.records import identity, read_record
from maskrcnn_repro.tables.runs.retrained import digest_of_run, recipe_of_run
from maskrcnn_repro.utils.provenance import data_origin

Files = dict[Path, str | bytes]
"""Place in ``LEVEL/BACKEND`` to content."""


def record_tree(results: Path) -> dict[str, Any]:
    """Return the record of a run as it is kept: with what tells its recipe, inputs and weights, without its folders.

    Raises:
        TableError: it cannot be read.
    """
    tree = read_json(results)
    for sets in tree["datasets"].values():
        for dataset in sets:
            dataset.pop("json", None)
    tree["code"]["backend"].pop("location", None)
    # Of a kernel's release only its kind: "Linux".
    tree["machine"]["system"] = str(tree["machine"].get("system", "")).split("-")[0]
    if outlines := measured_before(record := read_record(results)):
        tree["metrics"][dataset_of(record)][TASK] = outlines
    added = {"recipe_sha256": recipe_of_run(results), "weights_sha256": digest_of_run(results)}
    return tree | {key: value for key, value in added.items() if value}


def beside_files(results: Path, name: Path) -> Files:
    """Return what is kept beside the record of a run, but for its pictures.

    Args:
        results: of the run.
        name: where it is kept, in ``LEVEL/BACKEND``.
    """
    files: Files = {}
    if curve := read_curve(curve_file(results))[0]:
        files[kept_beside(name, "curves")] = curve_text(curve, identity(results) or "")
    if draws := draws_to_keep(read_record(results)):
        files[kept_beside(name, "draws", ".npz")] = draws
    return files


def picture_files(report: Report, names: Mapping[str, Path]) -> Files:
    """Return what is kept of the pictures of a table: of each row's first seed whose predictions can be read.

    Args:
        report: the table.
        names: the ``results`` of an origin to where its record is kept.
    """
    files: Files = {}
    scenes: dict[Place, Scene] = {}
    for row in report.rows:
        # Pictures of another version of the images would not be those of the detections.
        here = [
            r for r in report.runs(row) if data_origin(r.split)["sha256"] == r.data.get(r.split)
        ]
        for run in here:
            try:
                place = Place.of(run)
                if place not in scenes:
                    scenes[place] = read_scene(place)
                    files |= scene_files(place.dataset, scenes[place])
                found = read_predictions(run, scenes[place])
            except Unreadable:
                continue
            files[kept_beside(names[run.results], "pictured")] = predictions_text(run, found)
            break
    return files
