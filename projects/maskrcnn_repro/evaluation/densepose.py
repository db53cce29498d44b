"""Evaluation of surface coordinates: GPS and GPSm of every image, and their average precision."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from maskrcnn_repro.data.densepose.truth import read_surfaces, surface_of
from maskrcnn_repro.errors import ConfigError
from maskrcnn_repro.evaluation.surface_ap import Case, average_precision, compare
from maskrcnn_repro.evaluation.surface_resampling import FILE, match_surfaces, write_matches
from maskrcnn_repro.evaluation.table import DENSEPOSE

from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm


class DensePoseEvaluator(DatasetEvaluator):
    """Measures ``pred_densepose``; the results have the tasks ``densepose_gps`` and ``densepose_gpsm``.

    A model's ``pred_densepose`` has a method ``surfaces``, which takes boxes (R, 4) and returns chart, u and v of each box's
    pixels, (3, h, w) uint8. Images that are annotated, but were not predicted, do not count. ``densepose_matches.npz`` has what
    matches which person, so that images can be drawn again.

    Args:
        dataset_name: registered, with surface coordinates of one class.
        output_dir: folder of that file.
    """

    def __init__(self, dataset_name: str, output_dir: str | Path) -> None:
        self.dataset, self.surface = dataset_name, surface_of(dataset_name)
        self.folder = Path(output_dir)
        tree = read_surfaces(dataset_name)
        self._sizes = {image["id"]: (image["height"], image["width"]) for image in tree["images"]}
        by_image = sorted(tree["annotations"], key=lambda annotation: annotation["image_id"])
        self._people = {
            image: list(people)
            for image, people in itertools.groupby(by_image, lambda person: person["image_id"])
        }
        self.reset()

    def reset(self) -> None:
        """Forget all predictions."""
        self._cases: dict[Any, Case] = {}

    def process(self, inputs: Iterable[dict[str, Any]], outputs: Iterable[dict[str, Any]]) -> None:
        """Compare a batch: dicts with ``image_id``, and with ``instances`` as a DensePose model gives them.

        Raises:
            ConfigError: the model predicts no surface coordinates.
        """
        for item, output in zip(inputs, outputs, strict=True):
            instances = output["instances"].to("cpu")
            if not instances.has("pred_densepose"):
                raise ConfigError(
                    "MODEL.DENSEPOSE_ON is True, but the model predicts no surface coordinates; choose MODEL.ROI_HEADS.NAME "
                    "'FamilyDensePoseROIHeads'."
                )
            boxes = instances.pred_boxes.tensor
            places = boxes.clone()
            places[:, 2:] -= boxes[:, :2]
            maps = [surface.numpy() for surface in instances.pred_densepose.surfaces(boxes)]
            image = item["image_id"]
            self._cases[image] = compare(
                self.surface,
                self._people.get(image, []),
                list(zip(instances.scores.tolist(), places.tolist(), maps, strict=True)),
                self._sizes[image],
            )

    def evaluate(self) -> dict[str, dict[str, float]]:
        """Write the matches and return the metrics in the main process; nothing in the others."""
        parts = comm.gather(self._cases)
        if not comm.is_main_process():
            return {}
        cases = {image: case for part in parts for image, case in part.items()}
        tasks = {f"{DENSEPOSE}_{task}": task for task in ("gps", "gpsm")}
        matches = {name: match_surfaces(cases, task) for name, task in tasks.items()}
        write_matches(self.folder / FILE, matches)
        return {name: average_precision(cases, task) for name, task in tasks.items()}
