"""Measures RoIPool, RoIWarp and RoIAlign on the same boxes, from the weights of three trained models of table 2c.

The boxes are those in which the model trained with RoIAlign detects objects, as its evaluation left them. In each of
them a mask is predicted six times: by that model, with its operation and with each of the other two in its place, and
by the three models that were trained with them. Objects count that all three trained models detect.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskrcnn_repro._backend import BACKEND
from maskrcnn_repro._location import CHECKOUT
from maskrcnn_repro.data.image_source import WithSource
from maskrcnn_repro.data.loader import image_files, inference_mapper
from maskrcnn_repro.errors import TableError
from maskrcnn_repro.modeling.rle import encode_masks
from maskrcnn_repro.tables.report.exchange.masks import Compared
from maskrcnn_repro.tables.report.exchange.model import ALIGN, METHOD, Exchange, Source
from maskrcnn_repro.tables.report.exchange.picture import picture
from maskrcnn_repro.tables.report.exchange.shifts import bin_shifts, corner_shifts
from maskrcnn_repro.tables.report.exchange.sizes import by_size
from maskrcnn_repro.tables.report.exchange.weights import Models
from maskrcnn_repro.tables.report.model import Origin
from maskrcnn_repro.tables.report.places import detections_file, record_of
from maskrcnn_repro.utils.provenance import commit
from maskrcnn_repro.visualization.coco_objects import by_image, ground_truth, read_objects
from maskrcnn_repro.visualization.draw import Objects
from maskrcnn_repro.visualization.sheet import pick

import numpy as np
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, pairwise_iou
from tqdm import tqdm

IMAGES = 200
"""At most, taken at even distances: they take some 20 seconds at level mini."""
SCORE, IOU = 0.5, 0.5
"""Least score of a detection, and least IoU of its box with the object's."""


def measure(
    runs: Mapping[str, Origin], images: int = IMAGES, say: Callable[[str], None] = lambda line: None
) -> tuple[Exchange, bytes]:
    """Compare the operations on the test set of some runs.

    Args:
        runs: by operation, of :func:`~maskrcnn_repro.tables.report.exchange.model.runs_of`.
        images: at most so many are looked at.
        say: is told what takes long, one line each.

    Returns:
        What was measured, and the pictured part of an image as a PNG, empty where no object was detected by all.

    Raises:
        UserError: weights, images or detections are missing or cannot be read.
    """
    models, dataset = Models.load(runs), runs[ALIGN].split
    cfg, metadata = models.trained[ALIGN].cfg, MetadataCatalog.get(dataset)
    records = pick(DatasetCatalog.get(dataset), images)
    detections = _Detections.of(runs, metadata.get("thing_dataset_id_to_contiguous_id"))
    read = WithSource(inference_mapper(cfg, dataset), image_files(cfg))
    say(f"Comparing RoI operations on the same boxes: {len(records)} images of {dataset}.")
    compared: list[Compared] = []
    # A bar on a terminal alone.
    for record in tqdm(records, unit="image", disable=None):
        compared += _compare_objects(record, read, detections, models)
    # The first of equals.
    shown = max(compared, key=lambda each: each.difference, default=None)
    operations = {name: model.operation for name, model in models.exchanged.items()}
    pictured, png = None, b""
    if shown:
        pictured, png = picture(shown, operations, image_files(cfg), metadata.thing_classes)
    exchange = Exchange(
        method=METHOD,
        dataset=dataset,
        images=len(records),
        objects=sum(len(ground_truth(record)) for record in records),
        score=SCORE,
        iou=IOU,
        stride=round(1 / operations[ALIGN].spatial_scale),
        backend=str(BACKEND),
        commit=commit(CHECKOUT) or "",
        written=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        runs={name: _source(run) for name, run in runs.items()},
        operations={n: type(model.operation).__name__ for n, model in models.trained.items()},
        sizes=tuple(by_size(compared)),
        pictured=pictured,
    )
    return exchange, png


def _source(run: Origin) -> Source:
    return Source(run.experiment, run.seed, record_of(run), run.commit or "", run.machine)


@dataclass(frozen=True)
class _Detections:
    """What the trained models detect, by operation and image."""

    entries: Mapping[str, Mapping[Any, list[dict[str, Any]]]]
    to_class: Mapping[int, int] | None

    @classmethod
    def of(cls, runs: Mapping[str, Origin], to_class: Mapping[int, int] | None) -> _Detections:
        entries = {}
        for name, run in runs.items():
            file = detections_file(Path(run.results), run.split)
            if not file.is_file():
                raise TableError(f"There are no detections {file}.")
            try:
                entries[name] = by_image(file, SCORE)
            except (OSError, ValueError, LookupError, TypeError) as error:
                raise TableError(f"{file} cannot be read: {error!r}.") from error
        return cls(entries, to_class)

    def boxes(self, image_id: Any, truth: Objects) -> tuple[np.ndarray, np.ndarray]:
        """Return the objects that all models detect, (R,) int, and RoIAlign's boxes of them, (R, 4)."""
        detected = {
            name: read_objects(entries.get(image_id, ()), self.to_class)
            for name, entries in self.entries.items()
        }
        places = {name: detection_of(truth, objects) for name, objects in detected.items()}
        everywhere = np.flatnonzero(np.all([index >= 0 for index in places.values()], axis=0))
        return everywhere, detected[ALIGN].boxes[places[ALIGN][everywhere]]


def detection_of(truth: Objects, detections: Objects) -> np.ndarray:
    """Return for each object the detection of its class whose box fits it best, (G,) int; -1 where none does.

    A detection is one object's alone: of that which it fits best.
    """
    if not len(truth) or not len(detections):
        return np.full(len(truth), -1)
    sides = (Boxes(torch.as_tensor(each.boxes.copy())) for each in (truth, detections))
    ious = pairwise_iou(*sides).numpy() * (truth.classes[:, None] == detections.classes)
    objects, best = np.arange(len(truth)), ious.argmax(axis=1)
    fits = (ious.argmax(axis=0)[best] == objects) & (ious[objects, best] >= IOU)
    return np.where(fits, best, -1)


def _compare_objects(
    record: dict[str, Any], read: Callable[..., Any], detections: _Detections, models: Models
) -> Iterator[Compared]:
    """Yield the objects of an image that all trained models detect."""
    truth = ground_truth(record)
    chosen, boxes = detections.boxes(record["image_id"], truth)
    if not len(chosen) or not len(truth.masks):
        return
    image = read(record)
    height, width = image["image"].shape[1:]
    scale = np.array([width / image["width"], height / image["height"]])
    rois = torch.as_tensor(boxes * np.tile(scale, 2), dtype=torch.float32)
    exchanged, trained = (
        {name: model.masks(image, rois, truth.classes[chosen]) for name, model in side.items()}
        for side in (models.exchanged, models.trained)
    )
    corners, bins = (
        {name: shift(model.operation, rois).tolist() for name, model in models.exchanged.items()}
        for shift in (corner_shifts, bin_shifts)
    )
    stride = 1 / models.trained[ALIGN].operation.spatial_scale
    masks = encode_masks([torch.as_tensor(truth.masks[index]) for index in chosen])
    for row, index in enumerate(chosen):
        sides = (truth.boxes[index, 2:] - truth.boxes[index, :2]) * scale / stride
        yield Compared(
            record=record,
            category=int(truth.classes[index]),
            scale=(float(scale[0]), float(scale[1])),
            cells=float(np.sqrt(sides.prod())),
            roi=rois[row].numpy(),
            corners={name: values[row] for name, values in corners.items()},
            bins={name: values[row] for name, values in bins.items()},
            truth=masks[row],
            exchanged={name: values[row] for name, values in exchanged.items()},
            trained={name: values[row] for name, values in trained.items()},
        )
