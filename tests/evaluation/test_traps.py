"""What COCO's code miscounts: by hand, both numbers, and its own where nothing is miscounted."""

import json

from maskrcnn_repro.data import prepare_data, register_custom
from maskrcnn_repro.data.keypoints import COCO_KEYPOINTS
from maskrcnn_repro.evaluation.coco import evaluate
from maskrcnn_repro.evaluation.resampling import match
from maskrcnn_repro.evaluation.table import NO_TRUTH, metrics_table
from maskrcnn_repro.evaluation.traps import _Corrected, correct, traps

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances
from torch import nn

from tests.evaluation.test_resampling import annotations, official, write
from tests.helpers.custom_data import changed, config, with_keypoints, write_entry

SIDE = 10


def boxes(count, **fields):
    """Objects in a row, numbered from 1, all of class 1 in image 0."""
    return [
        {
            "id": i + 1,
            "image_id": 0,
            "category_id": 1,
            "bbox": [SIDE * i, 0, SIDE, SIDE],
            "area": SIDE**2,
            "iscrowd": 0,
            **fields,
        }
        for i in range(count)
    ]


def perfect(truth):
    keys = ("image_id", "category_id", "bbox")
    return [
        {key: each[key] for key in keys} | {"score": 1 - i / 999} for i, each in enumerate(truth)
    ]


def both(tmp_path, truth, predictions, kept=100):
    """Return AP by COCO's code, and corrected, or None."""
    files = write(tmp_path, truth, predictions, [0])
    metrics = {"bbox": official(*files)}
    correct(metrics, *files, kept=kept)
    return metrics["bbox"]["AP"], metrics["bbox"].get("AP (corrected)")


# --- by hand


def test_annotation_0_is_found_as_any_other(tmp_path, caplog):
    truth = boxes(1, id=0)
    assert both(tmp_path, truth, perfect(truth)) == pytest.approx((0.0, 100.0))
    assert "box AP is 0.0 by COCO's code and 100.0 corrected" in caplog.text
    assert "it takes a match with annotation 0 for a miss." in caplog.text


def test_more_objects_than_cocos_limit(tmp_path):
    # 100 of 150 objects: 67 of the 101 recalls, 0 to 0.66, are reached.
    truth = boxes(150)
    assert both(tmp_path, truth, perfect(truth), kept=500) == pytest.approx((6700 / 101, 100.0))


def test_a_model_that_keeps_100_has_one_number_and_the_images_are_named(tmp_path, caplog):
    truth = boxes(150)
    assert both(tmp_path, truth, perfect(truth)[:100])[1] is None
    expected = (
        "1 images have more objects than the 100 detections that are kept, the first is 0 with 150"
    )
    assert expected in caplog.text


def test_a_model_that_keeps_all_is_corrected_and_no_image_is_too_full(tmp_path, caplog):
    truth = boxes(150)
    ap = both(tmp_path, truth, perfect(truth), kept=-1)
    assert ap == pytest.approx((6700 / 101, 100.0))
    assert "it takes 100 detections each" in caplog.text
    assert "that are kept" not in caplog.text


def test_objects_marked_ignore_are_left_out(tmp_path):
    # One of two objects is found: 51 of 101 recalls. The other is marked, so that all are.
    truth = boxes(2)
    truth[1]["ignore"] = 1
    assert both(tmp_path, truth, perfect(truth[:1])) == pytest.approx((5100 / 101, 100.0))


def test_a_detection_of_an_ignored_object_is_neither_right_nor_wrong(tmp_path):
    truth = boxes(2)
    truth[1]["ignore"] = 1
    predictions = perfect(truth)
    predictions[1]["score"] = 1.0
    assert both(tmp_path, truth, predictions)[1] == pytest.approx(100.0)


def test_the_limit_of_keypoints_is_20():
    assert traps(boxes(21), "keypoints", 100) == [
        "of 1 images with more than 20 objects of a class, the first is 0, it takes 20 detections each"
    ]
    assert traps(boxes(20), "keypoints", 100) == traps(boxes(21), "bbox", 100) == []


def test_crowds_are_no_trap():
    assert traps(boxes(150, iscrowd=1, ignore=1), "bbox", 500) == []


# --- COCO's own numbers


@pytest.mark.parametrize("seed", range(4))
def test_without_a_trap_the_corrected_evaluation_is_cocos(tmp_path, seed):
    truth, predictions = annotations(np.random.default_rng(seed), range(12))
    files = write(tmp_path, truth, predictions, range(12))
    expected = pytest.approx(official(*files), rel=0, abs=1e-12 * 100)
    assert match(*files, "bbox", kind=_Corrected, limit=100).average_precision() == expected
    metrics = {"bbox": {"AP": 1.0}}
    correct(metrics, *files, kept=100)
    assert metrics == {"bbox": {"AP": 1.0}}


# --- a whole evaluation


class Finder(nn.Module):
    """Finds the only object of the own data, 8 x 8 pixels in image 1."""

    def __init__(self, found_class):
        super().__init__()
        self.found_class = found_class

    def forward(self, batch):
        return [{"instances": self.detect(int(image["image_id"] == 1))} for image in batch]

    def detect(self, count):
        instances = Instances((30, 40), pred_boxes=Boxes([[2.0, 2, 10, 10]] * count))
        instances.scores = torch.ones(count)
        instances.pred_classes = torch.full((count,), self.found_class)
        instances.pred_keypoints = torch.ones(count, len(COCO_KEYPOINTS), 3)
        return instances


def evaluated(tmp_path, tree, *, keypoints=False, found_class=1):
    cfg = config([], ["own"], [write_entry(tmp_path, tree, "own")])
    cfg.DATALOADER.NUM_WORKERS, cfg.MODEL.KEYPOINT_ON = 0, keypoints
    prepare_data(cfg)
    return evaluate(cfg, Finder(found_class), tmp_path)["own"]


def test_both_numbers_stand_in_the_metrics_and_in_the_table(tmp_path, catalog):
    metrics = evaluated(tmp_path, changed(annotations={"id": 0}))
    assert (metrics["bbox"]["AP"], metrics["bbox"]["AP (corrected)"]) == pytest.approx((0.0, 100.0))
    rows = [line.split() for line in metrics_table(metrics).splitlines()[2:]]
    assert rows[0][:3] == ["box", "0.0", "0.0"]
    assert rows[1] == ["box", "(corrected)", "100.0", "100.0", "100.0", "-", "-", "-"]


def test_sizes_without_an_object_have_a_dash(tmp_path, catalog):
    metrics = evaluated(tmp_path, changed())
    assert np.isnan([metrics["bbox"]["APm"], metrics["bbox"]["APl"]]).all()
    assert metrics_table(metrics).splitlines()[2].split()[-3:] == ["100.0", "-", "-"]


def test_a_model_that_finds_nothing_has_an_ap_of_0(tmp_path, catalog):
    tree = changed(images={"id": 5}, annotations={"image_id": 5})
    metrics = evaluated(tmp_path, tree)
    assert np.isnan(metrics["bbox"]["AP"])
    assert metrics["bbox"]["AP (corrected)"] == 0.0


@pytest.mark.parametrize("keypoints", [False, True])
def test_a_set_whose_images_have_no_object_has_nothing_to_measure(tmp_path, catalog, keypoints):
    tree = with_keypoints(COCO_KEYPOINTS) | {"annotations": []}
    metrics = evaluated(tmp_path, tree, keypoints=keypoints, found_class=0)
    assert list(metrics) == ["bbox"]
    assert np.isnan(metrics["bbox"]["AP"])
    assert json.loads((tmp_path / "own/coco_instances_results.json").read_text())


def test_a_file_without_annotations_has_no_metrics_and_says_so(tmp_path, catalog):
    entry = write_entry(tmp_path, changed(), "own")
    register_custom([entry])
    tree = changed()
    del tree["annotations"]
    (tmp_path / "own.json").write_text(json.dumps(tree))
    cfg = config([], ["own"], [entry])
    cfg.DATALOADER.NUM_WORKERS = 0
    metrics = evaluate(cfg, Finder(1), tmp_path)["own"]
    assert metrics == {}
    assert metrics_table(metrics) == NO_TRUTH


def test_other_category_ids_than_in_training_keep_their_classes(tmp_path, catalog):
    """The classes' order counts, not their ids: training has 3 and 7, this set 30 and 70."""
    tree = changed(annotations={"category_id": 70})
    tree["categories"] = [{"id": 70, "name": "zebra"}, {"id": 30, "name": "ant"}]
    (tmp_path / "train").mkdir()
    register_custom([write_entry(tmp_path / "train", changed(), "own_train")])
    metrics = evaluated(tmp_path, tree)
    assert metrics["bbox"]["AP"] == pytest.approx(100.0)
    (entry,) = json.loads((tmp_path / "own/coco_instances_results.json").read_text())
    assert entry["category_id"] == 70
