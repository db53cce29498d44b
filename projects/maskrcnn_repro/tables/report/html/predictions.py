"""The same few validation images under every row of a table: ground truth first, then what each model finds."""

from __future__ import annotations

import base64
import functools
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskrcnn_repro.data.image_file import ImageFiles
from maskrcnn_repro.data.synthetic.families import is_generated
from maskrcnn_repro.errors import UserError
from maskrcnn_repro.tables.report.html.close_ups import CloseUp, close_up
from maskrcnn_repro.tables.report.model import Origin, Report, ReportRow
from maskrcnn_repro.tables.report.places import detections_file
from maskrcnn_repro.tables.runs.records import CONFIG, read_config
from maskrcnn_repro.visualization.draw import Objects, Style, colored_as, draw, is_crowded
from maskrcnn_repro.visualization.sheet import by_image, ground_truth, pick, predicted, style_of

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

IMAGES = 4
"""At most, of each data set."""
THRESHOLD = 0.5
"""Lowest score drawn."""
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


@dataclass(frozen=True)
class _Scene:
    """The chosen images of a data set, with their objects."""

    records: tuple[dict[str, Any], ...]
    truth: tuple[Objects, ...]
    images: tuple[np.ndarray, ...]
    style: Style
    to_class: dict[int, int] | None
    has_close_ups: bool


class Unreadable(Exception):
    """Images or predictions that cannot be drawn; the text says which and why."""


class Gallery:
    """Draws pictures, each once, whatever the number of tables that it stands in.

    Args:
        generated_only: whether images that are not generated are left out.
    """

    def __init__(self, generated_only: bool = False) -> None:
        self._generated_only = generated_only
        # Of this gallery alone: the files may be others when the next page is made.
        self._scene = functools.cache(_scene)
        self._truth = functools.cache(lambda *place: _truth(self._scene(*place)))
        self._predictions = functools.cache(
            lambda path, *place: _predictions(path, self._scene(*place))
        )

    def sheet(self, report: Report) -> Sheet:
        """Return the pictures of a table; what cannot be drawn is named and left out."""
        rows = [(row, runs) for row in report.rows if (runs := report.runs(row))]
        if not rows:
            return Sheet()
        # The first row's data set: pictures of different images cannot be compared.
        dataset = rows[0][1][0].split
        if self._generated_only and not is_generated(dataset):
            return Sheet(
                dataset,
                skipped=(f"images of {dataset}: generated ones alone are kept with the code",),
            )
        by_outline = any(column.task == "boundary" for column in report.columns)
        place = dataset, _pixel_range(rows[0][1][0]), by_outline
        skipped = []
        columns = []
        try:
            columns.append(Column("Ground truth", self._truth(*place)))
            for row, runs in rows:
                if runs[0].split != dataset:
                    skipped.append(f"{row.name}: measured on {runs[0].split}")
                else:
                    self._add(row, runs, place, columns, skipped)
        except Unreadable as error:
            skipped.append(str(error))
        if len(columns) < 2:
            return Sheet(dataset, skipped=tuple(skipped))
        limbs = bool(self._scene(*place).style.edges)
        return Sheet(dataset, tuple(columns), tuple(skipped), limbs)

    def _add(
        self,
        row: ReportRow,
        runs: Sequence[Origin],
        place: tuple[str, tuple[float, ...], bool],
        columns: list[Column],
        skipped: list[str],
    ) -> None:
        """Add the column of a row: of its first seed whose predictions can be read."""
        reasons = []
        for run in runs:
            try:
                pictures = self._predictions(detections_file(Path(run.results), run.split), *place)
            except Unreadable as error:
                reasons.append(str(error))
                continue
            columns.append(Column(row.name, pictures, run.seed))
            return
        skipped.extend(f"{row.name}: {reason}" for reason in reasons[:1])


def _truth(scene: _Scene) -> tuple[Picture, ...]:
    return _pictures(scene, [ground_truth(record) for record in scene.records])


def _predictions(path: Path, scene: _Scene) -> tuple[Picture, ...]:
    if not path.is_file():
        raise Unreadable(f"there is no {path}")
    try:
        entries = by_image(path, THRESHOLD)
        objects = [predicted(entries[r["image_id"]], scene.to_class) for r in scene.records]
        return _pictures(scene, objects)
    except Exception as error:  # cut off, or of another program: wrong in any way
        raise Unreadable(f"{path} cannot be read: {error!r}") from error


def _pixel_range(run: Origin) -> tuple[float, ...]:
    """Return INPUT.PIXEL_RANGE of a run; empty where its config is not there."""
    try:
        return tuple(
            read_config(Path(run.results).with_name(CONFIG)).get("INPUT.PIXEL_RANGE") or ()
        )
    except UserError:
        return ()


def _scene(dataset: str, pixel_range: tuple[float, ...], by_outline: bool) -> _Scene:
    metadata = MetadataCatalog.get(dataset) if dataset in DatasetCatalog else None
    file = metadata.get("json_file") if metadata else None
    # Without its file a generated data set would be drawn anew.
    if metadata is None or file is None or not Path(file).is_file():
        raise Unreadable(f"the images of {dataset} are not on this machine")
    try:
        records = pick(DatasetCatalog.get(dataset), IMAGES)
        files = ImageFiles(pixel_range)
        images = tuple(files.read(record["file_name"], "RGB") for record in records)
    except (OSError, ValueError, LookupError, UserError) as error:
        raise Unreadable(f"the images of {dataset} cannot be read: {error!r}") from error
    to_class = metadata.get("thing_dataset_id_to_contiguous_id")
    truth = tuple(map(ground_truth, records))
    return _Scene(tuple(records), truth, images, style_of(metadata), to_class, by_outline)


def _pictures(scene: _Scene, objects: Sequence[Objects]) -> tuple[Picture, ...]:
    pictures = []
    for record, truth, image, some in zip(
        scene.records, scene.truth, scene.images, objects, strict=True
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
        name = Path(record["file_name"]).name
        close = close_up(image, truth, some, scene.style) if scene.has_close_ups else None
        picture = Picture(_data_uri(drawn), width, height, len(some), name, _close(close))
        pictures.append(picture)
    return tuple(pictures)


def _close(shown: CloseUp | None) -> ClosePicture | None:
    if shown is None:
        return None
    height, width = shown.pixels.shape[:2]
    return ClosePicture(_data_uri(shown.pixels), width, height, shown)


def _data_uri(pixels: np.ndarray) -> str:
    file = io.BytesIO()
    # Method 6 is the slowest and gives the smallest file.
    Image.fromarray(pixels).save(file, "WEBP", quality=QUALITY, method=6)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
