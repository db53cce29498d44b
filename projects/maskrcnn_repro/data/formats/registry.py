"""The formats that are read, as a table, and which of them a file or folder is, by its content."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskrcnn_repro.data.formats import coco, cvat, index_png, label_studio, labelme, via, yolo
from maskrcnn_repro.data.formats.contents import Contents, Losses
from maskrcnn_repro.data.formats.options import Options
from maskrcnn_repro.data.formats.reading import Trees, check_file, files_below
from maskrcnn_repro.errors import DataError, check_choice, listing
from maskrcnn_repro.utils.files import other_than_file

Reader = Callable[[Iterable[Path], Trees, Options, Losses], Contents]
LOOKED_AT = 200
"""Files of a folder that are tried until one is recognised."""


def _nothing(content: Any) -> bool:
    return False


@dataclass(frozen=True)
class Format:
    """A row of the table.

    Attributes:
        title: what users call it.
        read: returns its contents, of files or of one folder.
        knows_tree: whether the tree of a JSON is of it.
        knows_file: suffixes, and whether a file with one of them, which is no JSON, is of it.
        knows_folder: whether a folder as a whole is of it.
        images: the folder below a source folder that has its images; empty: anywhere below.
    """

    title: str
    read: Reader
    knows_tree: Callable[[Any], bool] = _nothing
    knows_file: tuple[tuple[str, ...], Callable[[Path], bool]] = ((), _nothing)
    knows_folder: Callable[[Path], bool] = _nothing
    images: str = ""

    def knows(self, file: Path, trees: Trees) -> bool:
        """Whether a file is of this format."""
        suffixes, knows_file = self.knows_file
        if file.suffix.lower() == ".json":
            return self.knows_tree is not _nothing and self.knows_tree(trees.read(file))
        return file.suffix.lower() in suffixes and knows_file(file)


def _knows_yolo(folder: Path) -> bool:
    return yolo.description(folder) is not None


FORMATS = {
    "coco": Format("COCO JSON", coco.read, coco.knows),
    "labelme": Format("LabelMe", labelme.read, labelme.knows),
    "via": Format("VGG Image Annotator", via.read, via.knows, ((".csv",), via.knows_csv)),
    "labelstudio": Format("Label Studio", label_studio.read, label_studio.knows),
    "cvat": Format("CVAT for images", cvat.read, knows_file=((".xml",), cvat.knows_xml)),
    "yolo": Format(
        "YOLO", yolo.read, knows_file=(yolo.ENDINGS, lambda file: True), knows_folder=_knows_yolo
    ),
    "voc": Format(
        "Pascal VOC", index_png.read_voc, knows_folder=index_png.knows_voc, images="JPEGImages"
    ),
    "masks": Format(
        "masks of instances",
        index_png.read_masks,
        knows_folder=index_png.knows_masks,
        images="images",
    ),
}
"""Name for ``--format`` -> format, in the order in which they are tried."""
_SUFFIXES = frozenset({".json", ".csv", ".xml"})


def recognise(source: Path, forced: str | None, trees: Trees) -> tuple[str, Iterable[Path]]:
    """Return the name of a source's format, and what its reader is to read.

    Args:
        source: a file or folder.
        forced: name of the format; None: by the content.
        trees: reads JSON files.

    Raises:
        ConfigError: there is no format of that name.
        DataError: there is no such file or folder, or it is of no format.
    """
    if forced is not None:
        check_choice("--format", forced, FORMATS)
    if not source.is_dir():
        _check_source(source)
        return _recognise_file(source, forced, trees)
    names = [forced] if forced is not None else list(FORMATS)
    for name in names:
        if FORMATS[name].knows_folder(source) or (
            forced and FORMATS[name].knows_folder != _nothing
        ):
            return name, [source]
    first = _first_known(source, names, trees)
    return first, _files(source, FORMATS[first], trees)


def _check_source(source: Path) -> None:
    if kind := other_than_file(source):
        raise DataError(f"{source} cannot be read: it is {kind}.")
    check_file(source)
    if source.suffix.lower() in (".zip", ".tar", ".gz", ".7z", ".rar"):
        raise DataError(f"{source} is an archive; unpack it and name the folder.")


def _recognise_file(source: Path, forced: str | None, trees: Trees) -> tuple[str, list[Path]]:
    for name in [forced] if forced is not None else FORMATS:
        if FORMATS[name].knows(source, trees):
            return name, [source]
    if forced is not None:
        raise DataError(f"{source} does not look like {FORMATS[forced].title}; leave --format out.")
    raise DataError(f"{source} is of no format that is read. {_read_formats()}")


def _first_known(source: Path, names: list[str], trees: Trees) -> str:
    broken: DataError | None = None
    for count, file in enumerate(files_below(source, _SUFFIXES)):
        if count == LOOKED_AT:
            break
        try:
            for name in names:
                if FORMATS[name].knows(file, trees):
                    return name
        except DataError as error:
            broken = broken or error
    if broken is not None:
        raise broken
    wanted = FORMATS[names[0]].title if len(names) == 1 else "any format that is read"
    raise DataError(f"{source} has no file of {wanted}. {_read_formats()}")


def _files(source: Path, row: Format, trees: Trees) -> Iterator[Path]:
    """Yield the files of a format one by one: each is parsed once, as ``trees`` keeps the last."""
    for file in files_below(source, _SUFFIXES):
        if row.knows(file, trees):
            yield file


def _read_formats() -> str:
    return f"Read are {listing(f'{name}' for name in FORMATS)}: see docs/convert_data.md."
