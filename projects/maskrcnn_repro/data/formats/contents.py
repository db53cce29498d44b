"""What every reader of a format returns: pictures with labelled outlines, and classes; and what it could not take over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maskrcnn_repro.data.formats.fates import FATES

Outline = list[list[float]] | dict[str, Any]
"""As in COCO: polygons [x1, y1, x2, y2, ...] in pixels, or an RLE of ``size`` (H, W) and ``counts``."""
Decoder = Callable[[tuple[int, int]], Outline]
"""Decodes a mask to its outline, given (W, H) of the image, which bounds what that may take."""
SHOWN = 3
"""Places that a line of the report names."""


@dataclass(slots=True)
class Shape:
    """One object.

    Attributes:
        label: name of its class.
        outline: see :data:`Outline`; of a mask in a format's own code what decodes it.
        place: where it stands in the source, for messages.
        crowd: whether it is a region of objects that are not outlined one by one.
        id: in the source, if that numbers objects.
        extra: fields of a COCO annotation that are kept as they are.
    """

    label: str
    outline: Outline | Decoder
    place: str
    crowd: bool = False
    id: int | None = None
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Picture:
    """An image and its objects.

    Attributes:
        names: under which to look for its file, the likeliest first; as the source writes them.
        place: where it stands in the source, for messages.
        shapes: its objects.
        size: (W, H) that the source says; None if it says none.
        part: of a source that is split already: ``train``, ``val`` or ``test``; else empty.
        fractions: whether outlines are in fractions of width and height instead of pixels.
        embedded: LabelMe file that holds the image itself.
        id: in the source, if that numbers images.
    """

    names: list[str]
    place: str
    shapes: list[Shape] = field(default_factory=list)
    size: tuple[int, int] | None = None
    part: str = ""
    fractions: bool = False
    embedded: Path | None = None
    id: int | None = None


@dataclass
class Contents:
    """All that a reader returns.

    Attributes:
        pictures: in any order.
        classes: name -> further fields of its COCO category (``id`` among them), in the source's order. Classes that
            only objects name are added behind.
    """

    pictures: list[Picture]
    classes: dict[str, dict[str, Any]] = field(default_factory=dict)


class Losses:
    """What was changed or left out, by the codes of :data:`~maskrcnn_repro.data.formats.fates.FATES`."""

    def __init__(self) -> None:
        self.places: dict[str, list[str]] = {}

    def add(self, code: str, place: str) -> None:
        """Note a case at ``place``, which is where in the source, and why if that differs from case to case."""
        if code not in FATES:
            raise KeyError(code)
        self.places.setdefault(code, []).append(place)

    def __contains__(self, code: str) -> bool:
        return code in self.places

    def lines(self) -> list[str]:
        """Return a line for each code in the table's order: how often, what became of it, the first places."""
        lines = []
        for code, fate in FATES.items():
            if places := self.places.get(code):
                more = "; ..." if len(places) > SHOWN else ""
                first = make_printable(f"{'; '.join(places[:SHOWN])}{more}")
                lines.append(f"{fate.what}: {len(places)} {fate.becomes} ({first})")
        return lines


def make_printable(text: str) -> str:
    """Return a text of a file's words as any terminal can show it."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
