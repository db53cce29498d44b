"""Worker process of the benchmark of a folder: builds one contestant and predicts on the next files on request.

Run as ``python -m maskrcnn_repro.benchmark.folder_worker``. The protocol is that of
:mod:`maskrcnn_repro.benchmark.worker`, with the fields of :class:`Task` in the first line.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskrcnn_repro.benchmark import inference_worker, models
from maskrcnn_repro.benchmark.worker import serve
from maskrcnn_repro.checkpoint.model_file import Labels
from maskrcnn_repro.checkpoint.model_source import ModelSource, find_model
from maskrcnn_repro.data.image_file import ImageError, ImageFiles
from maskrcnn_repro.inference.formats import Item
from maskrcnn_repro.inference.input_files import Input
from maskrcnn_repro.inference.overlays import magnification, write_picture
from maskrcnn_repro.inference.predictor import Predictor
from maskrcnn_repro.inference.settings import augmentations, build_detector, settings
from maskrcnn_repro.inference.stream import in_threads, predict_images
from maskrcnn_repro.utils.provenance import code_origin

import numpy as np
import torch
from detectron2.data import transforms as T
from detectron2.data.detection_utils import read_image
from detectron2.engine import DefaultPredictor

REQUESTS = ("predict", "objects")
THRESHOLD = 0.5
Predict = Callable[[Sequence[str]], tuple[float, int]]
"""Files to the seconds that they took and the number of objects in them."""


@dataclass(frozen=True)
class Task:
    """A contestant and its files."""

    contestant: str
    """A key of :data:`CONTESTANTS`."""
    model: str
    """See :func:`source_of`."""
    files: list[str]
    count: int
    """Of files that each request is for; after the last comes the first again."""
    threads: int
    folder: str
    """For weights and overlays; each contestant has a folder of its own in it."""

    @property
    def own_folder(self) -> Path:
        """This contestant's; it is made where it is missing."""
        path = Path(self.folder) / self.contestant.replace(" ", "_")
        path.mkdir(exist_ok=True)
        return path


class Bench:
    """A contestant, and what it saw so far."""

    def __init__(self, task: Task) -> None:
        torch.set_num_threads(task.threads)
        self.path, self._objects = "plain float32", 0
        self._files, self._count = itertools.cycle(task.files), task.count
        self._predict = CONTESTANTS[task.contestant](self, task)

    def predict(self) -> float:
        """Return the seconds of the next files."""
        seconds, objects = self._predict([*itertools.islice(self._files, self._count)])
        self._objects += objects
        return seconds

    def objects(self) -> int:
        """Return the number of objects so far."""
        return self._objects

    def describe(self) -> dict[str, Any]:
        """Return how it computes, and the origin of the code."""
        return {"path": self.path, "origin": code_origin()}


def source_of(task: Task) -> ModelSource:
    """Return a model of :data:`maskrcnn_repro.benchmark.models.SETTINGS` with the recipe's weights, else a trained one."""
    if task.model not in models.SETTINGS:
        return find_model(task.model)
    cfg = models.own_config(task.model)
    weights = task.own_folder / "weights.pth"
    torch.save({"model": models.build(cfg).state_dict()}, weights)
    names = tuple(f"class {number}" for number in range(cfg.MODEL.ROI_HEADS.NUM_CLASSES))
    return ModelSource(cfg, weights, Labels(names))


def _time_predictions(predictions: Callable[[], Iterable[int]]) -> tuple[float, int]:
    begin = time.perf_counter()
    objects = sum(predictions())
    return time.perf_counter() - begin, objects


def _model_alone(bench: Bench, task: Task) -> Predict:
    """Our model on images that were read and resized before."""
    source = source_of(task)
    cfg = settings(source, THRESHOLD, "cpu", "auto", None)
    detector = build_detector(cfg, source, fast=True)
    bench.path = detector.path
    resize, files = augmentations(cfg), ImageFiles(tuple(cfg.INPUT.PIXEL_RANGE))

    def sample(path: str) -> dict[str, Any]:
        seen = T.AugInput(files.read(Path(path), cfg.INPUT.FORMAT))
        height, width = seen.image.shape[:2]
        resize(seen)
        pixels = torch.from_numpy(np.ascontiguousarray(seen.image.transpose(2, 0, 1)))
        return {"image": pixels, "height": height, "width": width}

    def predict(paths: Sequence[str]) -> tuple[float, int]:
        samples = [sample(path) for path in paths]
        with torch.inference_mode():
            return _time_predictions(
                lambda: (len(detector.model([x])[0]["instances"]) for x in samples)
            )

    return predict


def _predictor(bench: Bench, task: Task) -> Predict:
    predictor = _build_predictor(bench, task)
    return lambda paths: _time_predictions(lambda: map(len, predictor.stream([*paths])))


def _with_overlays(bench: Bench, task: Task) -> Predict:
    """What ``maskrcnn predict`` does with images."""
    predictor, folder = _build_predictor(bench, task), task.own_folder
    files = ImageFiles(tuple(predictor.cfg.INPUT.PIXEL_RANGE))

    def overlay(pair: tuple[np.ndarray, Item]) -> int:
        image, item = pair
        picture = item.prediction.draw(image, magnification(*image.shape[:2]))
        write_picture(folder / f"{Path(item.name).stem}.jpg", picture)
        return len(item.prediction)

    def predict(paths: Sequence[str]) -> tuple[float, int]:
        inputs = [Input(Path(path), Path(path).name, video=False) for path in paths]
        return _time_predictions(
            lambda: in_threads(overlay, predict_images(predictor, files, inputs, 1, _refuse))
        )

    return predict


def _build_predictor(bench: Bench, task: Task) -> Predictor:
    predictor = Predictor(source_of(task), THRESHOLD, device="cpu", precision="auto")
    bench.path = predictor.path
    return predictor


def _refuse(error: ImageError) -> None:
    raise error


def _detectron2(bench: Bench, task: Task) -> Predict:
    """Detectron2's ``DefaultPredictor`` in a loop, as its tutorial has it."""
    source = source_of(task)
    cfg = settings(source, THRESHOLD, "cpu", "float32", None).clone()
    cfg.defrost()
    cfg.MODEL.WEIGHTS = str(source.weights)
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.CHANNELS_LAST = "GeneralizedRCNN", False
    predictor = DefaultPredictor(cfg)

    def count(path: str) -> int:
        return len(predictor(read_image(path, format="BGR"))["instances"])

    return lambda paths: _time_predictions(lambda: map(count, paths))


def _torchvision(bench: Bench, task: Task) -> Predict:
    """The model of torchvision in a loop, as its documentation has it."""
    from torchvision.io import ImageReadMode, decode_image

    model = inference_worker.torchvision_model(800, 1333)

    def count(path: str) -> int:
        output = model([decode_image(path, ImageReadMode.RGB) / 255])[0]
        kept = output["scores"] > THRESHOLD
        return len(output["masks"][kept, 0] >= 0.5)

    def predict(paths: Sequence[str]) -> tuple[float, int]:
        with torch.inference_mode():
            return _time_predictions(lambda: map(count, paths))

    return predict


CONTESTANTS: dict[str, Callable[[Bench, Task], Predict]] = {
    "model alone": _model_alone,
    "Predictor": _predictor,
    "Predictor, overlays": _with_overlays,
    "DefaultPredictor": _detectron2,
    "torchvision": _torchvision,
}
"""Name of a contestant -> what builds it."""


def main() -> None:
    """Serve requests until the end of input."""
    serve(lambda task: Bench(Task(**task)), REQUESTS)


if __name__ == "__main__":
    main()
