"""Maps of instances as PNG: Pascal VOC's SegmentationObject beside SegmentationClass, or a folder of masks.

Not read with supervision, which reads Pascal VOC's XML files, not its maps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from maskrcnn_repro.data.check.images import header_of
from maskrcnn_repro.data.check.outlines import MAX_PIXELS
from maskrcnn_repro.data.formats.contents import Contents, Losses, Picture, Shape
from maskrcnn_repro.data.formats.geometry import label_outlines
from maskrcnn_repro.data.formats.options import Options
from maskrcnn_repro.data.formats.reading import Trees, files_below, read_text
from maskrcnn_repro.data.image_file import DEEP, ImageFiles, stored_values
from maskrcnn_repro.errors import DataError

import numpy as np

VOC = [
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
]
"""Pascal VOC's classes, in the order of their numbers."""
VOID = 0xE0E0C0
"""Colour of pixels that belong to nothing."""
_MASKS = frozenset({".png", ".tif", ".tiff", ".bmp"})


def colour(number: int) -> int:
    """Return the colour, 0xRRGGBB, of a number in Pascal VOC's palette: its bits by turns, the high ones first."""
    channels = [0, 0, 0]
    for bit in range(8):
        for channel in range(3):
            channels[channel] |= (number >> (3 * bit + channel) & 1) << (7 - bit)
    red, green, blue = channels
    return red << 16 | green << 8 | blue


def knows_voc(folder: Path) -> bool:
    """Whether a folder is laid out as Pascal VOC's."""
    return (folder / "SegmentationObject").is_dir() and (folder / "SegmentationClass").is_dir()


def knows_masks(folder: Path) -> bool:
    """Whether a folder has masks beside images."""
    return (folder / "masks").is_dir() and (folder / "images").is_dir()


def read_voc(files: Iterable[Path], trees: Trees, options: Options, losses: Losses) -> Contents:
    """Return the contents of a folder with SegmentationObject, SegmentationClass and JPEGImages.

    Classes are those of labelmap.txt, as CVAT exports it, else Pascal VOC's. Its lists ImageSets/Segmentation/train.txt
    and val.txt make parts.

    Raises:
        DataError: a file is broken, or a class has a colour that no name belongs to.
    """
    (source,) = files
    names = _colours(source)
    classes = [name for name in names.values() if name != "background"]
    contents = Contents([], {name: {} for name in classes})
    for part, file in _list_maps(source):
        objects, kinds = _pixels(file), _pixels(source / "SegmentationClass" / file.name)
        if objects.shape != kinds.shape:
            raise DataError(f"{file} and its map of classes have different sizes.")
        objects[objects == VOID] = 0
        picture = Picture([file.stem], file.name, size=objects.shape[::-1], part=part)
        values = kinds_of(objects, kinds)
        for number, outline in label_outlines(objects).items():
            place = f"{file.name}: object {number:06x}"
            if number not in values:
                losses.add("no-class", place)
                continue
            value = values[number]
            if value not in names:
                raise DataError(
                    f"{place}: no class has the colour {value:06x} (RGB); add labelmap.txt."
                )
            picture.shapes.append(Shape(names[value], outline, place))
        contents.pictures.append(picture)
    return contents


def kinds_of(objects: np.ndarray, kinds: np.ndarray) -> dict[int, int]:
    """Return of each object the value that most of its pixels have in the map of classes, in one pass over both.

    Pixels of 0 and VOID there do not count, and an object of such alone is left out; of values with equally many
    pixels it is the smallest.
    """
    maps = objects.ravel(), kinds.ravel()
    changes = np.flatnonzero((maps[0][1:] != maps[0][:-1]) | (maps[1][1:] != maps[1][:-1])) + 1
    starts = np.concatenate(([0], changes))
    lengths = np.diff(np.append(starts, objects.size))
    owners, values = (each[starts] for each in maps)
    counted = np.flatnonzero((owners != 0) & (values != VOID) & (values != 0))
    order = counted[np.lexsort((values[counted], owners[counted]))]
    if not len(order):
        return {}
    owners, values = owners[order], values[order]
    differs = (owners[1:] != owners[:-1]) | (values[1:] != values[:-1])
    first = np.concatenate(([0], np.flatnonzero(differs) + 1))
    pixels = np.add.reduceat(lengths[order], first)
    # The last entry of an object in a dictionary stays: the one with most pixels, then the smallest.
    ranks = np.lexsort((-values[first], pixels))
    return dict(zip(owners[first][ranks].tolist(), values[first][ranks].tolist(), strict=True))


def read_masks(files: Iterable[Path], trees: Trees, options: Options, losses: Losses) -> Contents:
    """Return the contents of a folder of maps: 0, or black, is background, every other value or colour an object.

    Raises:
        DataError: there is no map, or one is broken.
    """
    (source,) = files
    folder = source / "masks" if (source / "masks").is_dir() else source
    pictures = []
    for file in files_below(folder, _MASKS):
        ids = _pixels(file, numbers=True)
        picture = Picture([_stem(file, folder)], file.name, size=ids.shape[::-1])
        for number, outline in label_outlines(ids).items():
            shape = Shape(options.class_name, outline, f"{file.name}: object {number}")
            picture.shapes.append(shape)
        pictures.append(picture)
    return Contents(pictures, {options.class_name: {}})


def _stem(file: Path, folder: Path) -> str:
    return file.relative_to(folder).with_suffix("").as_posix()


def _list_maps(source: Path) -> Iterator[tuple[str, Path]]:
    """Yield part and file of every map of objects."""
    folder = source / "SegmentationObject"
    lists = source / "ImageSets" / "Segmentation"
    parts: dict[str, str] = {}
    for part in ("train", "val", "test"):
        if (lists / f"{part}.txt").is_file():
            words = read_text(lists / f"{part}.txt").split()
            parts |= dict.fromkeys(words, part)
    for file in files_below(folder, _MASKS):
        stem = _stem(file, folder)
        if not parts or stem in parts:
            yield parts.get(stem, ""), file


def _colours(source: Path) -> dict[int, str]:
    """Return colour -> name of the classes."""
    file = source / "labelmap.txt"
    if not file.is_file():
        return {colour(number): name for number, name in enumerate(VOC)}
    names = {}
    for line in read_text(file).splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        name, _, rest = line.partition(":")
        try:
            red, green, blue = (int(value) for value in rest.partition(":")[0].split(","))
        except ValueError as error:
            raise DataError(f"{file}: {line!r} is not NAME:RED,GREEN,BLUE:...") from error
        names[red << 16 | green << 8 | blue] = name.strip()
    return names


def _pixels(file: Path, *, numbers: bool = False) -> np.ndarray:
    """Return a map as (H, W) int32 of colours 0xRRGGBB; with ``numbers`` of the values where it has one channel.

    Raises:
        DataError: it cannot be read, is larger than any image may be, or has values that are no whole numbers.
    """
    header = header_of(file)
    if header.size[0] * header.size[1] > MAX_PIXELS:
        raise DataError(
            f"{file} has {header.size[0]} x {header.size[1]} pixels, more than {MAX_PIXELS}."
        )
    if header.mode in DEEP or (numbers and header.mode in ("1", "L", "P")):
        return _whole_numbers(file, stored_values(file))
    if header.mode in ("1", "L"):  # numbers without a palette
        palette = np.array([colour(number) for number in range(256)], dtype=np.int32)
        return palette[stored_values(file).astype(np.uint8)]
    # Colours alone tell objects apart, not RGBA's alpha.
    plain = header.mode in ("RGB", "RGBA")
    colours = stored_values(file)[..., :3] if plain else ImageFiles().read(file, "RGB")
    red, green, blue = np.moveaxis(colours.astype(np.int32), -1, 0)
    return red << 16 | green << 8 | blue


def _whole_numbers(file: Path, values: np.ndarray) -> np.ndarray:
    """Return values (H, W) as int32."""
    with np.errstate(invalid="ignore"):  # NaN, and what int32 cannot hold
        whole = values.astype(np.int32)
    if (differs := whole != values).any():
        raise DataError(
            f"{file} has the value {values[differs][0]}, which is no whole number of 31 bits."
        )
    return whole
