"""The AP of the analysis is that of COCO's code and of the project's evaluator, and its curves give the same AP."""

import contextlib
import io
import json

import maskrcnn_repro  # noqa: F401
from maskrcnn_repro.analysis.analysis import analyze
from maskrcnn_repro.analysis.evaluation_set import read_set
from maskrcnn_repro.analysis.matching import SIZES
from maskrcnn_repro.analysis.precision import average_precisions
from maskrcnn_repro.errors import DataError
from maskrcnn_repro.evaluation.resampling import METRICS, match

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tests.helpers.detections import random_pair, write_pair


def coco_stats(truth, results, task):
    """COCO's own AP, AP50, AP75, APs, APm, APl and the AP of each class, in fractions."""
    entries = json.loads(results.read_text())
    if task == "segm":  # with a box, COCO's code would measure a mask by its box
        entries = [{k: v for k, v in entry.items() if k != "bbox"} for entry in entries]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(truth))
        evaluation = COCOeval(coco, coco.loadRes(entries), task)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    by_class = evaluation.eval["precision"][:, :, :, 0, -1].mean(axis=(0, 1))
    return evaluation.stats[:6], by_class


@pytest.mark.parametrize("task", ["bbox", "segm"])
@pytest.mark.parametrize("seed", range(4))
def test_ap_is_that_of_cocos_code(tmp_path, task, seed):
    truth, results = random_pair(tmp_path, seed=seed)
    result = analyze(read_set(truth, results, None, task))
    stats, by_class = coco_stats(truth, results, task)
    ours = [average_precisions(result.precisions["all"][:, at]) for at in METRICS.values()]
    ours += [average_precisions(result.precisions[size]) for size in list(SIZES)[1:]]
    expected = np.where(stats < 0, np.nan, 100 * stats)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(result.precisions["all"].mean(axis=1), by_class, atol=1e-12)
    evaluator = match(truth, results, task).average_precision()
    assert ours[:3] == pytest.approx(list(evaluator.values()), abs=1e-12)


def test_curves_have_the_ap_as_their_mean(tmp_path):
    result = analyze(read_set(*random_pair(tmp_path), None, "bbox"), iou=0.6)
    np.testing.assert_allclose(result.curves.mean(axis=2).T, result.precisions["all"], atol=1e-12)
    np.testing.assert_allclose(result.curves_at_iou.mean(axis=1), result.at_iou, atol=1e-12)
    assert np.allclose(result.curves_at_iou, result.curves[2])


def test_beyond_cocos_limit_detections_count_only_where_objects_are_as_many(tmp_path):
    place = (10, 10, 20, 20)
    many = [(0, 0, place, 0.5)] * 103
    few = read_set(*write_pair(tmp_path, [(0, 0, place)], many))
    assert (few.limit, few.dropped, len(few.detections.scores)) == (100, 3, 100)
    full = read_set(*write_pair(tmp_path, [(0, 0, place)] * 101, many))
    assert (full.limit, full.dropped) == (103, 0)


def test_masks_are_the_default_where_both_files_have_them(tmp_path):
    truth, results = write_pair(tmp_path, [(0, 0, (1, 1, 9, 9))], [(0, 0, (1, 1, 9, 9), 0.5)])
    assert read_set(truth, results).task == "segm"
    entries = json.loads(results.read_text())
    del entries[0]["segmentation"]
    results.write_text(json.dumps(entries))
    assert read_set(truth, results).task == "bbox"
    with pytest.raises(DataError, match="does not have a mask for each object; compare boxes"):
        read_set(truth, results, None, "segm")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score": None}, "the score None of a prediction is no number"),
        ({"score": 10**400}, "the score 10+.* of a prediction is no number"),
        ({"image_id": 99}, "for images that are not in the data set"),
        ({"bbox": [1, 2]}, "a bbox of a prediction is not COCO's"),
        ({"segmentation": [[1, 2, 3, 4, 5, 6]]}, "a segmentation of a prediction is not COCO's"),
    ],
)
def test_a_wrong_prediction_is_named(tmp_path, change, message):
    truth, results = write_pair(tmp_path, [(0, 0, (1, 1, 9, 9))], [(0, 0, (1, 1, 9, 9), 0.5)])
    entries = json.loads(results.read_text())
    results.write_text(json.dumps([entries[0] | change]))
    with pytest.raises(DataError, match=message):
        read_set(truth, results, None, "bbox" if "bbox" in change else "segm")
