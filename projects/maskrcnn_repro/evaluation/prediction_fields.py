"""What predictions of a COCO results file must hold, checked without the C code that trusts it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from maskrcnn_repro.data.check.findings import shorten
from maskrcnn_repro.data.check.outlines import NUMBERS, Defective, are_finite, bounds_of
from maskrcnn_repro.errors import DataError

from pycocotools.coco import COCO


def check_field(path: Path, entries: Iterable[Mapping[str, Any]], field: str, truth: COCO) -> None:
    """Raise DataError unless a field of each prediction is what COCO's evaluation can read.

    Args:
        path: of the results file, which begins the message.
        entries: of the file, for images of the data set; each has the field.
        field: ``bbox`` (four finite numbers), ``segmentation`` (polygons, or an RLE of the image's size) or ``keypoints``
            (as many finite numbers as an object of the data set has).
        truth: the data set.
    """
    objects = truth.dataset.get("annotations", ())
    posed = {len(a["keypoints"]) for a in objects if a.get("keypoints")}
    lengths = {4} if field == "bbox" else posed
    for entry in entries:
        value, name = entry[field], f"a prediction for image {entry['image_id']}"
        if field == "segmentation":
            problem = _find_defect(value, name, truth.imgs[entry["image_id"]])
        else:
            problem = _find_other_length(value, f"the {field} of {name}", lengths)
        if problem:
            raise DataError(f"{path}: {problem}.")


def is_number(value: Any) -> bool:
    """Whether a value of a JSON file is a finite number; True and False are none."""
    return type(value) in NUMBERS and are_finite([value])


def _find_other_length(value: Any, name: str, lengths: Collection[int]) -> str:
    """Return how a value differs from a list of finite numbers of one of these lengths, empty if it does not."""
    sized = isinstance(value, list) and len(value) in lengths
    if sized and set(map(type, value)) <= NUMBERS and are_finite(value):
        return ""
    wanted = " or ".join(map(str, sorted(lengths))) or "0"
    return f"{name} is {shorten(value)}, not a list of {wanted} finite numbers"


def _find_defect(outline: Any, name: str, image: Mapping[str, Any]) -> str:
    """Return what is wrong with an outline, empty if nothing is; a polygon may enclose no area."""
    if not outline:
        return f"the segmentation of {name} is empty"
    try:
        bounds_of(outline, image["width"], image["height"])
    except Defective as defect:
        return "" if defect.code == "outline-no-area" else defect.says(name)
    return ""
