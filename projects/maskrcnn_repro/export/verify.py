"""Whether an exported file says what its model says: detections side by side, each miss traced to a tie.

Rounding differs between runtimes. Where two scores, or an IoU and the threshold of NMS, are equal but for the last
digits, it decides which detection stays: such a tie is no error of a file, and counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from maskrcnn_repro.inference.exported import (
    Arrays,
    ExportedDetector,
    ExportedModel,
    check_sides,
    file_input,
)
from maskrcnn_repro.inference.exported_branches import branches_of_model

import numpy as np
import torch
from detectron2.modeling import detector_postprocess
from detectron2.structures import Instances
from torchvision.ops import box_iou

LIMITS = {"boxes": 1e-2, "scores": 1e-4, "masks": 1e-3, "mask_scores": 1e-4, "keypoints": 1e-2}
"""The largest differences: pixels, probabilities, probabilities of cells, pixels."""
TIE = 1e-4
"""Scores and IoUs this close may change places."""


@dataclass
class Comparison:
    """What was compared, and the largest differences.

    Attributes:
        detections: of the model, in all pictures.
        matched: those that the file has, too.
        ties: detections that one of the two lacks, or keypoints elsewhere, because of a tie.
        misses: the others that one of the two lacks.
        largest: difference of boxes, scores, masks, keypoints among the matched, and those of further branches.
        seconds: of the model and of the file, for all pictures.
        limits: the largest differences that a file may have.
    """

    detections: int = 0
    matched: int = 0
    ties: int = 0
    misses: int = 0
    largest: dict[str, float] = field(default_factory=dict)
    seconds: tuple[float, float] = (0.0, 0.0)
    limits: Mapping[str, float] = field(default_factory=lambda: LIMITS)

    @property
    def holds(self) -> bool:
        """Whether the file may be called the same model."""
        return not self.misses and all(
            value <= self.limits[name] for name, value in self.largest.items()
        )

    def enlarge(self, differences: Mapping[str, float]) -> None:
        """Keep those that are larger than before; NaN, which no comparison tells from others, is infinite."""
        for name, value in differences.items():
            value = math.inf if math.isnan(value) else value
            self.largest[name] = max(self.largest.get(name, 0.0), value)

    def __str__(self) -> str:
        units = {"boxes": " px", "keypoints": " px"}
        numbers = ", ".join(
            f"{name} {value:.1e}{units.get(name, '')}" for name, value in self.largest.items()
        )
        return (
            f"{self.matched} of {self.detections} detections matched, {self.ties} ties, {self.misses} misses; largest "
            f"differences: {numbers or 'none'}"
        )


@torch.no_grad()
def compare_on(
    pictures: Sequence[Mapping[str, Any]], model: Any, exported: ExportedModel
) -> Comparison:
    """Return how a file compares with its model on pictures.

    Args:
        pictures: model inputs: ``image`` (3, h, w) uint8 in the channels of the model, ``height`` and ``width``.
        model: in evaluation mode, with the threshold of the file.
        exported: the file, with the facts of its export.
    """
    facts, branches = exported.facts, branches_of_model(model)
    of_image = [branch for branch in branches if branch.of_image]
    limits = {name: limit for branch in branches for name, limit in branch.limits.items()}
    comparison = Comparison(limits={**LIMITS, **limits})
    detector = ExportedDetector(exported)
    for picture in pictures:
        inputs = file_input(picture, facts["channels"])
        check_sides(inputs[0], facts)
        expected, eager = _time(reference, model, picture)
        outputs, file = _time(exported.run, *inputs)
        compare(expected, outputs, facts, comparison)
        if of_image:
            # What is timed of the model is all that the file does.
            (whole,), eager = _time(model.inference, [picture])
            given = detector.result_of(outputs, inputs[1])
            for branch in of_image:
                comparison.enlarge(branch.differences(whole, given, outputs))
        comparison.seconds = comparison.seconds[0] + eager, comparison.seconds[1] + file
    return comparison


def _time(function: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    started = perf_counter()
    result = function(*arguments)
    return result, perf_counter() - started


@torch.no_grad()
def reference(model: Any, picture: Mapping[str, Any]) -> Arrays:
    """Return what the model itself says of a picture, in the form of an exported file's outputs."""
    instances = model.inference([picture], do_postprocess=False)[0]
    fields = dict(instances.get_fields())
    if "pred_masks" in fields:
        # Under another name they are not pasted.
        fields["roi_masks"] = fields.pop("pred_masks")[:, 0]
    size = picture["height"], picture["width"]
    scaled = detector_postprocess(Instances(instances.image_size, **fields), *size)
    arrays = {
        "boxes": scaled.pred_boxes.tensor,
        "scores": scaled.scores,
        "classes": scaled.pred_classes,
    }
    parts = {"masks": "roi_masks", "mask_scores": "mask_scores", "keypoints": "pred_keypoints"}
    for name, where in parts.items():
        if scaled.has(where):
            arrays[name] = scaled.get(where)
    for branch in branches_of_model(model):
        arrays |= branch.expected(scaled)
    return {name: tensor.numpy() for name, tensor in arrays.items()}


def compare(
    expected: Arrays, outputs: Arrays, facts: Mapping[str, Any], comparison: Comparison
) -> None:
    """Add the detections of one picture to a comparison."""
    pairs = matches(expected, outputs)
    comparison.detections += len(expected["scores"])
    comparison.matched += len(pairs)
    for name in [name for name in comparison.limits if name in expected]:
        for row, partner in pairs:
            difference = np.abs(expected[name][row] - outputs[name][partner])
            if name == "keypoints":
                tied = _tied_keypoints(expected[name][row], outputs[name][partner])
                comparison.ties += int(tied.sum())
                difference = difference[~tied, :2]
            comparison.enlarge({name: float(difference.max(initial=0.0))})
    lone = [set(range(len(expected["scores"]))), set(range(len(outputs["scores"])))]
    for row, partner in pairs:
        lone[0].remove(row)
        lone[1].remove(partner)
    for here, there, rows in ((expected, outputs, lone[0]), (outputs, expected, lone[1])):
        ties = sum(is_tie(here, row, there, facts) for row in rows)
        comparison.ties += ties
        comparison.misses += len(rows) - ties


def matches(expected: Arrays, outputs: Arrays) -> list[tuple[int, int]]:
    """Return pairs of rows that are the same detection: class, score and box agree within the limits."""
    free, pairs = set(range(len(outputs["scores"]))), []
    for row in range(len(expected["scores"])):
        near = [
            partner
            for partner in free
            if outputs["classes"][partner] == expected["classes"][row]
            and abs(outputs["scores"][partner] - expected["scores"][row]) <= LIMITS["scores"]
            and np.abs(outputs["boxes"][partner] - expected["boxes"][row]).max() <= LIMITS["boxes"]
        ]
        if near:
            pairs.append((row, min(near)))
            free.remove(min(near))
    return pairs


def is_tie(here: Arrays, row: int, there: Arrays, facts: Mapping[str, Any]) -> bool:
    """Tell whether a detection that only one of the two has is within rounding of being dropped."""
    score = float(here["scores"][row])
    if abs(score - facts["threshold"]) <= TIE:
        return True
    full = len(there["scores"]) >= facts["detections_per_image"]
    if full and abs(score - float(there["scores"].min())) <= TIE:
        return True
    same = there["classes"] == here["classes"][row]
    boxes = torch.from_numpy(np.concatenate([there["boxes"][same], here["boxes"][[row]]]))
    overlaps = box_iou(boxes[-1:], boxes[:-1]).numpy()
    return bool((np.abs(overlaps - facts["nms_threshold"]) <= TIE).any())


def _tied_keypoints(expected: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """Return which of K keypoints lie elsewhere with an equal score: two pixels of a heatmap are equally high."""
    apart = np.abs(expected[:, :2] - outputs[:, :2]).max(axis=1) > LIMITS["keypoints"]
    level = np.abs(expected[:, 2] - outputs[:, 2]) <= LIMITS["scores"] * np.maximum(
        1, expected[:, 2]
    )
    return apart & level
