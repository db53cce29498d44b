"""CVAT for images 1.1: one XML with polygons, boxes, ellipses and masks."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

from maskrcnn_repro.data.check.findings import shorten
from maskrcnn_repro.data.check.outlines import Defective
from maskrcnn_repro.data.formats.contents import Contents, Decoder, Losses, Outline, Picture, Shape
from maskrcnn_repro.data.formats.geometry import (
    check_within,
    ellipse,
    flat,
    mask_outline,
    reason_of,
    rectangle,
    rotate_points,
)
from maskrcnn_repro.data.formats.options import Options
from maskrcnn_repro.data.formats.parts import join_groups
from maskrcnn_repro.data.formats.reading import Trees, check_file, first_text, part_of
from maskrcnn_repro.errors import DataError

import numpy as np

SHAPES = ("polygon", "box", "ellipse", "mask")
OPEN = {"polyline": "line", "points": "point", "cuboid": "solid", "skeleton": "solid"}
_WINDOW = 1 << 16
_LONGEST = 1 << 27
"""Characters of a text in the file."""
Attributes = dict[str, str]


def knows_xml(file: Path) -> bool:
    """Whether an XML file is of this format, by its first element."""
    return "<annotations" in first_text(file, 4096)


def read(files: Iterable[Path], trees: Trees, options: Options, losses: Losses) -> Contents:
    """Return the contents of CVAT's files.

    Raises:
        DataError: a file is broken, has a document type, or is of videos.
    """
    contents = Contents([])
    for file in files:
        _parse(file, _Target(file, contents, losses))
    return contents


def _parse(file: Path, target: _Target) -> None:
    check_file(file)
    parser = ElementTree.XMLParser(target=target)
    try:
        with open(file, "rb") as stream:
            while window := stream.read(_WINDOW):
                parser.feed(window)
        parser.close()
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}.") from error
    except (ElementTree.ParseError, LookupError) as error:  # LookupError: its encoding
        raise DataError(f"{file} is no XML: {error}.") from error


class _Target:
    """Takes the events of the parser and keeps pictures alone; nothing of a document type, which may expand."""

    def __init__(self, file: Path, contents: Contents, losses: Losses) -> None:
        self.file, self.contents, self.losses = file, contents, losses
        self.path: list[str] = []
        self.text = ""
        self.picture: Picture | None = None
        self.shapes: list[tuple[Shape, str]] = []
        self.count = 0

    def doctype(self, name: str, public: str | None, system: str | None) -> None:
        raise DataError(f"{self.file} has a document type (DOCTYPE), which CVAT never writes.")

    def start(self, tag: str, attributes: Attributes) -> None:
        self.path.append(tag)
        self.text = ""
        if len(self.path) == 1 and tag != "annotations":
            raise DataError(
                f"{self.file} begins with <{tag[:80]}>, not <annotations> as CVAT's files."
            )
        if tag == "track":
            raise DataError(
                f"{self.file} is 'CVAT for video'; export the task as 'CVAT for images 1.1'."
            )
        if tag == "image" and len(self.path) == 2:
            self._open(attributes)
        elif self.picture is not None and len(self.path) == 3 and tag != "tag":
            self._add(tag, attributes)

    def end(self, tag: str) -> None:
        self.path.pop()
        if tag == "image" and self.picture is not None and len(self.path) == 1:
            self.picture.shapes = join_groups(self.shapes, self.losses)
            self.contents.pictures.append(self.picture)
            self.picture = None
        elif tag == "name" and self.path[-2:] == ["labels", "label"] and self.text.strip():
            self.contents.classes.setdefault(self.text.strip(), {})

    def data(self, text: str) -> None:
        if self.path[-1:] == ["name"]:
            self.text += text
            if len(self.text) > _LONGEST:
                raise DataError(f"{self.file}: the name of a label is too long.")

    def close(self) -> None:
        """Do nothing: the pictures are in the contents."""

    def _open(self, attributes: Attributes) -> None:
        where = [attributes.get("subset"), attributes.get("name")]
        place = f"{self.file.name}: image {'/'.join(filter(None, where))}"
        size = tuple(int(_number(attributes, side, place)) for side in ("width", "height"))
        if "name" not in attributes:
            raise DataError(f"{place} has no name.")
        part = part_of(attributes.get("subset", ""))
        names = [attributes["name"]]
        if subset := attributes.get("subset"):
            # So CVAT lays images of a project out.
            names = [f"images/{subset}/{names[0]}", f"{subset}/{names[0]}", *names]
        self.picture = Picture(names, place, size=(size[0], size[1]), part=part)
        self.shapes, self.count = [], 0

    def _add(self, tag: str, attributes: Attributes) -> None:
        assert self.picture is not None
        self.count += 1
        place = f"{self.picture.place}, shape {self.count}"
        label = attributes.get("label", "").strip()
        if tag in OPEN or tag not in SHAPES:
            self.losses.add(OPEN.get(tag, "other-kind"), place)
        elif not label:
            self.losses.add("no-class", place)
        else:
            try:
                outline = self._outline(tag, attributes, place)
            except Defective as defect:
                self.losses.add("outline", reason_of(defect, place))
                return
            group = attributes.get("group_id", "0")
            self.shapes.append((Shape(label, outline, place), "" if group == "0" else group))

    def _outline(self, tag: str, attributes: Attributes, place: str) -> Outline | Decoder:
        def number(name: str, default: str | None = None) -> float:
            return _number(attributes, name, place, default)

        assert self.picture is not None
        if tag == "polygon":
            return flat(_points(attributes.get("points", ""), place))
        if tag == "mask":
            return partial(_mask, dict(attributes), place)
        turn = number("rotation", "0")
        if tag == "ellipse":
            self.losses.add("round", place)
            return flat(ellipse(number("cx"), number("cy"), number("rx"), number("ry"), turn))
        self.losses.add("box", place)
        left, top, right, bottom = (number(name) for name in ("xtl", "ytl", "xbr", "ybr"))
        centre = ((left + right) / 2, (top + bottom) / 2)
        return flat(rotate_points(rectangle(left, top, right, bottom), centre, turn))


def _number(attributes: Attributes, name: str, place: str, default: str | None = None) -> float:
    text = attributes.get(name, default)
    try:
        value = float(text or "")
        if abs(value) < 2**53:
            return value
    except ValueError:
        pass
    raise DataError(f"{place}: {name!r} is {shorten(text)}, not a number of pixels.")


def _points(text: str, place: str) -> list[tuple[float, float]]:
    try:
        pairs = [point.split(",") for point in text.split(";") if point.strip()]
        return [(float(x), float(y)) for x, y in pairs]
    except ValueError as error:
        raise DataError(f"{place}: {shorten(text)} are no points x,y;x,y;...") from error


def _mask(attributes: Attributes, place: str, size: tuple[int, int]) -> Outline:
    """Return the outline of a mask: runs along the rows of its box, background first."""
    left, top, width, height = (
        int(_number(attributes, name, place)) for name in ("left", "top", "width", "height")
    )
    check_within(left, top, width, height, size)
    try:
        runs = [int(word) for word in attributes.get("rle", "").split(",")]
    except ValueError as error:
        raise DataError(f"{place}: its 'rle' is no list of whole numbers.") from error
    if min(runs) < 0 or sum(runs) != width * height:
        raise Defective("rle-counts-sum", value=sum(runs), pixels=width * height)
    values = np.zeros(len(runs), np.uint8)
    values[1::2] = 1
    return mask_outline(np.repeat(values, runs).reshape(height, width), left, top, size)
