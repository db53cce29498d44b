"""Boundary IoU: strips by hand, invariance, the numbers of its authors' code, nothing to compare."""

import contextlib
import gzip
import io
import json

from maskrcnn_repro.evaluation.boundary import BoundaryEvaluation, boundary
from maskrcnn_repro.evaluation.resampling import match

import numpy as np
import pycocotools.mask
import pytest
from pycocotools.coco import COCO

from tests.helpers.paths import STORED


def encoded(pixels):
    return pycocotools.mask.encode(np.asfortranarray(pixels, dtype=np.uint8))


def strip_of(pixels, **options):
    return pycocotools.mask.decode(boundary(encoded(pixels), **options)).astype(bool)


def rectangle(height, width, top, bottom, left, right):
    pixels = np.zeros((height, width), bool)
    pixels[top:bottom, left:right] = True
    return pixels


def test_the_strip_of_a_rectangle_is_its_frame():
    # 0.02 of the diagonal 100 of 60 x 80 pixels are 2 pixels.
    pixels = rectangle(60, 80, 10, 40, 20, 70)
    expected = pixels & ~rectangle(60, 80, 12, 38, 22, 68)
    assert np.array_equal(strip_of(pixels), expected)


def test_the_border_of_the_image_is_an_outline_and_the_smallest_strip_one_pixel():
    pixels = np.ones((20, 20), bool)
    assert np.array_equal(strip_of(pixels), ~rectangle(20, 20, 1, 19, 1, 19))


def test_a_hole_has_an_outline():
    pixels = np.ones((20, 20), bool)
    pixels[10, 10] = False
    around = rectangle(20, 20, 9, 12, 9, 12)
    around[10, 10] = False
    assert np.array_equal(strip_of(pixels), around | ~rectangle(20, 20, 1, 19, 1, 19))


def test_a_mirrored_mask_has_the_mirrored_strip():
    pixels = np.random.default_rng(0).random((60, 80)) > 0.02
    assert np.array_equal(strip_of(pixels[::-1, ::-1]), strip_of(pixels)[::-1, ::-1])
    assert strip_of(pixels, strip=0.05).sum() > strip_of(pixels, strip=0.02).sum()


def test_an_empty_mask_has_no_strip():
    assert not strip_of(np.zeros((20, 20), bool)).any()


def evaluated(truth, results):
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        evaluation = BoundaryEvaluation(coco, coco.loadRes(results), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def test_a_square_of_the_right_size_in_the_wrong_place_loses_more_than_by_mask_iou():
    truth = rectangle(60, 80, 10, 40, 10, 50)
    moved = rectangle(60, 80, 10, 40, 12, 52)
    annotation = {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": 1200}
    annotation["bbox"] = [10, 10, 40, 30]
    data = {
        "images": [{"id": 1, "height": 60, "width": 80}],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": [{**annotation, "segmentation": encoded(truth)}],
    }
    result = {"image_id": 1, "category_id": 1, "score": 0.5, "segmentation": encoded(moved)}
    (overlap,) = evaluated(data, [result]).ious[1, 1].ravel()
    # Frames of two pixels: 264 pixels each; common are the 38 columns of rows at top and bottom (152) and no column
    # at the sides, where 2 pixels wide strips lie side by side.
    assert overlap == pytest.approx(152 / (264 + 264 - 152))


def test_numbers_are_those_of_the_authors_code():
    case = json.loads(gzip.decompress((STORED / "boundary" / "authors.json.gz").read_bytes()))
    evaluation = evaluated(case["truth"], case["results"])
    assert evaluation.stats.tolist() == pytest.approx(case["stats"], abs=1e-12)


def test_the_bootstrap_takes_the_same_matches(tmp_path):
    case = json.loads(gzip.decompress((STORED / "boundary" / "authors.json.gz").read_bytes()))
    for name in ("truth", "results"):
        (tmp_path / f"{name}.json").write_text(json.dumps(case[name]))
    matches = match(tmp_path / "truth.json", tmp_path / "results.json", "boundary")
    expected = dict(zip(("AP", "AP50", "AP75"), 100 * np.array(case["stats"][:3]), strict=True))
    assert matches.average_precision() == pytest.approx(expected, abs=1e-9)


def test_without_detections_of_a_class_there_is_nothing_to_compare():
    case = json.loads(gzip.decompress((STORED / "boundary" / "authors.json.gz").read_bytes()))
    evaluation = evaluated(case["truth"], case["results"][:1])
    assert 0 <= evaluation.stats[0] < 0.1
