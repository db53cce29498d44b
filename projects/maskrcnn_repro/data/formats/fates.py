"""What becomes of things in a source that COCO JSON for instance segmentation has no place for, as a table."""

from __future__ import annotations

from dataclasses import dataclass

TOLERANCE = 0.1
"""Pixels by which the polygon of a circle or an ellipse deviates from it at most."""
_OUT = "left out"


@dataclass(frozen=True)
class Fate:
    """A row of the table.

    Attributes:
        what: the things, in the plural.
        becomes: what becomes of them.
        image: whether an image is lost by it, so that the command ends with status 1.
    """

    what: str
    becomes: str
    image: bool = False


FATES = {
    "round": Fate("circles or ellipses", f"made polygons, to {TOLERANCE} px"),
    "box": Fate("objects with a box alone", "given the box as outline"),
    "joined": Fate("outlines of an object in several parts", "joined"),
    "picture-joined": Fate("records of an image that another record has", "joined"),
    "cut": Fate("outlines beyond their image", "cut at its border"),
    "mended": Fate("outlines written in another way", "mended"),
    "elsewhere": Fate("images that lie in another folder than the source says", "taken from there"),
    "embedded": Fate("images that their LabelMe file holds itself", "written beside the result"),
    "alone": Fate("images that --group-by does not match", "each a group of its own"),
    "line": Fate("lines, which enclose nothing", _OUT),
    "point": Fate("points, which enclose nothing", _OUT),
    "solid": Fate("cuboids or skeletons", _OUT),
    "keypoints": Fate("keypoints of YOLO's poses", _OUT),
    "other-kind": Fate("shapes of a kind that has no outline", _OUT),
    "no-class": Fate("objects without a class", _OUT),
    "classes": Fate("objects with several classes", _OUT),
    "again": Fate("objects that repeat another to the last point", _OUT),
    "rotated": Fate("objects on an image that was turned by hand", _OUT),
    "outline": Fate("objects with a defective outline", _OUT),
    "other-annotator": Fate("further annotations of an image, the newest is taken", _OUT),
    "unlabelled": Fate("images that nobody has annotated", _OUT),
    "label-alone": Fate("labels without an image", _OUT, image=True),
    "image-absent": Fate("images that are missing", _OUT, image=True),
    "image-ambiguous": Fate("images of whose name there are several files", _OUT, image=True),
    "image-broken": Fate("images that cannot be read", _OUT, image=True),
    "image-size": Fate("images of another size than the source says", _OUT, image=True),
}
"""Code -> row, in the order of the report."""
