"""COCO JSON as Roboflow, CVAT, Label Studio, LabelMe's and other scripts export it, with what they leave out."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from maskrcnn_repro.data.check.records import LARGEST
from maskrcnn_repro.data.formats.contents import Contents, Losses, Outline, Picture, Shape
from maskrcnn_repro.data.formats.geometry import flat, rectangle
from maskrcnn_repro.data.formats.options import Options
from maskrcnn_repro.data.formats.reading import Number, Trees, get, names_beside, part_of
from maskrcnn_repro.errors import DataError

Record = dict[str, Any]
KEPT = ("keypoints", "num_keypoints")
"""Fields of an annotation that are kept as they are."""
KEPT_OF_CLASS = ("supercategory", "keypoints", "skeleton")


def knows(tree: Any) -> bool:
    """Whether a JSON is of this format."""
    return isinstance(tree, dict) and isinstance(tree.get("images"), list) and "categories" in tree


def read(files: Iterable[Path], trees: Trees, options: Options, losses: Losses) -> Contents:
    """Return the contents of COCO files; several are the parts of one set, by the names of files or folders.

    An object that two files of a part have, as COCO's instances and person keypoints do, is one, with what either says.

    Raises:
        DataError: a file is broken.
    """
    contents = Contents([])
    shapes: dict[tuple[Any, ...], Shape] = {}
    for file in files:
        part = part_of(file.stem) or part_of(file.parent.name)
        _read_file(file, trees.read(file), part, contents, shapes, losses)
    return contents


def _read_file(
    file: Path,
    tree: Any,
    part: str,
    contents: Contents,
    shapes: dict[tuple[Any, ...], Shape],
    losses: Losses,
) -> None:
    """Add pictures and classes; ``shapes`` are those of the files before, by part, image, class and id."""
    numbered: dict[tuple[Any, ...], Shape] = {}
    names = _classes(file, get(tree, "categories", list, str(file)), contents)
    pictures: dict[str, Picture] = {}
    for index, record in enumerate(get(tree, "images", list, str(file))):
        place = f"{file.name}: images[{index}]"
        key = str(get(record, "id", (int, str), place))
        if key in pictures:
            raise DataError(f"{place}: its id {key!r} is that of another image; number them anew.")
        pictures[key] = _picture(record, place, part, file)
    for index, record in enumerate(get(tree, "annotations", list, str(file), [])):
        place = f"{file.name}: annotations[{index}]"
        picture = pictures.get(str(get(record, "image_id", (int, str), place)))
        name = names.get(str(get(record, "category_id", (int, str), place)))
        if picture is None or name is None:
            field = "image_id" if picture is None else "category_id"
            raise DataError(f"{place}: its {field} {record[field]!r} does not exist in the file.")
        if (outline := _outline(record, place, losses)) is not None:
            crowd = get(record, "iscrowd", (int, bool), place, 0) == 1
            number = record.get("id")
            extra = {field: record[field] for field in KEPT if field in record}
            shape = Shape(
                name, outline, place, crowd, number if type(number) is int else None, extra
            )
            identity = (part, picture.names[0], name, shape.id)
            earlier = shapes.get(identity)
            if earlier is not None and earlier.outline == outline:
                earlier.extra |= extra
                continue
            picture.shapes.append(shape)
            if shape.id is not None:
                numbered[identity] = shape
    shapes |= numbered
    contents.pictures += pictures.values()


def _classes(file: Path, records: list[Any], contents: Contents) -> dict[str, str]:
    """Add the classes, and return id -> name."""
    names: dict[str, str] = {}
    for index, record in enumerate(records):
        place = f"{file.name}: categories[{index}]"
        name, key = get(record, "name", str, place), get(record, "id", (int, str), place)
        if names.setdefault(str(key), name) != name:
            raise DataError(
                f"{place}: its id {key!r} is that of {names[str(key)]!r}; number them anew."
            )
        fields = {field: record[field] for field in KEPT_OF_CLASS if record.get(field) is not None}
        contents.classes[name] = {"id": key, **fields, **contents.classes.get(name, {})}
    return names


def _picture(record: Record, place: str, part: str, file: Path) -> Picture:
    width, height = (get(record, side, Number, place, 0) for side in ("width", "height"))
    names = names_beside(file, get(record, "file_name", str, place))
    number = record["id"] if type(record["id"]) is int else None
    size = (int(width), int(height)) if 0 < width < 2**31 and 0 < height < 2**31 else None
    return Picture(names, place, size=size, part=part, id=number)


def _outline(record: Record, place: str, losses: Losses) -> Outline | None:
    """Return the outline of an annotation; that of its box where it has no other."""
    outline = record.get("segmentation")
    if isinstance(outline, list | dict) and outline and outline != [[]]:
        return outline
    box = get(record, "bbox", list, place, [])
    if len(box) != 4 or not all(type(v) in Number and abs(v) < LARGEST for v in box):
        losses.add("outline", f"{place}: neither an outline nor a box")
        return None
    losses.add("box", place)
    return flat(rectangle(box[0], box[1], box[0] + box[2], box[1] + box[3]))
