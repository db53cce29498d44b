"""Images of a COCO file: their records, whether the files exist, and what the headers say. None is decoded."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path, PureWindowsPath
from typing import Any

from maskrcnn_repro.data.check.findings import Findings, hint
from maskrcnn_repro.data.check.outlines import MAX_PIXELS
from maskrcnn_repro.data.check.records import Record, find_repeated, is_outside
from maskrcnn_repro.data.image_file import DEEP, ImageError, ImageHeader, image_header

from PIL import Image


def check_image_records(images: list[Record], findings: Findings) -> None:
    """Note what is wrong with the records of images, without their files."""
    if not images:
        findings.add("images-empty", findings.file.name)
    for image in find_repeated(images, lambda record: record["id"]):
        findings.add("image-id-twice", image["id"])
    for image in images:
        height, width = image["height"], image["width"]
        if height < 1 or width < 1:
            findings.add("image-size-invalid", image["id"], height=height, width=width)
        elif height * width > MAX_PIXELS:
            findings.add(
                "image-too-large", image["id"], height=height, width=width, limit=MAX_PIXELS
            )


def check_image_files(images: list[Record], root: Path, findings: Findings) -> None:
    """Note images that are missing, are used twice, or whose header contradicts the JSON."""
    if not root.is_dir():
        findings.add("folder-absent", str(root), folder=f"{root} (for {findings.file})")
        return
    for image in find_repeated(images, lambda record: os.path.normpath(record["file_name"])):
        findings.add("image-file-twice", image["id"], path=image["file_name"])
    listing = cache(lambda folder: set(os.listdir(folder)) if os.path.isdir(folder) else set())
    missing = []
    for image in images:
        path = root / image["file_name"]
        if is_outside(image["file_name"]):
            findings.add("image-path-outside", image["id"], path=image["file_name"])
        # One listing per folder: asking for each file takes minutes on a network file system.
        if path.name in listing(path.parent):
            _check_header(image, path, findings)
        else:
            missing.append((image["id"], path))
    for place, path in missing:
        near = _whereabouts(path, root, listing) if path == missing[0][1] else ""
        findings.add(
            "image-absent", place, count=len(missing), total=len(images), path=path, hint=near
        )


def _whereabouts(path: Path, root: Path, listing: Callable[[Path], set[str]]) -> str:
    """Return where a missing image may be: from the folder above, without its folders, or under a similar name."""
    name = str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
    # os.path, as pathlib raises for names that are too long.
    if os.path.isfile(root.parent / name):
        return f" (it lies where it should from {root.parent}: give that folder)"
    bare = root / PureWindowsPath(name).name
    return f" (there is {bare})" if os.path.isfile(bare) else hint(path.name, listing(path.parent))


def header_of(path: Path) -> ImageHeader:
    """Return what the header of an image file says, by the rules with which images are read.

    Raises:
        ImageError: see :func:`maskrcnn_repro.data.image_file.image_header`.
    """
    with warnings.catch_warnings():
        # Our own limit decides, from the record.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return image_header(path)


def _check_header(image: Record, path: Path, findings: Findings) -> None:
    try:
        header = header_of(path)
    except ImageError as error:
        findings.add("image-header", image["id"], reason=str(error).rstrip("."))
        return
    if header.refusal:
        code = "image-deep" if header.mode in DEEP else "image-mode"
        findings.add(code, image["id"], path=path, mode=header.mode)
    recorded, shown = (image["width"], image["height"]), header.size
    if recorded == shown:
        return
    values: dict[str, Any] = {
        "recorded": "{} x {}".format(*recorded),
        "actual": "{} x {}".format(*shown),
        "path": path,
    }
    if recorded == shown[::-1]:
        code = "image-turned" if header.sideways else "image-size-swapped"
        findings.add(code, image["id"], **values)
    else:
        findings.add("image-size-wrong", image["id"], **values)
