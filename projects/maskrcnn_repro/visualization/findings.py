"""The findings of a data check as one HTML page, with thumbnails of the first images of each kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskrcnn_repro.data.check.scan import Scan
from maskrcnn_repro.data.check.table import Defect
from maskrcnn_repro.data.image_file import ImageError, ImageFiles
from maskrcnn_repro.utils.files import write_text
from maskrcnn_repro.visualization.encoding import data_uri, encode_picture
from maskrcnn_repro.visualization.templates import templates_in

import numpy as np
from PIL import Image, ImageDraw

SIDE = 200
"""Longer side of a thumbnail in pixels."""
SHOWN = 4
"""Thumbnails of a kind."""


@dataclass(frozen=True)
class Finding:
    """A kind of defect in a file: its row of the table, its severity, the sentence, and all ids."""

    row: Defect
    severity: str
    says: str
    places: list[Any]


def write_page(
    path: Path, checked: Sequence[tuple[Scan, Sequence[Finding]]], files: ImageFiles
) -> None:
    """Write the page, which needs no other file.

    Args:
        path: of the page.
        checked: of each set its findings, the gravest first.
        files: reads the images.
    """
    templates = templates_in(Path(__file__).parent)
    sets = [
        (scan, [(finding, _thumbnails(scan, finding, files)) for finding in findings])
        for scan, findings in checked
    ]
    write_text(path, templates.get_template("findings.html.jinja").render(sets=sets))


def _thumbnails(scan: Scan, finding: Finding, files: ImageFiles) -> list[tuple[str, str]]:
    """Return captions and data URLs of the first images that a finding is about."""
    if scan.objects is None or scan.sizes is None or finding.row.of not in ("image", "annotation"):
        return []
    pictures: list[tuple[str, str]] = []
    for place in finding.places[: 10 * SHOWN]:
        index, box = _image_of(scan, finding.row.of, place)
        if index < 0 or len(pictures) == SHOWN:
            continue
        if url := _thumbnail(files, scan.files[index], box):
            pictures.append((f"{finding.row.of} {place}", url))
    return pictures


def _image_of(scan: Scan, kind: str, place: Any) -> tuple[int, np.ndarray | None]:
    """Return the index of an image, -1 for none, and for an annotation its box."""
    if kind == "image":
        return (scan.image_ids.index(place) if place in scan.image_ids else -1), None
    objects = scan.objects
    rows = np.flatnonzero(objects.ids == place) if objects is not None else np.zeros(0, int)
    if objects is None or not len(rows):
        return -1, None
    return int(objects.images[rows[0]]), objects.boxes[rows[0]]


def _thumbnail(files: ImageFiles, path: str, box: np.ndarray | None) -> str:
    """Return an image as a data URL, with a box in red; an empty text if the file cannot be read."""
    try:
        image = Image.fromarray(files.read(path, "RGB"))
    except ImageError:
        return ""
    width = image.width
    image.thumbnail((SIDE, SIDE))
    if box is not None and np.isfinite(box).all() and np.abs(box).max() < 1e6:
        corners = np.array([*box[:2], *(box[:2] + box[2:])]) * image.width / width
        low, high = np.minimum(corners[:2], corners[2:]), np.maximum(corners[:2], corners[2:])
        ImageDraw.Draw(image).rectangle((*low, *high), outline=(230, 30, 30), width=2)
    return data_uri(encode_picture(image, "JPEG", quality=80), "JPEG")
