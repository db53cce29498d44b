"""Random panoptic maps with void, crowds and near misses, and what the reference evaluator says of them.

``python -m tests.evaluation.panoptic_cases`` with panopticapi on the search path rewrites the stored numbers.
"""

import importlib
import json
import tempfile
from pathlib import Path

from maskrcnn_repro.data.panoptic.files import write_ids

import numpy as np

from tests.helpers.paths import STORED

FILE = STORED / "panoptic_quality.json"
CATEGORIES = {1: True, 2: True, 5: True, 7: False, 9: False, 11: False}
"""Category id -> whether it is a thing; the last one is in no image."""
SEEDS = range(12)
SIDE = 24


def case(seed):
    """Return an image: annotated ids and segments, predicted ids and segments."""
    random = np.random.default_rng(seed)
    truth = _boxes(random, np.zeros((SIDE, SIDE), np.int64), 7, 0.2)
    predicted_ids = truth.copy()
    # Predictions: shifted, in part covered by others and in part gone.
    predicted_ids = np.roll(predicted_ids, random.integers(0, 3, 2), (0, 1)) * 3
    predicted_ids = _boxes(random, predicted_ids, 3, 0.4, first=100)
    used = sorted(set(CATEGORIES) - {11})
    classes = {int(number): int(random.choice(used)) for number in np.unique(truth) if number}
    segments = [
        {
            "id": number,
            "category_id": category,
            "iscrowd": int(CATEGORIES[category] and random.random() < 0.3),
            "area": int((truth == number).sum()),
        }
        for number, category in classes.items()
    ]
    predicted = []
    for number in np.unique(predicted_ids).tolist():
        if number:
            same = classes.get(number // 3) if random.random() < 0.8 else None
            category = int(same or random.choice(used))
            predicted.append({"id": number, "category_id": category})
    return truth, segments, predicted_ids, predicted


def _boxes(random, ids, count, empty, first=1):
    for number in range(first, first + count):
        top, left = random.integers(0, SIDE - 6, 2)
        height, width = random.integers(3, 14, 2)
        value = 0 if random.random() < empty else number
        ids[top : top + height, left : left + width] = value
    return ids


def reference(seeds):
    """Return the sums of panopticapi over the images of some seeds: iou, tp, fp, fn of each category."""
    evaluation = importlib.import_module("panopticapi.evaluation")
    with tempfile.TemporaryDirectory() as name:
        folders, pairs = [Path(name) / kind for kind in ("truth", "predicted_ids")], []
        for folder in folders:
            folder.mkdir()
        for seed in seeds:
            truth, segments, predicted_ids, predicted = case(seed)
            write_ids(folders[0] / f"{seed}.png", truth)
            write_ids(folders[1] / f"{seed}.png", predicted_ids)
            file = {"image_id": seed, "file_name": f"{seed}.png"}
            pairs.append(
                ({**file, "segments_info": segments}, {**file, "segments_info": predicted})
            )
        categories = {i: {"id": i, "isthing": int(thing)} for i, thing in CATEGORIES.items()}
        stat = evaluation.pq_compute_single_core(0, pairs, *map(str, folders), categories)
    sums = {
        i: [float(getattr(stat[i], key)) for key in ("iou", "tp", "fp", "fn")] for i in CATEGORIES
    }
    means = {
        ending: stat.pq_average(categories, isthing)[0]
        for ending, isthing in (("", None), ("_th", True), ("_st", False))
    }
    return {"sums": sums, "means": means}


if __name__ == "__main__":
    numbers = {str(seed): reference([seed])["sums"] for seed in SEEDS}
    FILE.write_text(json.dumps({"images": numbers, **reference(SEEDS)}, indent=1) + "\n")
