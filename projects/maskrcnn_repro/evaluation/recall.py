"""Average recall (AR) of stored proposals, with Detectron2's evaluator, in bounded memory.

AR is the share of ground-truth boxes that proposals find, averaged over IoU 0.5, 0.55 ... 0.95 [FPN, Sec.
5.1], for the best 100 or 1000 proposals of each image.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from maskrcnn_repro.data.proposals.store import ProposalStore
from maskrcnn_repro.evaluation.table import PROPOSALS

import torch
from detectron2.data import MetadataCatalog
from detectron2.evaluation import COCOEvaluator
from detectron2.structures import Boxes, Instances

CHUNK = 1000
"""Images whose proposals are in memory at a time: 40 MB."""
MOST = 1000
"""Proposals per image that are evaluated."""
AREAS = {"": (0, 1e10), "s": (0, 32**2), "m": (32**2, 96**2), "l": (96**2, 1e10)}
"""COCO's ranges of a ground-truth box's area, in square pixels of the original image."""


def proposal_recall(store: ProposalStore, dataset: str, folder: Path) -> dict[str, float]:
    """Return ``AR@100``, ``ARs@100`` … ``ARl@1000`` in points, 0 to 100; NaN without an object of that size.

    Args:
        store: proposals of the data set.
        dataset: registered name.
        folder: where to write the COCO JSON of a data set that has none.

    Returns:
        The metrics; none for a data set without annotations.
    """
    file = MetadataCatalog.get(dataset).get("json_file")
    if file is None:
        # The constructor writes a JSON and sets `json_file` in the metadata.
        COCOEvaluator(dataset, tasks=("bbox",), output_dir=str(folder))
    # The COCO code prints its progress.
    with contextlib.redirect_stdout(io.StringIO()):
        # No output folder: the evaluator would write the proposals of each chunk to it.
        evaluator = COCOEvaluator(dataset, tasks=("bbox",), distributed=False)
        truth = _Truth(MetadataCatalog.get(dataset).json_file)
        ids = store.image_ids()
        sums, counts = defaultdict[str, float](float), Counter[str]()
        for begin in range(0, len(ids) if truth.exists else 0, CHUNK):
            rows = range(begin, min(begin + CHUNK, len(ids)))
            count = truth.count(ids[row] for row in rows if len(store[row][1]))
            # A recall of several chunks is the mean over their objects, not over the chunks.
            for metric, recall in _recalls(evaluator, store, ids, rows).items():
                area = metric.removeprefix("AR").partition("@")[0]
                counts[metric] += count[area]
                sums[metric] += 0 if math.isnan(recall) else recall * count[area]
    return {metric: sums[metric] / n if n else math.nan for metric, n in counts.items()}


def _recalls(
    evaluator: COCOEvaluator, store: ProposalStore, ids: Sequence[int | str], rows: Iterable[int]
) -> dict[str, float]:
    """Return the metrics of the images in some rows of the store."""
    evaluator.reset()
    for row in rows:
        boxes, logits = store[row]
        proposals = Instances(
            (0, 0),  # the evaluator does not use it
            proposal_boxes=Boxes(torch.from_numpy(boxes[:MOST])),
            objectness_logits=torch.from_numpy(logits[:MOST]),
        )
        evaluator.process([{"image_id": ids[row]}], [{"proposals": proposals}])
    # Detectron2's matching, best overlap first, so that AR compares with that of its model zoo (DEVIATIONS.md).
    return dict(evaluator.evaluate()[PROPOSALS])


class _Truth:
    """Counts the ground-truth boxes by image and size; Detectron2's evaluator returns only their shares."""

    def __init__(self, json_file: str) -> None:
        content = json.loads(Path(json_file).read_text(encoding="utf-8"))
        self.exists = "annotations" in content
        self._areas: dict[int | str, list[float]] = {}
        for annotation in content.get("annotations", ()):
            if not annotation.get("iscrowd", 0):
                self._areas.setdefault(annotation["image_id"], []).append(annotation["area"])

    def count(self, image_ids: Iterable[int | str]) -> Counter[str]:
        # COCO's ranges include both ends: an area between two sizes counts in both.
        areas = [area for image_id in image_ids for area in self._areas.get(image_id, ())]
        return Counter(
            name for area in areas for name, (low, high) in AREAS.items() if low <= area <= high
        )
