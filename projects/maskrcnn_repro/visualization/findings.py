"""The findings of a data check as one HTML page, with thumbnails of the first images of each kind."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskrcnn_repro.data.check.scan import Scan
from maskrcnn_repro.data.check.table import Defect
from maskrcnn_repro.utils.files import write_text

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
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


def write_page(path: Path, files: Sequence[tuple[Scan, Sequence[Finding]]]) -> None:
    """Write the page, which needs no other file; of each set its findings, the gravest first."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    sets = [
        (scan, [(finding, _thumbnails(scan, finding)) for finding in findings])
        for scan, findings in files
    ]
    write_text(path, environment.get_template("findings.html.jinja").render(sets=sets))


def _thumbnails(scan: Scan, finding: Finding) -> list[tuple[str, str]]:
    """Return captions and data URLs of the first images that a finding is about."""
    if scan.objects is None or finding.row.of not in ("image", "annotation"):
        return []
    pictures = []
    for place in finding.places:
        if len(pictures) == SHOWN:
            break
        row = _row_of(scan, finding.row.of, place)
        if row is not None and (url := _thumbnail(*row)):
            pictures.append((f"{finding.row.of} {place}", url))
    return pictures


def _row_of(scan: Scan, kind: str, place: Any) -> tuple[str, np.ndarray | None] | None:
    """Return the path of the image and, for an annotation, its box."""
    if kind == "image":
        return (scan.files[scan.image_ids.index(place)], None) if place in scan.image_ids else None
    assert scan.objects is not None
    rows = np.flatnonzero(scan.objects.ids == place)
    if not len(rows) or scan.objects.images[rows[0]] < 0:
        return None
    return scan.files[scan.objects.images[rows[0]]], scan.objects.boxes[rows[0]]


def _thumbnail(path: str, box: np.ndarray | None) -> str:
    """Return an image as a data URL, with a box in red; an empty text if the file cannot be read."""
    try:
        with Image.open(path) as file:
            width = file.width
            file.draft("RGB", (SIDE, SIDE))
            image = file.convert("RGB")
    except Exception:  # the finding says what is wrong with it
        return ""
    image.thumbnail((SIDE, SIDE))
    if box is not None and np.isfinite(box).all() and np.abs(box).max() < 1e6:
        left, top, right, bottom = (
            (np.concatenate((box[:2], box[:2] + box[2:]))) * image.width / width
        )
        corners = (min(left, right), min(top, bottom), max(left, right), max(top, bottom))
        ImageDraw.Draw(image).rectangle(corners, outline=(230, 30, 30), width=2)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
