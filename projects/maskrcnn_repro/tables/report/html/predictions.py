"""The same few validation images under every row of a table: ground truth first, then what each model finds."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from maskrcnn_repro.data.synthetic.families import is_generated
from maskrcnn_repro.tables.report.html.close_ups import CloseUp, close_up
from maskrcnn_repro.tables.report.model import Origin, Report, ReportRow
from maskrcnn_repro.tables.report.pictured import (
    Place,
    Scene,
    Unreadable,
    read_predictions,
    read_scene,
)
from maskrcnn_repro.visualization.draw import Objects, colored_as, draw, is_crowded
from maskrcnn_repro.visualization.encoding import data_uri, encode_picture

import numpy as np

SIDE = 300
"""Longest side of a picture in pixels."""
QUALITY = 72
"""WebP's: lines stay sharp, and a picture has some 10 kB."""


@dataclass(frozen=True)
class Picture:
    """One image with objects drawn over it.

    Attributes:
        source: a data URI.
        width: pixels.
        height: pixels.
        objects: how many are drawn.
        image: the image's file name.
        close_up: its largest object; in tables of boundary AP alone.
    """

    source: str
    width: int
    height: int
    objects: int
    image: str
    close_up: ClosePicture | None = None


@dataclass(frozen=True)
class ClosePicture:
    """A close-up as a page has it: ``source`` is a data URI."""

    source: str
    width: int
    height: int
    shown: CloseUp


@dataclass(frozen=True)
class Column:
    """Ground truth, or one row of the table: its pictures, one for each image."""

    name: str
    pictures: tuple[Picture, ...]
    seed: int | None = None


@dataclass(frozen=True)
class Sheet:
    """The pictures of one table.

    Attributes:
        dataset: whose images they are; empty if there are none.
        columns: ground truth first.
        skipped: rows without pictures, each with the reason.
        skeletons: whether keypoints are drawn with their limbs.
    """

    dataset: str = ""
    columns: tuple[Column, ...] = ()
    skipped: tuple[str, ...] = ()
    skeletons: bool = False

    @property
    def has_close_ups(self) -> bool:
        """Whether an image has one in every column."""
        return any(all(picture.close_up for picture in row) for row in self.rows)

    @property
    def rows(self) -> list[tuple[Picture, ...]]:
        """The pictures of each image, in the order of the columns."""
        return list(zip(*(column.pictures for column in self.columns), strict=True))


class Gallery:
    """Draws pictures, each once, whatever the number of tables that it stands in.

    Args:
        generated_only: whether images that are not generated are left out.
    """

    def __init__(self, generated_only: bool = False) -> None:
        self._generated_only = generated_only
        # Of this gallery alone: the files may be others when the next page is made.
        self._scene = functools.cache(read_scene)
        self._truth = functools.cache(
            lambda place, close: self._ground_truth(self._scene(place), close)
        )
        self._drawn: dict[tuple[str, Place, bool], tuple[Picture, ...]] = {}

    def sheet(self, report: Report) -> Sheet:
        """Return the pictures of a table; what cannot be drawn is named and left out."""
        rows = [(row, runs) for row in report.rows if (runs := report.runs(row))]
        if not rows:
            return Sheet()
        # The first row's data set: pictures of different images cannot be compared.
        place = Place.of(rows[0][1][0])
        by_outline = any(column.task == "boundary" for column in report.columns)
        skipped = []
        columns = []
        try:
            columns.append(Column("Ground truth", self._truth(place, by_outline)))
            if self._scene(place).is_plain:
                what = "images" if is_generated(place.dataset) else "photographs"
                skipped.append(f"the {what} of {place.dataset}, of which outlines alone are kept")
            elif self._generated_only and not is_generated(place.dataset):
                left_out = f"images of {place.dataset}: generated ones alone are kept with the code"
                return Sheet(place.dataset, skipped=(left_out,))
            for row, runs in rows:
                if runs[0].split != place.dataset:
                    skipped.append(f"{row.name}: measured on {runs[0].split}")
                else:
                    self._add(row, runs, (place, by_outline), columns, skipped)
        except Unreadable as error:
            skipped.append(str(error))
        if len(columns) < 2:
            return Sheet(place.dataset, skipped=tuple(skipped))
        limbs = bool(self._scene(place).style.edges)
        return Sheet(place.dataset, tuple(columns), tuple(skipped), limbs)

    def _add(
        self,
        row: ReportRow,
        runs: Sequence[Origin],
        place: tuple[Place, bool],
        columns: list[Column],
        skipped: list[str],
    ) -> None:
        """Add the column of a row: of its first seed whose predictions can be read."""
        reasons = []
        for run in runs:
            try:
                pictures = self._predictions(run, *place)
            except Unreadable as error:
                reasons.append(str(error))
                continue
            columns.append(Column(row.name, pictures, run.seed))
            return
        skipped.extend(f"{row.name}: {reason}" for reason in reasons[:1])

    @staticmethod
    def _ground_truth(scene: Scene, close: bool) -> tuple[Picture, ...]:
        try:
            return _pictures(scene, scene.truth, close)
        except Exception as error:  # of another program: wrong in any way
            names = ", ".join(map(str, scene.names))
            raise Unreadable(f"the objects of {names} cannot be drawn: {error!r}") from error

    def _predictions(self, run: Origin, place: Place, close: bool) -> tuple[Picture, ...]:
        key = (run.results, place, close)
        if key not in self._drawn:
            scene = self._scene(place)
            objects = read_predictions(run, scene)
            try:
                self._drawn[key] = _pictures(scene, objects, close)
            except Exception as error:  # of another program: wrong in any way
                raise Unreadable(
                    f"predictions of {run.results} cannot be drawn: {error!r}"
                ) from error
        return self._drawn[key]


def _pictures(scene: Scene, objects: Sequence[Objects], has_close_ups: bool) -> tuple[Picture, ...]:
    pictures = []
    for file, truth, image, some in zip(
        scene.names, scene.truth, scene.images, objects, strict=True
    ):
        # All columns of an image are drawn alike: as its ground truth is.
        drawn = draw(
            image,
            colored_as(some, truth),
            scene.style,
            SIDE / max(image.shape[:2]),
            crowded=is_crowded(truth),
        )
        height, width = drawn.shape[:2]
        close = close_up(image, truth, some, scene.style) if has_close_ups else None
        pictures.append(Picture(_data_uri(drawn), width, height, len(some), file, _close(close)))
    return tuple(pictures)


def _close(shown: CloseUp | None) -> ClosePicture | None:
    if shown is None:
        return None
    height, width = shown.pixels.shape[:2]
    return ClosePicture(_data_uri(shown.pixels), width, height, shown)


def _data_uri(pixels: np.ndarray) -> str:
    # Method 6 is the slowest and gives the smallest file.
    return data_uri(encode_picture(pixels, "WEBP", quality=QUALITY, method=6), "WEBP")
