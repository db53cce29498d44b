"""VGG Image Annotator (VIA 1 and 2): the project or its annotations as JSON, or as CSV."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from maskrcnn_repro.data.check.findings import shorten
from maskrcnn_repro.data.check.outlines import Defective
from maskrcnn_repro.data.formats.contents import Contents, Losses, Outline, Picture, Shape
from maskrcnn_repro.data.formats.geometry import ellipse, flat, reason_of, rectangle
from maskrcnn_repro.data.formats.options import Options
from maskrcnn_repro.data.formats.reading import (
    Number,
    Trees,
    first_text,
    get,
    names_beside,
    part_of,
    points_of,
    read_text,
)
from maskrcnn_repro.errors import DataError, did_you_mean

USUAL = ("class", "label", "name", "type", "category", "object")
"""Attributes that name the class where there are several."""
OPEN = {"polyline": "line", "point": "point"}
Region = tuple[str, Any, dict[str, Any]]
"""Place, shape attributes, region attributes."""


def knows(tree: Any) -> bool:
    """Whether a JSON is of this format."""
    if not isinstance(tree, dict):
        return False
    first = next(iter(tree.values()), None)
    image = isinstance(first, dict) and "regions" in first and "filename" in first
    return image or "_via_img_metadata" in tree


def knows_csv(file: Path) -> bool:
    """Whether a CSV file is of this format, by its first line."""
    return "region_shape_attributes" in first_text(file, 10_000).partition("\n")[0]


def read(files: Iterable[Path], trees: Trees, options: Options, losses: Losses) -> Contents:
    """Return the contents of VIA's files.

    Raises:
        DataError: a file is broken, or it is not clear which attribute names the class.
    """
    images: list[tuple[Picture, list[Region]]] = []
    for file in files:
        records = _of_csv(file) if file.suffix.lower() == ".csv" else _of_json(file, trees)
        images += [
            (Picture(names_beside(file, name), file.name, part=part_of(file.parent.name)), rs)
            for name, rs in records
        ]
    regions = [region for _, rs in images for region in rs]
    attribute = _attribute(regions, options.attribute)
    for picture, rs in images:
        for place, shape, attributes in rs:
            if (kind := get(shape, "name", str, place)) in OPEN:
                losses.add(OPEN[kind], place)
                continue
            label = _label(attributes, attribute, options, place, losses)
            outline = label and _outline(shape, place, losses)
            if label and outline:
                picture.shapes.append(Shape(label, outline, place))
    return Contents([picture for picture, _ in images])


def _of_json(file: Path, trees: Trees) -> Iterator[tuple[str, list[Region]]]:
    tree = trees.read(file)
    records = get(tree, "_via_img_metadata", dict, str(file), tree)
    for key, record in records.items():
        place = f"{file.name}: {shorten(key)}"
        regions = get(record, "regions", (list, dict), place, [])
        regions = list(regions.values()) if isinstance(regions, dict) else regions
        yield (
            get(record, "filename", str, place),
            [
                (
                    f"{place}, region {index + 1}",
                    get(region, "shape_attributes", dict, f"{place}, region {index + 1}"),
                    get(region, "region_attributes", dict, place, {}),
                )
                for index, region in enumerate(regions)
            ],
        )


def _of_csv(file: Path) -> Iterator[tuple[str, list[Region]]]:
    regions: dict[str, list[Region]] = {}
    try:
        for row in csv.DictReader(io.StringIO(read_text(file).removeprefix("#"))):
            place = f"{file.name}: region {row['region_id']} of {shorten(row['filename'])}"
            if None in row.values():
                raise DataError(f"{place}: its row is cut off; export the file again.")
            shape, attributes = (
                json.loads(row[f"region_{what}attributes"] or "{}") for what in ("shape_", "")
            )
            if not isinstance(shape, dict) or not isinstance(attributes, dict):
                raise DataError(f"{place}: its attributes are no objects.")
            of_image = regions.setdefault(row["filename"], [])
            if shape:  # an image without regions has a row, too
                of_image.append((place, shape, attributes))
    except (csv.Error, KeyError, TypeError, ValueError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{file} is no CSV of VIA: {error}; export it again.") from error
    yield from regions.items()


def _attribute(regions: list[Region], asked: str) -> str:
    """Return the attribute that names the class; empty if no region has any.

    Raises:
        DataError: there are several, none with a usual name, or not the one that was asked for.
    """
    names = list(dict.fromkeys(name for _, _, attributes in regions for name in attributes))
    if asked:
        if asked not in names:
            hint = did_you_mean(asked, names)
            raise DataError(f"--attribute {asked!r}: no region has it.{hint} There are {names}.")
        return asked
    usual = [name for word in USUAL for name in names if name.lower() == word]
    if len(names) > 1 and not usual:
        raise DataError(
            f"Which attribute of a region names its class? --attribute NAME of {names}."
        )
    return (usual or names or [""])[0]


def _label(
    attributes: dict[str, Any], name: str, options: Options, place: str, losses: Losses
) -> str:
    if not name:
        return options.class_name
    value = attributes.get(name, "")
    if isinstance(value, dict):  # checkboxes
        ticked = [word for word, tick in value.items() if tick]
        if len(ticked) > 1:
            losses.add("classes", place)
            return ""
        value = ticked[0] if ticked else ""
    label = str(value).strip() if isinstance(value, str | int | float) else ""
    if not label:
        losses.add("no-class", place)
    return label


def _outline(shape: dict[str, Any], place: str, losses: Losses) -> Outline | None:
    kind = get(shape, "name", str, place)

    def number(name: str) -> float:
        value: float = get(shape, name, Number, place)
        return value

    try:
        if kind == "polygon":
            xs, ys = (get(shape, f"all_points_{axis}", list, place) for axis in "xy")
            if len(xs) != len(ys):
                raise Defective("outline-odd", value=len(xs) + len(ys))
            return flat(points_of([list(pair) for pair in zip(xs, ys, strict=True)], place))
        if kind == "rect":
            losses.add("box", place)
            left, top = number("x"), number("y")
            return flat(rectangle(left, top, left + number("width"), top + number("height")))
        if kind in ("circle", "ellipse"):
            radii = [number("r")] * 2 if kind == "circle" else [number("rx"), number("ry")]
            turn = math.degrees(get(shape, "theta", Number, place, 0))
            outline = flat(ellipse(number("cx"), number("cy"), radii[0], radii[1], turn))
            losses.add("round", place)
            return outline
    except Defective as defect:
        losses.add("outline", reason_of(defect, place))
        return None
    losses.add("other-kind", f"{place}: {shorten(kind)}")
    return None
