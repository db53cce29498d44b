"""What COCO's evaluation miscounts in silence, and the AP without that.

Its code takes a match with the annotation of id 0 for a miss, counts objects marked ``ignore`` all the same, and
takes at most 100 detections of a class in an image (20 with keypoints). Its numbers stay the ones that are
compared with others; where a data set holds such a trap, the corrected ones stand beside them.
"""

from __future__ import annotations

import itertools
import json
import logging
import math
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from maskrcnn_repro.evaluation.resampling import match
from maskrcnn_repro.evaluation.table import CORRECTED, TASKS

from pycocotools.cocoeval import COCOeval

logger = logging.getLogger(__name__)

LIMITS = {"bbox": 100, "segm": 100, "keypoints": 20}
"""Task -> detections of a class in an image that COCO's code takes, those with the highest scores."""


def correct(
    metrics: Mapping[str, dict[str, float]],
    truth: Path,
    predictions: Path,
    *,
    kept: int,
    oks_sigmas: Iterable[float] = (),
) -> None:
    """Put the corrected AP, AP50 and AP75 beside the metrics of each task that a trap touches, and say why.

    Args:
        metrics: task to metrics in points; ``AP (corrected)`` and so on are added.
        truth: the data set's JSON.
        predictions: the results JSON.
        kept: most detections of an image that the model keeps; below 0: all.
        oks_sigmas: one per keypoint; empty for COCO's own.
    """
    kept = kept if kept >= 0 else sys.maxsize
    tree = json.loads(truth.read_text(encoding="utf-8"))
    annotations = tree.get("annotations", [])
    _warn_of_full_images(annotations, truth, kept)
    for task in metrics.keys() & TASKS.keys() if annotations else ():
        reasons = traps(annotations, task, kept)
        if math.isnan(metrics[task].get("AP", 0.0)) and _finds_nothing(predictions, annotations):
            reasons.append("nothing is found, which Detectron2 gives no number")
        if not reasons:
            continue
        matches = match(
            truth, predictions, task, oks_sigmas, kind=_Corrected, limit=max(kept, LIMITS[task])
        )
        corrected = matches.average_precision()
        logger.warning(
            "%s: %s AP is %.1f by COCO's code and %.1f corrected: %s.",
            truth,
            TASKS[task],
            metrics[task].get("AP", float("nan")),
            corrected["AP"],
            "; ".join(reasons),
        )
        metrics[task].update({f"{name}{CORRECTED}": value for name, value in corrected.items()})


def traps(annotations: Iterable[Mapping[str, Any]], task: str, kept: int) -> list[str]:
    """Return what COCO's code would miscount, one text each.

    Args:
        annotations: of a COCO file.
        task: ``bbox``, ``segm`` or ``keypoints``.
        kept: most detections of an image that the model keeps.
    """
    annotations = list(annotations)
    ignored = [a["id"] for a in annotations if a.get("ignore") and not a.get("iscrowd")]
    counts = Counter((a["image_id"], a["category_id"]) for a in annotations if not a.get("iscrowd"))
    limit = LIMITS[task]
    full = [image for (image, _), count in counts.items() if count > limit]
    texts = []
    if any(a["id"] == 0 for a in annotations):
        texts.append("it takes a match with annotation 0 for a miss")
    if ignored:
        texts.append(
            f"it counts {len(ignored)} annotations although they are marked 'ignore', the first is {ignored[0]}"
        )
    if full and kept > limit:
        texts.append(
            f"of {len(full)} images with more than {limit} objects of a class, the first is {full[0]}, it takes "
            f"{limit} detections each"
        )
    return texts


def _finds_nothing(predictions: Path, annotations: Iterable[Mapping[str, Any]]) -> bool:
    """Tell whether there are objects, and no detection."""
    entries = json.loads(predictions.read_text(encoding="utf-8"))
    return not entries and any(not a.get("iscrowd") for a in annotations)


def _warn_of_full_images(annotations: Iterable[Mapping[str, Any]], truth: Path, kept: int) -> None:
    counts = Counter(a["image_id"] for a in annotations if not a.get("iscrowd"))
    full = {image: count for image, count in counts.items() if count > kept}
    if full:
        logger.warning(
            "%s: %d images have more objects than the %d detections that are kept, the first is %s with %d; "
            "raise TEST.DETECTIONS_PER_IMAGE.",
            truth,
            len(full),
            kept,
            *next(iter(full.items())),
        )


class _Corrected(COCOeval):
    """COCO's evaluation with objects numbered from 1, and with those marked ``ignore`` left out."""

    def _prepare(self) -> None:
        # COCO's own code sets `ignore` to `iscrowd`, whatever the file says: it is read before that.
        ignored = {a["id"] for a in self.cocoGt.dataset["annotations"] if a.get("ignore")}
        super()._prepare()
        objects = itertools.chain.from_iterable(self._gts.values())
        # A detection's match is kept as the id of its object, where 0 means none.
        for number, annotation in enumerate(objects, start=1):
            annotation["ignore"] = bool(annotation["ignore"] or annotation["id"] in ignored)
            annotation["id"] = number
