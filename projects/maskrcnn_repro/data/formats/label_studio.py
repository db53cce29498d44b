"""Label Studio: its JSON of tasks, with polygons, boxes, ellipses and brush strokes in percent of the image."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from maskrcnn_repro.data.check.findings import shorten
from maskrcnn_repro.data.check.outlines import Defective
from maskrcnn_repro.data.formats.brush import brush_mask
from maskrcnn_repro.data.formats.contents import Contents, Decoder, Losses, Outline, Picture, Shape
from maskrcnn_repro.data.formats.geometry import (
    check_pixels,
    ellipse,
    flat,
    mask_outline,
    reason_of,
    rectangle,
    rotate_points,
)
from maskrcnn_repro.data.formats.image_folder import SUFFIXES
from maskrcnn_repro.data.formats.options import Options
from maskrcnn_repro.data.formats.reading import Number, Trees, get, part_of, points_of
from maskrcnn_repro.errors import DataError

Record = dict[str, Any]
NO_SHAPES = ("choices", "textarea", "rating", "number", "relation", "taxonomy", "pairwise")
"""Types of results about a whole image, or about an object that has an outline of its own."""


def knows(tree: Any) -> bool:
    """Whether a JSON is of this format."""
    first = tree[0] if isinstance(tree, list) and tree else None
    return (
        isinstance(first, dict)
        and "data" in first
        and bool({"annotations", "predictions"} & first.keys())
    )


def read(files: Iterable[Path], trees: Trees, options: Options, losses: Losses) -> Contents:
    """Return the contents of Label Studio's exports.

    Of several annotations of a task the newest that was not cancelled is taken; one without a date is the oldest.

    Raises:
        DataError: a file is broken, or nothing in it was annotated.
    """
    pictures = []
    for file in files:
        for index, task in enumerate(trees.read(file)):
            place = f"{file.name}: task {index + 1}"
            results = _results(task, place, options, losses)
            if results is not None:
                pictures.append(_picture(task, results, place, part_of(file.parent.name), losses))
    if not pictures and "unlabelled" in losses:
        raise DataError(
            f"{file} has predictions alone, or nothing: correct and submit them in Label Studio, or take them as "
            "they are with --predictions."
        )
    return Contents(pictures)


def _results(task: Any, place: str, options: Options, losses: Losses) -> list[Any] | None:
    """Return the results of the annotation that counts; None where there is none."""
    given = [
        record
        for record in get(task, "annotations", list, place, [])
        if not get(record, "was_cancelled", bool, place, False)
    ]
    if not given and options.predictions:
        given = get(task, "predictions", list, place, [])[:1]
    if not given:
        losses.add("unlabelled", place)
        return None
    if len(given) > 1:
        losses.add("other-annotator", place)
    results: list[tuple[str, list[Any]]] = []
    for record in given:
        result = get(record, "result", list, place)
        date = str(record.get("updated_at") or record.get("created_at") or "")
        results.append((date, result))
    return max(results, key=lambda dated: dated[0])[1]


def _picture(task: Record, results: list[Any], place: str, part: str, losses: Losses) -> Picture:
    picture = Picture(list(_names(task, place)), place, part=part)
    labelled = {
        str(r.get("id"))
        for r in results
        if isinstance(r, dict) and _label(r.get("value")) is not None
    }
    for number, result in enumerate(results):
        where = f"{place}, result {number + 1}"
        kind = get(result, "type", str, where)
        value = get(result, "value", dict, where, {})
        # With a separate control for labels an outline stands there once more, without its label.
        twice = "id" in result and _label(value) is None and str(result["id"]) in labelled
        if kind in NO_SHAPES or twice:
            continue
        size = tuple(int(get(result, f"original_{s}", Number, where)) for s in ("width", "height"))
        picture.size = picture.size or (size[0], size[1])
        if shape := _shape(result, value, (size[0], size[1]), where, losses):
            picture.shapes.append(shape)
    return picture


def _names(task: Record, place: str) -> Iterator[str]:
    """Yield what the image of a task may be called, from its address and from that of the upload."""
    data = get(task, "data", dict, place)
    texts = [text for text in data.values() if isinstance(text, str)]
    usual = [data[key] for key in ("image", "img") if isinstance(data.get(key), str)]
    images = [text for text in texts if Path(urlsplit(text).path).suffix.lower() in SUFFIXES]
    uploaded = get(task, "file_upload", str, place, "")
    words = [*usual, *images, *([uploaded] if uploaded else [])]
    if not words:
        raise DataError(f"{place}: its data names no image: {shorten(data)}.")
    for word in words:
        address = urlsplit(word)
        path = parse_qs(address.query).get("d", [unquote(address.path)])[0]
        yield path
        # Eight hexadecimal digits stand before the name of an uploaded file.
        yield re.sub(r"^(.*/)?[0-9a-f]{8}-", "", path)


def _label(value: Any) -> list[Any] | None:
    """Return the list of labels of a result; None if it has none."""
    if not isinstance(value, dict):
        return None
    lists = [v for key, v in value.items() if key.endswith("labels") and isinstance(v, list) and v]
    return lists[0] if lists else None


def _shape(
    result: Record, value: Record, size: tuple[int, int], place: str, losses: Losses
) -> Shape | None:
    labels = _label(value)
    if labels is None or len(labels) > 1:
        losses.add("classes" if labels else "no-class", place)
        return None
    if get(result, "image_rotation", Number, place, 0):
        losses.add("rotated", place)
        return None
    try:
        check_pixels(*size)
        outline = _outline(value, size, place, losses)
    except Defective as defect:
        losses.add("outline", reason_of(defect, place))
        return None
    return Shape(str(labels[0]), outline, place) if outline else None


def _brush(rle: list[Any], place: str, size: tuple[int, int]) -> Outline:
    return mask_outline(brush_mask(rle, size, place), 0, 0, size)


def _outline(
    value: Record, size: tuple[int, int], place: str, losses: Losses
) -> Outline | Decoder | None:
    """Return the outline of a result; which kind it is follows from its fields, the type may be that of labels."""
    across, down = size[0] / 100, size[1] / 100

    def number(name: str) -> float:
        amount: float = get(value, name, Number, place)
        return amount

    if "points" in value:
        points = points_of(get(value, "points", list, place), place)
        return flat([(x * across, y * down) for x, y in points])
    if "rle" in value:
        return partial(_brush, get(value, "rle", list, place), place)
    turn = get(value, "rotation", Number, place, 0)
    if "radiusX" in value:
        losses.add("round", place)
        x, y = number("x") * across, number("y") * down
        return flat(ellipse(x, y, number("radiusX") * across, number("radiusY") * down, turn))
    if "width" in value and "height" in value:
        losses.add("box", place)
        left, top = number("x") * across, number("y") * down
        right, bottom = left + number("width") * across, top + number("height") * down
        return flat(rotate_points(rectangle(left, top, right, bottom), (left, top), turn))
    code = "point" if {"x", "y"} <= value.keys() else "other-kind"
    losses.add(code, place)
    return None
