"""Images of a COCO file: their records, whether the files exist, and what the headers say. None is decoded."""

from __future__ import annotations

import os
import warnings
from functools import cache
from pathlib import Path
from typing import Any

from maskrcnn_repro.data.check.findings import Findings, hint
from maskrcnn_repro.data.check.outlines import MAX_PIXELS
from maskrcnn_repro.data.check.records import Record, is_outside, repeated

from PIL import Image, UnidentifiedImageError

_ORIENTATION = 0x0112
_TURNED = (5, 6, 7, 8)
"""Values of EXIF's orientation that exchange height and width."""


def check_image_records(images: list[Record], findings: Findings) -> None:
    """Note what is wrong with the records of images, without their files."""
    if not images:
        findings.add("images-empty", findings.file.name)
    for image in repeated(images, lambda record: record["id"]):
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
    for image in repeated(images, lambda record: os.path.normpath(record["file_name"])):
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
        near = hint(path.name, listing(path.parent)) if path == missing[0][1] else ""
        findings.add(
            "image-absent", place, count=len(missing), total=len(images), path=path, hint=near
        )


def header_of(path: Path) -> tuple[int, int, bool]:
    """Return width and height of an image in its file, and whether EXIF exchanges them when it is shown.

    Raises:
        ValueError: the file is no image; the text ends a sentence that begins with its path.
    """
    try:
        with warnings.catch_warnings():
            # Our own limit decides, from the record.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                return *image.size, _orientation(image) in _TURNED
    except UnidentifiedImageError:
        raise ValueError(_what_it_is(path)) from None
    except Image.DecompressionBombError:
        raise ValueError(f"an image of more than {MAX_PIXELS} pixels") from None
    except Exception as error:  # whatever a decoder raises on a header
        raise ValueError(f"unreadable ({error})") from error


def _orientation(image: Image.Image) -> int | None:
    # Of a PNG without EXIF in its header Pillow would decode all, to look behind the pixels.
    if "exif" not in image.info and image.format == "PNG":
        return None
    return image.getexif().get(_ORIENTATION)


def _what_it_is(path: Path) -> str:
    with open(path, "rb") as file:
        head = file.read(64)
    if not head:
        return "an empty file"
    if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page, not an image"
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the image"
    return "no image that Pillow can read"


def _check_header(image: Record, path: Path, findings: Findings) -> None:
    try:
        width, height, turned = header_of(path)
    except ValueError as error:
        findings.add("image-header", image["id"], path=path, reason=error)
        return
    recorded = (image["width"], image["height"])
    shown = (height, width) if turned else (width, height)
    if recorded == shown:
        return
    values: dict[str, Any] = {
        "recorded": "{} x {}".format(*recorded),
        "actual": "{} x {}".format(*shown),
        "path": path,
    }
    if turned and recorded == (width, height):
        findings.add("image-turned", image["id"], **values)
    elif recorded == shown[::-1]:
        findings.add("image-size-swapped", image["id"], **values)
    else:
        findings.add("image-size-wrong", image["id"], **values)
