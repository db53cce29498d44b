"""``maskrcnn export``: a trained model as a file that runs without this package."""

from __future__ import annotations

import argparse
from pathlib import Path

from maskrcnn_repro.checkpoint.model_source import find_model
from maskrcnn_repro.errors import ConfigError
from maskrcnn_repro.export.accuracy import LabelledSet
from maskrcnn_repro.export.exporting import Exporter, check_target
from maskrcnn_repro.export.formats import WRITERS
from maskrcnn_repro.export.metadata import Target
from maskrcnn_repro.export.verify import Comparison
from maskrcnn_repro.inference.exported import ExportedDetector, open_exported

CALIBRATION = 64
"""Pictures that tell the ranges of int8."""


def run(args: argparse.Namespace) -> None:
    """Export a model, say how the file compares with it, and measure the AP of both where a set is given.

    Raises:
        ConfigError: an option has a value that cannot be.
        ExportError: see :class:`Exporter`.
    """
    source = find_model(args.model)
    if args.precision == "int8" and not args.calibrate:
        raise ConfigError(
            "--precision int8 needs --calibrate JSON IMAGES: pictures tell it the ranges of activations."
        )
    threshold = args.threshold
    if threshold is None:
        threshold = float(source.cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST)
    target = Target(args.format, args.precision, threshold, args.pasted, args.opset)
    file = args.out or default_file(source.weights, target)
    check_target(target, file)
    exporter = Exporter(source, target, args.images)
    labelled = LabelledSet(exporter.source, *args.calibrate) if args.calibrate else None
    comparison = exporter.write(file, labelled.pictures(CALIBRATION) if labelled else ())
    _report(file, target, comparison, len(exporter.pictures))
    if labelled:
        exported = ExportedDetector(open_exported(file, trust=True))
        model_ap = labelled.average_precision(exporter.model)
        for task, points in labelled.average_precision(exported).items():
            print(f"AP {task}: {points:.1f}, of the model {model_ap[task]:.1f} (--calibrate)")


def default_file(weights: Path, target: Target) -> Path:
    """Return a file in the working directory, named after the weights."""
    precision = "" if target.precision == "fp32" else f".{target.precision}"
    return Path(f"{weights.stem}{precision}{WRITERS[target.format][0]}")


def _report(file: Path, target: Target, comparison: Comparison, pictures: int) -> None:
    parts = [file, file.with_suffix(".bin")] if target.format == "openvino" else [file]
    size = sum(part.stat().st_size for part in parts)
    model, exported = (1000 * seconds / pictures for seconds in comparison.seconds)
    print(f"{file}: {target.format} {target.precision}, {size / 1e6:.1f} MB")
    if target.precision == "fp32":
        print(f"compared with the model on {pictures} pictures: {comparison}")
    else:
        print(
            f"{comparison.matched} of {comparison.detections} detections on {pictures} pictures are the model's to "
            "within 0.01 px and 1e-4; what the others cost, the AP tells (--calibrate)."
        )
    print(f"time of a picture: {exported:.0f} ms, of the model {model:.0f} ms")
    if not comparison.detections:
        print("The model detects nothing in them; name pictures with its objects (--images).")
