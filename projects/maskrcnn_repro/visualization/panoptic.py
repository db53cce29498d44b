"""Drawing of panoptic maps: each segment tinted, outlined and named; ground truth beside predictions.

H, W = height and width of an image in pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from maskrcnn_repro.data.image_file import ImageFiles
from maskrcnn_repro.data.panoptic.files import Segment, read_ids
from maskrcnn_repro.data.panoptic.truth import PanopticTruth, image_key, open_truth
from maskrcnn_repro.modeling.rle import RLEMasks
from maskrcnn_repro.utils.files import replaced
from maskrcnn_repro.utils.rle import encode_mask
from maskrcnn_repro.visualization.draw import Objects, Style, draw
from maskrcnn_repro.visualization.sheet import CELL, compose, pick, shorten

import numpy as np
from detectron2.data import DatasetCatalog
from PIL import Image
from pycocotools import mask as rle_codec


def draw_panoptic(
    image: np.ndarray,
    ids: np.ndarray,
    labels: Mapping[int, str],
    colors: Mapping[int, int],
    magnification: float = 1.0,
) -> np.ndarray:
    """Return the resized image with the segments drawn on it, (sH, sW, 3) RGB uint8, s being the magnification.

    Args:
        image: (H, W, 3) RGB uint8.
        ids: (H, W) segment ids; others than those named are not drawn.
        labels: of each segment.
        colors: of each segment, the number of its colour.
        magnification: of the picture; lines and letters keep their size.
    """
    rles = {number: encode_mask(ids == number) for number in labels}
    rles = {number: rle for number, rle in rles.items() if rle_codec.area(rle)}
    boxes = np.array([rle_codec.toBbox(rle) for rle in rles.values()]).reshape(-1, 4)
    objects = Objects(
        np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]]),
        np.arange(len(rles)),
        # At full size one after the other.
        RLEMasks(list(rles.values()), ids.shape),
        colors=np.array([colors[number] for number in rles], dtype=np.int64),
    )
    # Two names at least: the only class of a data set is not written.
    style = Style([*(labels[number] for number in rles), "", ""])
    # Without boxes, which would say nothing of stuff.
    return draw(image, objects, style, magnification, crowded=True)


def write_panoptic_sheet(
    path: Path,
    *,
    dataset: str,
    results: Path,
    images: int,
    title: str,
    caption: str,
    files: ImageFiles | None = None,
) -> None:
    """Draw panoptic ground truth beside predictions and write it atomically.

    Args:
        path: the PNG.
        dataset: registered name; its images are taken at regular intervals.
        results: what ``PanopticEvaluator`` wrote; its PNG files lie in the folder of its name without the suffix.
        images: largest number of images.
        title: first line of the header.
        caption: second line.
        files: reads the images; by default those that need no config key.

    Raises:
        DataError: a file cannot be read.
    """
    truth = open_truth(dataset)
    predicted = PanopticTruth.read(results, results.with_suffix(""), results=True)
    places = {category: place for place, category in enumerate(truth.names)}
    pairs = []
    for record in pick(DatasetCatalog.get(dataset), images):
        if image_key(record["file_name"]) not in predicted.annotations:
            continue
        size = record["height"], record["width"]
        image = (files or ImageFiles()).read(record["file_name"], "RGB", size)
        scale = CELL[0] / max(image.shape[:2])
        pictures = []
        for side in (truth, predicted):
            entry = side.of(record["file_name"])
            segments: Sequence[Segment] = [
                s for s in entry["segments_info"] if not s.get("iscrowd")
            ]
            names = {s["id"]: truth.names[s["category_id"]] for s in segments}
            colors = {s["id"]: places[s["category_id"]] for s in segments}
            ids = read_ids(side.folder / entry["file_name"])
            pictures.append(Image.fromarray(draw_panoptic(image, ids, names, colors, scale)))
        pairs.append((shorten(Path(record["file_name"]).name, "", 2 * CELL[0]), pictures))
    sheet = compose(pairs, CELL[0], title, caption, "by class")
    with replaced(path) as beside:
        sheet.save(beside, optimize=True)
