"""Pictures of a source laid beside their files: found, measured, and with outlines that train."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maskrcnn_repro.data.check.images import header_of
from maskrcnn_repro.data.check.outlines import MAX_PIXELS, NUMBERS, Defective
from maskrcnn_repro.data.formats.contents import Losses, Picture, Shape
from maskrcnn_repro.data.formats.geometry import mend_outline, reason_of
from maskrcnn_repro.data.formats.image_folder import SUFFIXES, ImageFolder, parts_of
from maskrcnn_repro.data.formats.labelme import decode_base64
from maskrcnn_repro.data.formats.reading import Trees, get
from maskrcnn_repro.data.image_file import ImageError
from maskrcnn_repro.utils.files import replaced

Progress = Callable[[Iterable[Picture]], Iterable[Picture]]


@dataclass
class Placed:
    """An image of the result.

    Attributes:
        file_name: relative to the folder of images, with forward slashes.
        size: (W, H) in pixels, upright.
        part: of the source's own split.
        id: in the source.
        objects: class and COCO annotation of each object.
        keys: what tells an object that is there already.
    """

    file_name: str
    size: tuple[int, int]
    part: str
    id: int | None
    objects: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    keys: set[bytes] = field(default_factory=set)


def place(
    pictures: list[Picture],
    folder: ImageFolder,
    losses: Losses,
    images_out: Path,
    source: Path,
    progress: Progress = iter,
) -> tuple[Path, list[Placed]]:
    """Return the folder of images and what lies in it, in the order of the file names.

    Args:
        pictures: of the source.
        folder: in which to look for their images.
        losses: gets notes of what is changed or left out.
        images_out: the folder to write images to that a LabelMe file holds itself; then all images are copied there.
        source: the file or folder that was read.
        progress: wraps the pictures, as ``tqdm`` does.
    """
    files = {id(picture): _file_of(picture, folder, losses) for picture in pictures}
    root = folder.root
    alone = [p for p in pictures if p.embedded is not None and not files[id(p)]]
    if alone:
        root = images_out
        for path in sorted(filter(None, files.values())):
            with replaced(root / path) as beside:
                shutil.copyfile(folder.root / path, beside)
        taken = {path.lower() for path in files.values()}
        for picture in alone:
            files[id(picture)] = _unpack(picture, source, root, taken, losses)
    placed: dict[str, Placed] = {}
    for picture in progress(pictures):
        path = files[id(picture)]
        size = path and _size_of(picture, root / path, losses)
        if not path or not size:
            continue
        if path in placed:
            losses.add("picture-joined", f"{picture.place}: {path}")
        image = placed.setdefault(path, Placed(path, size, picture.part, picture.id))
        for shape in picture.shapes:
            _add(shape, picture, image, losses)
    return root, [placed[path] for path in sorted(placed)]


def _file_of(picture: Picture, folder: ImageFolder, losses: Losses) -> str:
    """Return the path of a picture's file below the folder; empty if it is not clear.

    That is noted, unless the source holds the image itself.
    """
    names = [_make_relative(name, folder.root) for name in picture.names]
    paths = folder.find(names)
    if len(paths) == 1:
        if not any(_ends_alike(paths[0], name) for name in names):
            losses.add("elsewhere", f"{picture.place}: {paths[0]}")
        return paths[0]
    if picture.embedded is None and paths:
        losses.add("image-ambiguous", f"{picture.place}: {' or '.join(paths[:3])}")
    elif picture.embedded is None:
        losses.add("image-absent", f"{picture.place}: {picture.names[-1]}")
    return ""


def _make_relative(name: str, root: Path) -> str:
    """Return an absolute path relative to a folder where it lies in it, as it is elsewhere."""
    if os.path.isabs(name) and "\0" not in name:
        path = Path(os.path.abspath(name))
        if path.is_relative_to(os.path.abspath(root)):
            return path.relative_to(os.path.abspath(root)).as_posix()
    return name


def _ends_alike(path: str, name: str) -> bool:
    """Whether one of two paths is the end of the other, but for case and ending."""
    lists = [[part.lower() for part in parts_of(text)] for text in (path, name)]
    shorter = min(map(len, lists))
    first, second = (parts[-shorter:] for parts in lists)
    return first[:-1] == second[:-1]


def _unpack(picture: Picture, source: Path, root: Path, taken: set[str], losses: Losses) -> str:
    """Write the image that a LabelMe file holds, and return its path below ``root``; empty if it is none."""
    assert picture.embedded is not None
    text = get(Trees().read(picture.embedded), "imageData", str, picture.place)
    suffix = Path(picture.names[-1].replace("\\", "/")).suffix.lower()
    below = picture.embedded.relative_to(source if source.is_dir() else source.parent)
    stem = f"embedded/{below.with_suffix('').as_posix()}"
    name = _choose_free(stem, suffix if suffix in SUFFIXES else ".png", taken)
    content = decode_base64(text, picture.place)
    try:
        with replaced(root / name) as beside:
            beside.write_bytes(content)
            header_of(beside)
    except ImageError as error:
        losses.add("image-broken", f"{picture.place}: {error}")
        return ""
    losses.add("embedded", picture.place)
    return name


def _choose_free(stem: str, suffix: str, taken: set[str]) -> str:
    """Return a path that is not among ``taken``, in lower case, and add it; where it is, a number follows the stem."""
    # In lower case, as some file systems do not tell A.png from a.png.
    numbered = (f"{stem}{'' if n == 1 else f'-{n}'}{suffix}" for n in itertools.count(1))
    name = next(name for name in numbered if name.lower() not in taken)
    taken.add(name.lower())
    return name


def _size_of(picture: Picture, path: Path, losses: Losses) -> tuple[int, int] | None:
    """Return (W, H) of a file; None, after a note, if it cannot be read or is not what the source says."""
    try:
        size = header_of(path).size
    except ImageError as error:
        losses.add("image-broken", f"{picture.place}: {error}")
        return None
    if size[0] * size[1] > MAX_PIXELS:
        losses.add("image-broken", f"{picture.place}: more than {MAX_PIXELS} pixels")
        return None
    if picture.size not in (None, size):
        says = "{} x {}".format(*(picture.size or ()))
        losses.add("image-size", f"{picture.place}: {says}, the file {size[0]} x {size[1]}")
        return None
    return size


def _add(shape: Shape, picture: Picture, image: Placed, losses: Losses) -> None:
    try:
        outline = shape.outline(image.size) if callable(shape.outline) else shape.outline
        if picture.fractions and isinstance(outline, list):
            outline = [
                [v * image.size[i % 2] if type(v) in NUMBERS else v for i, v in enumerate(polygon)]
                for polygon in outline
            ]
        record, changes = mend_outline(outline, *image.size)
    except Defective as defect:
        losses.add("outline", reason_of(defect, shape.place))
        return
    for change in changes:
        losses.add(change, shape.place)
    text = json.dumps([shape.label, record["segmentation"]])
    key = hashlib.blake2b(text.encode(), digest_size=16).digest()
    if key in image.keys:
        losses.add("again", shape.place)
        return
    image.keys.add(key)
    number = {} if shape.id is None else {"id": shape.id}
    image.objects.append(
        (shape.label, {**number, "iscrowd": int(shape.crowd), **record, **shape.extra})
    )
