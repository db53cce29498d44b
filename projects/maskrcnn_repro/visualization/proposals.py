"""Proposals for pictures: for each object, the best of hundreds.

P = proposals of an image, G = its ground-truth objects; boxes are xyxy in pixels of the original image.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from maskrcnn_repro.utils.pickles import as_array, entries, plain
from maskrcnn_repro.visualization.draw import Objects

import numpy as np
import torch
from detectron2.structures import Boxes, pairwise_iou


def proposals_by_image(path: Path) -> dict[Any, np.ndarray]:
    """Read the boxes, (P, 4), by image id from a proposal file of Detectron2's evaluator."""
    with path.open("rb") as file:
        content = entries(file)
    pairs = zip(content["ids"], content["boxes"], strict=True)
    return {plain(image_id): as_array(boxes) for image_id, boxes in pairs}


def best_fitting(boxes: np.ndarray, truth: Objects, threshold: float) -> Objects:
    """Return, for each object, the proposal with the highest IoU, and the IoU as its score.

    Args:
        boxes: (P, 4).
        truth: G objects.
        threshold: least IoU; objects without such a proposal are omitted.
    """
    if len(boxes) == 0 or len(truth) == 0:
        return Objects(boxes=np.zeros((0, 4)), classes=np.zeros(0, np.int64), scores=np.zeros(0))
    iou_PG = pairwise_iou(Boxes(torch.as_tensor(boxes.copy())), Boxes(torch.as_tensor(truth.boxes)))
    best_G, index_G = (values.numpy() for values in iou_PG.max(dim=0))
    matched = best_G >= threshold
    return Objects(
        boxes=boxes[index_G[matched]].astype(np.float64),
        classes=truth.classes[matched],
        scores=best_G[matched],
    )
