"""Contact sheet of a test set: ground truth beside predictions for some images, as a PNG.

H, W = height and width of an image in pixels; boxes, masks and keypoints as in ``draw``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from maskrcnn_repro.data.image_file import ImageError, ImageFiles
from maskrcnn_repro.evaluation.table import summary
from maskrcnn_repro.utils.files import replaced
from maskrcnn_repro.visualization.coco_objects import by_image, ground_truth, read_objects, style_of
from maskrcnn_repro.visualization.draw import (
    CROWDED,
    Objects,
    colored_as,
    draw,
    font,
    is_crowded,
    number_objects,
)
from maskrcnn_repro.visualization.proposals import best_fitting, proposals_by_image

from detectron2.data import DatasetCatalog, Metadata, MetadataCatalog
from PIL import Image, ImageDraw

CELL = (320, 480)
"""Limits of the longer side of an image on the sheet, in pixels."""
CROWDED_CELL = 640
"""Longer side where an image has so many objects that labels need the room."""
GAP = 16
HEADER = 80
CAPTION = 24
CAPTION_SIZE = 14
SEAM = 4
PAPER, INK, PALE = (250, 250, 248), (28, 28, 30), (110, 110, 116)


def write_sheet(
    path: Path,
    *,
    dataset: str,
    predictions: Path,
    images: int,
    threshold: float,
    metrics: Mapping[str, Mapping[str, float]],
    caption: str,
    files: ImageFiles | None = None,
    skip_broken: bool = False,
) -> None:
    """Draw a contact sheet and write it atomically.

    Args:
        path: the PNG.
        dataset: registered name; its images are taken at regular intervals.
        predictions: COCO results JSON on that data set; a missing file means no detections. Or a ``.pkl``
            of Detectron2's evaluator with proposals, of which the best for each object is drawn.
        images: largest number of images.
        threshold: lowest score of a detection that is drawn; for proposals, lowest IoU with the object.
        metrics: by task and name, in points, for the header.
        caption: second line of the header.
        files: reads the images; by default those that need no config key.
        skip_broken: leave out those that cannot be read.

    Raises:
        ImageError: an image cannot be read.
    """
    records = pick(DatasetCatalog.get(dataset), images)
    metadata = MetadataCatalog.get(dataset)
    predictions_of, scores = _load_predictions(predictions, threshold, metadata)
    style = style_of(metadata)
    side = _side(records)
    pairs = []
    for record in records:
        try:
            image = (files or ImageFiles()).read(
                record["file_name"], "RGB", (record["height"], record["width"])
            )
        except ImageError:
            if not skip_broken:
                raise
            continue
        scale = side / max(image.shape[:2])
        truth = number_objects(ground_truth(record))
        instances = colored_as(predictions_of(record["image_id"], truth), truth)
        counts = f"   {len(truth)} objects, {len(instances)} found"
        title = shorten(Path(record["file_name"]).name, counts, 2 * side)
        crowded = is_crowded(truth, instances)
        pictures = [draw(image, s, style, scale, crowded=crowded) for s in (truth, instances)]
        pairs.append((title, [Image.fromarray(picture) for picture in pictures]))
    sheet = compose(pairs, side, summary(metrics), f"{caption} · {scores} from {threshold:.2f}")
    with replaced(path) as beside:
        sheet.save(beside, optimize=True)


def _side(records: Sequence[Mapping[str, Any]]) -> int:
    """Return the longer side of the images on the sheet, in pixels."""
    if any(len(record.get("annotations", ())) > CROWDED for record in records):
        return CROWDED_CELL
    longest = max((max(r["height"], r["width"]) for r in records), default=CELL[0])
    return int(min(max(longest, CELL[0]), CELL[1]))


def _load_predictions(
    predictions: Path, threshold: float, metadata: Metadata
) -> tuple[Callable[[Any, Objects], Objects], str]:
    """Return a function from an image's id and ground truth to its predictions, and a name for the scores."""
    if predictions.suffix == ".pkl":
        proposals = proposals_by_image(predictions)
        return (
            lambda image_id, truth: best_fitting(proposals[image_id], truth, threshold)
        ), "of each object its best proposal, IoU"
    entries = by_image(predictions, threshold)
    to_class = metadata.get("thing_dataset_id_to_contiguous_id")
    return lambda image_id, _: read_objects(entries[image_id], to_class), "scores"


def shorten(name: str, suffix: str, width: int) -> str:
    """Return ``name`` and ``suffix``, with "…" in the middle of the name if both are wider than ``width``.

    Args:
        name: of a file.
        suffix: text after the name, which is not shortened.
        width: in pixels.
    """
    short = name
    while font(CAPTION_SIZE).getlength(short + suffix) > width and len(short) > 4:
        half = (len(short) - 2) // 2
        short = f"{name[:half]}…{name[-half:]}"
    return short + suffix


def pick(records: Sequence[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """Return up to ``count`` records at regular intervals, of those with objects if there are any."""
    useful = [record for record in records if record.get("annotations")] or list(records)
    count = min(count, len(useful))
    return [useful[i * len(useful) // count] for i in range(count)]


def compose(
    pairs: Sequence[tuple[str, Sequence[Image.Image]]],
    side: int,
    title: str,
    caption: str,
    colors: str = "as the objects that they fit",
) -> Image.Image:
    """Return the sheet: a header, then pairs of images in rows.

    Args:
        pairs: title and the two images of each pair.
        side: longest side of the images, pixels.
        title: first line of the header.
        caption: second line.
        colors: what the colours of predictions mean, in the second line.
    """
    # Pairs are twice as wide as high; this makes the sheet about 3:2.
    columns = max(1, round(math.sqrt(len(pairs) * 0.75)))
    rows = [pairs[i : i + columns] for i in range(0, len(pairs), columns)]
    heights = [max(image.height for _, images in row for image in images) for row in rows]
    width = columns * (2 * side + SEAM + GAP) + GAP
    sheet = Image.new("RGB", (width, HEADER + sum(heights) + len(rows) * (CAPTION + GAP)), PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((GAP, 14), title, fill=INK, font=font(28))
    pen.text(
        (GAP, 50),
        f"left: ground truth, right: predictions, coloured {colors} · {caption}",
        fill=PALE,
        font=font(15),
    )
    y = HEADER
    for row, height in zip(rows, heights, strict=True):
        for column, (text, images) in enumerate(row):
            x = GAP + column * (2 * side + SEAM + GAP)
            pen.text((x, y + 2), text, fill=PALE, font=font(CAPTION_SIZE))
            for number, image in enumerate(images):
                left = x + number * (side + SEAM) + (side - image.width) // 2
                sheet.paste(image, (left, y + CAPTION + (height - image.height) // 2))
        y += height + CAPTION + GAP
    return sheet
