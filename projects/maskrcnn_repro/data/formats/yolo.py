"""YOLO labels: data.yaml (or classes.txt), and for each image a text file of classes and outlines in fractions.

Of poses, which have a box and keypoints in place of an outline, the boxes are read. Not read with supervision: it makes masks of all outlines of an image at once, of whole pixels.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from maskrcnn_repro.data.check.findings import shorten
from maskrcnn_repro.data.formats.contents import Contents, Losses, Picture, Shape
from maskrcnn_repro.data.formats.geometry import flat, rectangle
from maskrcnn_repro.data.formats.image_folder import SUFFIXES, parts_of
from maskrcnn_repro.data.formats.options import Options
from maskrcnn_repro.data.formats.reading import Trees, files_below, get, read_text
from maskrcnn_repro.errors import DataError

import yaml

PARTS = ("train", "val", "test")
ENDINGS = (".yaml", ".yml")
LARGEST_YAML = 1 << 20


class _Words(yaml.SafeLoader):
    """Reads every word as it stands: a class ``no`` is not False, and ``1e3`` not 1000.0."""

    yaml_implicit_resolvers = {
        first: [(tag, form) for tag, form in rules if tag.endswith(":null")]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def description(source: Path) -> Path | None:
    """Return the file of a data set that names its classes: data.yaml, another YAML, or classes.txt."""
    if source.is_file():
        return source if source.suffix.lower() in ENDINGS else None
    for path in (source / "data.yaml", *sorted(source.glob("*.y*ml"))):
        if path.is_file() and "names" in read_text(path):
            return path
    listed = source / "classes.txt"
    return listed if listed.is_file() and (source / "labels").is_dir() else None


def read(files: Iterable[Path], trees: Trees, options: Options, losses: Losses) -> Contents:
    """Return the contents of a YOLO data set.

    Raises:
        DataError: a file is broken, or a folder that it names does not exist.
    """
    (source,) = files
    file = description(source)
    if file is None:
        raise DataError(
            f"{source} has neither a YAML file with 'names' nor classes.txt and labels/."
        )
    keypoints = 0
    if file.name == "classes.txt":
        names = [line.strip() for line in read_text(file).splitlines() if line.strip()]
        folders = {"": [file.parent / "images"]}
    else:
        tree = _tree(file)
        names, keypoints = _names(tree, file), _count_keypoint_numbers(tree, file)
        folders = {part: list(_folders(tree, part, file)) for part in PARTS}
    contents = Contents([], {name: {} for name in names})
    for part, places in folders.items():
        for place in places:
            contents.pictures += _pictures(place, part, names, keypoints, losses)
    if not any(folders.values()):
        raise DataError(f"{file} names no images: it has none of 'train', 'val' and 'test'.")
    return contents


def _tree(file: Path) -> dict[str, Any]:
    text = read_text(file)
    if len(text) > LARGEST_YAML:
        raise DataError(f"{file} has {len(text)} characters, more than {LARGEST_YAML}.")
    try:
        # An alias may unfold to any size, and no list of names needs one.
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
            raise DataError(f"{file} has a YAML alias (*), which is refused.")
        tree = yaml.load(text, _Words)
    except DataError:
        raise
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise DataError(f"{file} is no YAML: {error}.") from error
    if not isinstance(tree, dict):
        raise DataError(f"{file} holds {shorten(tree)}, not keys and values.")
    return tree


def _names(tree: dict[str, Any], file: Path) -> list[str]:
    names = get(tree, "names", (list, dict), str(file))
    if isinstance(names, dict):
        numbers = [str(number) for number in range(len(names))]
        if set(names) != set(numbers):
            raise DataError(
                f"{file}: 'names' numbers its classes {shorten(list(names))}, not from 0."
            )
        names = [names[number] for number in numbers]
    if not names or not all(isinstance(name, str) for name in names):
        raise DataError(f"{file}: 'names' is {shorten(names)}, not a list of names.")
    return [name.strip() for name in names]


def _count_keypoint_numbers(tree: dict[str, Any], file: Path) -> int:
    """Return how many numbers of keypoints follow the box of an object; 0 where labels are no poses."""
    shape = get(tree, "kpt_shape", list, str(file), [])
    if not shape:
        return 0
    try:
        count, values = map(int, shape)
    except (TypeError, ValueError):
        count, values = 0, 0
    if count < 1 or values not in (2, 3):
        raise DataError(
            f"{file}: 'kpt_shape' is {shorten(shape)}, not a number of keypoints and 2 or 3 numbers of each."
        )
    return count * values


def _folders(tree: dict[str, Any], part: str, file: Path) -> Iterator[Path]:
    """Yield the folders or lists of images of a part; a test part that was not exported is none."""
    entries = get(tree, part, (str, list), str(file), [])
    if part == "val" and not entries:
        entries = get(tree, "valid", (str, list), str(file), [])
    for entry in [entries] if isinstance(entries, str) else entries:
        if not isinstance(entry, str):
            raise DataError(f"{file}: {part!r} is {shorten(entry)}, not the name of a folder.")
        path = _find_folder(file.parent, get(tree, "path", str, str(file), ""), entry)
        if path is not None:
            yield path
        elif part != "test":
            raise DataError(
                f"{file}: {part!r} is {entry!r}, which does not exist below {file.parent}."
            )


def _find_folder(base: Path, root: str, entry: str) -> Path | None:
    """Return where a folder is: as YOLO looks for it, or by the end of its path, as paths of other machines fail."""
    parts = parts_of(entry)
    tries = [
        base / root / entry,
        base / entry,
        *(base.joinpath(*parts[i:]) for i in range(len(parts))),
    ]
    return next((path for path in tries if parts and os.path.exists(path)), None)


def _pictures(
    place: Path, part: str, names: list[str], keypoints: int, losses: Losses
) -> Iterator[Picture]:
    labels: set[Path] = set()
    for image in _images(place):
        file = _label_file(image)
        labels.add(file)
        shapes = list(_shapes(file, names, keypoints, losses)) if os.path.isfile(file) else []
        yield Picture([str(image.absolute())], file.name, shapes, part=part, fractions=True)
    folder = _label_file(place / "x").parent
    if place.is_dir() and folder.is_dir():
        for file in files_below(folder, frozenset({".txt"})):
            # Not a note beside the labels: these begin with the number of a class.
            if file not in labels and read_text(file)[:1].isdigit():
                losses.add("label-alone", str(file))


def _images(place: Path) -> Iterator[Path]:
    if place.is_dir():
        yield from files_below(place, SUFFIXES)
        return
    for line in read_text(place).splitlines():
        if line.strip():
            # As the list has it: relative to itself, to its data set, or of another machine.
            found = _find_folder(place.parent, "", line.strip())
            yield found or place.parent / line.strip()


def _label_file(image: Path) -> Path:
    """Return the label file of an image: the last folder ``images`` becomes ``labels``."""
    parts = list(image.parts)
    places = [i for i, name in enumerate(parts[:-1]) if name.lower() == "images"]
    if places:
        parts[places[-1]] = "labels"
    return Path(*parts).with_suffix(".txt")


def _shapes(file: Path, names: list[str], keypoints: int, losses: Losses) -> Iterator[Shape]:
    for index, line in enumerate(read_text(file).splitlines()):
        place, words = f"{file.name}: line {index + 1}", line.split()
        if not words:
            continue
        try:
            number, *values = map(float, words)
        except ValueError as error:
            raise DataError(f"{place}: {shorten(line)} is no line of numbers.") from error
        if not (number.is_integer() and 0 <= number < len(names)):
            raise DataError(f"{place}: its class {words[0]} is none of 0 to {len(names) - 1}.")
        if keypoints and len(values) != 4 + keypoints:
            raise DataError(
                f"{place} has {len(values)} numbers behind its class, not the {4 + keypoints} of a box and its keypoints "
                "('kpt_shape')."
            )
        if keypoints:
            losses.add("keypoints", place)
            del values[4:]
        if len(values) == 4:
            x, y, width, height = values
            losses.add("box", place)
            outline = flat(rectangle(x - width / 2, y - height / 2, x + width / 2, y + height / 2))
        elif len(values) == 5:
            losses.add("other-kind", f"{place}: a predicted box with its score")
            continue
        else:
            outline = [values]
        yield Shape(names[int(number)], outline, place)
