"""The AP of keypoints where results hold some."""

from __future__ import annotations

import json
from collections.abc import Mapping

from maskrcnn_repro.analysis.source import Source
from maskrcnn_repro.data.keypoints import oks_sigmas
from maskrcnn_repro.evaluation.resampling import match, read_results


def keypoint_precision(source: Source) -> Mapping[str, float]:
    """Return AP, AP50 and AP75 in points by the project's evaluator; empty where objects or results have no keypoints.

    Raises:
        DataError: a prediction cannot be read.
    """
    tree = json.loads(source.truth.read_text(encoding="utf-8"))
    names = next((c["keypoints"] for c in tree["categories"] if c.get("keypoints")), None)
    entries = read_results(source.results, None, {image["id"] for image in tree["images"]})
    if not names or not entries or not all(entry.get("keypoints") for entry in entries):
        return {}
    sigmas = source.oks_sigmas or oks_sigmas(names)
    return match(source.truth, source.results, "keypoints", sigmas).average_precision()
