"""Which files an analysis reads: those of a run, or a pair that the user names."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maskrcnn_repro.config.files import read_config_file
from maskrcnn_repro.config_history import value_of
from maskrcnn_repro.data.registry import register_generated
from maskrcnn_repro.errors import DataError, did_you_mean, listing

from detectron2.data import DatasetCatalog, MetadataCatalog

RESULTS = "coco_instances_results.json"
NO_DETECTORS = ("BackboneClassifier", "ProposalNetwork")
"""``MODEL.META_ARCHITECTURE`` of models whose evaluations write no detections."""


@dataclass(frozen=True)
class Source:
    """The files of one evaluation.

    Attributes:
        name: of the data set, or of the file of its objects.
        truth: the data set's COCO file.
        results: COCO results.
        images: folder of the images, or None to show none.
        run: the run folder, or None.
        record: the ``results.json`` of the run with metrics of this data set; empty without one.
        pixel_range: ``INPUT.PIXEL_RANGE`` of the run.
        oks_sigmas: one for each keypoint; empty where no run says them.
        others: data sets of the run that have predictions as well.
    """

    name: str
    truth: Path
    results: Path
    images: Path | None
    run: Path | None = None
    record: Mapping[str, Any] = field(default_factory=dict)
    pixel_range: Sequence[float] = ()
    oks_sigmas: Sequence[float] = ()
    others: Sequence[str] = ()


def run_source(run: Path, dataset: str | None = None) -> Source:
    """Return the files of a run folder.

    Args:
        run: with ``config.yaml`` and ``inference/NAME/coco_instances_results.json``.
        dataset: NAME; by default the first of ``DATASETS.TEST`` that has predictions.

    Raises:
        DataError: there are no predictions, or the data set's COCO file is unknown.
        ConfigError: the run's config cannot be read.
    """
    if not run.is_dir():
        raise DataError(f"{run} is no folder of a run; for files name --results and --truth.")
    written = sorted(path.parent.name for path in run.glob(f"inference/*/{RESULTS}"))
    config = run / "config.yaml"
    if not written:
        cure = f"`{shlex.join(['maskrcnn', 'eval', '--config-file', str(config), '--resume'])}` makes them"
        if not config.is_file():
            cure = "it has no config.yaml either, as the folder of a run has"
        elif value_of(read_config_file(config).tree, "MODEL.META_ARCHITECTURE") in NO_DETECTORS:
            cure = "its model finds no objects: name the run of a detector"
        raise DataError(f"{run} has no predictions (inference/*/{RESULTS}); {cure}.")
    tree = read_config_file(config).tree if config.is_file() else {}
    tested = [name for name in value_of(tree, "DATASETS.TEST") or () if name in written]
    name = dataset or (tested or written)[0]
    if name not in written:
        raise DataError(
            f"{run} has no predictions for data set {name!r}.{did_you_mean(name, written)} "
            f"It has some for {listing(written)}."
        )
    truth, images = _data_of(name, tree)
    return Source(
        name=name,
        truth=truth,
        results=run / "inference" / name / RESULTS,
        images=images,
        run=run,
        record=_record(run, name),
        pixel_range=value_of(tree, "INPUT.PIXEL_RANGE") or (),
        oks_sigmas=value_of(tree, "TEST.KEYPOINT_OKS_SIGMAS") or (),
        others=[other for other in written if other != name],
    )


def _data_of(name: str, tree: Mapping[str, Any]) -> tuple[Path, Path]:
    """Return the COCO file and the image folder of a data set."""
    cure = "name the files themselves with --results, --truth and --images"
    for own, json_file, root in value_of(tree, "DATASETS.CUSTOM") or ():
        if own == name:
            return _require_file(Path(json_file).expanduser(), name, cure), Path(root).expanduser()
    register_generated(name)
    if name not in DatasetCatalog:
        raise DataError(f"Data set {name!r} is not registered here; {cure}.")
    metadata = MetadataCatalog.get(name)
    file = metadata.get("given_json_file", metadata.get("json_file"))
    if file is None:
        raise DataError(f"Data set {name!r} has no COCO file; {cure}.")
    if not Path(file).is_file():
        DatasetCatalog.get(name)  # writes that of generated data
    return _require_file(Path(file), name, cure), Path(
        metadata.get("image_root", Path(file).parent)
    )


def _require_file(file: Path, name: str, cure: str) -> Path:
    if not file.is_file():
        raise DataError(f"The COCO file {file} of data set {name!r} does not exist here; {cure}.")
    return file


def _record(run: Path, name: str) -> Mapping[str, Any]:
    """Return the newest ``results.json`` of a run with metrics of a data set, or {}; an evaluation alone writes its own."""
    records = []
    for path in (run / "results.json", run / "inference/results.json"):
        with contextlib.suppress(OSError, ValueError, RecursionError):
            records.append(json.loads(path.read_text(encoding="utf-8")))
    records = [record for record in records if _has_metrics(record, name)]
    # Not by the time of the file, which a copy loses.
    return max(records, key=lambda record: str(record.get("written", "")), default={})


def _has_metrics(record: Any, name: str) -> bool:
    metrics = record.get("metrics") if isinstance(record, dict) else None
    return isinstance(metrics, dict) and isinstance(metrics.get(name), dict)
