"""An analysis as large as COCO's validation set, in processor time."""

import time

import maskrcnn_repro  # noqa: F401
from maskrcnn_repro.analysis.analysis import analyze
from maskrcnn_repro.analysis.evaluation_set import Detections, EvaluationSet, Truth

import numpy as np
import pytest

IMAGES, CLASSES, OBJECTS, DETECTIONS = 5000, 80, 36_000, 500_000


@pytest.mark.slow
def test_five_thousand_images_take_less_than_a_minute():
    random = np.random.default_rng(0)

    def boxes(count):
        return np.concatenate(
            [random.uniform(0, 500, (count, 2)), random.uniform(5, 140, (count, 2))], 1
        )

    objects = boxes(OBJECTS)
    truth = Truth(
        images=random.integers(IMAGES, size=OBJECTS),
        categories=random.integers(CLASSES, size=OBJECTS),
        areas=objects[:, 2] * objects[:, 3],
        crowd=random.random(OBJECTS) < 0.01,
        ignored=np.zeros(OBJECTS, bool),
        regions=objects,
    )
    near = random.integers(OBJECTS, size=DETECTIONS)
    right = random.random(DETECTIONS) < 0.2
    regions = np.where(
        right[:, None], objects[near] + random.uniform(0, 6, (DETECTIONS, 4)), boxes(DETECTIONS)
    )
    categories = np.where(right, truth.categories[near], random.integers(CLASSES, size=DETECTIONS))
    images = truth.images[near]
    scores = random.random(DETECTIONS)
    order = np.lexsort((-scores, categories, images))
    detections = Detections(
        images[order],
        categories[order],
        scores[order],
        regions[order, 2] * regions[order, 3],
        regions[order],
    )
    names = [str(number) for number in range(CLASSES)]
    files = [""] * IMAGES
    evaluated = EvaluationSet(
        "bbox", range(IMAGES), files, np.full((IMAGES, 2), 640), names, truth, detections, 100, 0
    )
    begin = time.process_time()
    result = analyze(evaluated)
    assert time.process_time() - begin < 60
    assert result.matching.hits.sum() > 10_000
