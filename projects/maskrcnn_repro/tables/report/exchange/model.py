"""What was measured of the three operations, as it is stored: :func:`~maskrcnn_repro.tables.report.plain.to_json`.

Lengths are in pixels of the network's input, where nothing else is said; IoUs are fractions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from maskrcnn_repro.tables.report.model import Origin, Report

METHOD = 1
"""Raised whenever the same files would give other numbers."""
TABLE = "2c"
ALIGN = "RoIAlign"
ROWS: Mapping[str, tuple[str, ...]] = {
    "RoIPool": ("T2c.pool",),
    "RoIWarp": ("T2c.warpave", "T2c.warpmax"),
    ALIGN: ("T2c.alignave",),
}
"""Operation to the rows of table 2c that stand for it: the first that was run."""
OPERATIONS: Mapping[str, str] = {
    "RoIPool": "RoIPool",
    "RoIWarp": "RoIWarpAve",
    ALIGN: "RoIAlignAve",
}
"""Operation to its registered name where the weights are those of RoIAlign."""

Box = tuple[float, float, float, float]
ByOperation = Mapping[str, float]


@dataclass(frozen=True)
class Source:
    """A run whose weights were used.

    Attributes:
        experiment: its id.
        seed: of its training.
        record: hash of its results.
        commit: of the code that trained it.
        machine: that it was trained on.
    """

    experiment: str
    seed: int
    record: str
    commit: str
    machine: str


@dataclass(frozen=True)
class SizeBin:
    """Means over the objects of some sizes, by operation.

    Attributes:
        low: least side of an object, the root of its box's area, in cells.
        high: the side below which they lie; None for no limit.
        objects: how many there are.
        corners: by how much rounding moves a coordinate of the RoI.
        bins: how far the centres of the bins lie from those of the RoI divided evenly.
        centroids: how far the predicted mask's centroid lies from RoIAlign's, with the same weights; None where no
            object has both masks.
        exchanged: mask IoU with the same weights.
        trained: mask IoU of the models trained with the operation.
    """

    low: float
    high: float | None
    objects: int
    corners: ByOperation
    bins: ByOperation
    centroids: Mapping[str, float | None]
    exchanged: ByOperation
    trained: ByOperation

    def __post_init__(self) -> None:
        """Raise ValueError if a value is missing."""
        _check_names(self.corners, self.bins, self.centroids, self.exchanged, self.trained)


LEAST_CELL = 0.5
"""Pixels of the image along a side: the lines between cells are drawn."""
MOST_PIXELS = 10_000_000
"""Of the picture; its masks are drawn four times as fine along each side."""


@dataclass(frozen=True)
class Outline:
    """A mask within the pictured part of the image, as COCO's compressed encoding.

    Attributes:
        size: height and width in pixels of the image.
        counts: the encoding.
        iou: with the ground truth, of the whole masks.
    """

    size: tuple[int, int]
    counts: str
    iou: float


@dataclass(frozen=True)
class Pictured:
    """The object that is shown; places and lengths are in pixels of its image.

    Attributes:
        image: name of the file.
        name: of the object's class.
        crop: the part of the image that is shown, whole pixels.
        cell: width and height of a feature cell.
        origin: x and y of the left upper corner of the first cell.
        roi: the box that all masks are predicted in.
        rounded: it as each operation rounds it.
        truth: the object.
        exchanged: the masks with the same weights.
        trained: those of the trained models.
        png: SHA-256 of the picture beside the file; empty where it is not kept.
    """

    image: str
    name: str
    crop: tuple[int, int, int, int]
    cell: tuple[float, float]
    origin: tuple[float, float]
    roi: Box
    rounded: Mapping[str, Box]
    truth: Outline
    exchanged: Mapping[str, Outline]
    trained: Mapping[str, Outline]
    png: str = ""

    def __post_init__(self) -> None:
        """Raise ValueError if a value is missing, or a mask is not as large as the picture."""
        _check_names(self.rounded, self.exchanged, self.trained)
        left, top, right, bottom = self.crop
        outlines = (self.truth, *self.exchanged.values(), *self.trained.values())
        if {tuple(outline.size) for outline in outlines} != {(bottom - top, right - left)}:
            raise ValueError("a mask is not as large as the picture")
        if (bottom - top) * (right - left) > MOST_PIXELS:
            raise ValueError(f"a picture of more than {MOST_PIXELS:,} pixels")
        if not all(LEAST_CELL <= side <= MOST_PIXELS for side in self.cell):
            raise ValueError(f"a cell of {self.cell} pixels")


@dataclass(frozen=True)
class Exchange:
    """The three operations compared on the same boxes.

    Attributes:
        method: version of the measurement.
        dataset: the test set.
        images: how many of its images were looked at.
        objects: how many objects these have.
        score: least score of a detection.
        iou: least IoU of its box with the object.
        stride: of the feature map.
        backend: that measured.
        commit: of the code that measured.
        written: time of the measurement, ISO 8601, UTC.
        runs: by operation.
        operations: names of the operations that the trained models have.
        sizes: the objects that all three models detect, by size; first all together, nothing without any.
        pictured: None without any.
    """

    method: int
    dataset: str
    images: int
    objects: int
    score: float
    iou: float
    stride: int
    backend: str
    commit: str
    written: str
    runs: Mapping[str, Source]
    operations: Mapping[str, str]
    sizes: tuple[SizeBin, ...]
    pictured: Pictured | None

    def __post_init__(self) -> None:
        """Raise ValueError if an object is pictured and none is counted."""
        if self.pictured and not self.sizes:
            raise ValueError("an object is pictured, and none is counted")


def _check_names(*mappings: Mapping[str, object]) -> None:
    if any(mapping.keys() != OPERATIONS.keys() for mapping in mappings):
        raise ValueError(f"not every value is there for {', '.join(OPERATIONS)}")


def runs_of(report: Report) -> dict[str, Origin]:
    """Return the run of each operation, of the lowest seed that all three have; nothing if there is none."""
    rows = {row.id: row for row in report.rows}
    by_seed = {
        name: next(
            (
                {run.seed: run for run in runs}
                for row in ids
                if row in rows and (runs := report.runs(rows[row]))
            ),
            {},
        )
        for name, ids in ROWS.items()
    }
    seeds = set.intersection(*(set(runs) for runs in by_seed.values()))
    return {name: runs[min(seeds)] for name, runs in by_seed.items()} if seeds else {}
