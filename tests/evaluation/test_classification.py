"""Accuracy of a classifier, counted by hand."""

import math

from maskrcnn_repro.evaluation.classification import AccuracyEvaluator, label_of

import torch
from detectron2.data import MetadataCatalog
from detectron2.structures import BoxMode
from torch.testing import assert_close


def annotation(label, box, mode=BoxMode.XYWH_ABS, **more):
    return {"category_id": label, "bbox": box, "bbox_mode": mode, **more}


def evaluated(catalog, labels, predicted):
    """Return the metrics of images whose one object, if any, has a label, with class scores of three classes."""
    records = [
        {"image_id": i, "annotations": [] if label is None else [annotation(label, [0, 0, 4, 4])]}
        for i, label in enumerate(labels)
    ]
    catalog.register("classified", lambda: records)
    MetadataCatalog.get("classified").thing_classes = ["disc", "bar", "star"]
    evaluator = AccuracyEvaluator("classified")
    scores = [{"class_scores": torch.eye(3)[index]} for index in predicted]
    evaluator.process(records[:2], scores[:2])
    evaluator.process(records[2:], scores[2:])
    return evaluator.evaluate()["classification"]


def test_top1_by_hand(catalog):
    metrics = evaluated(catalog, [0, 0, 0, 1, 1], [0, 0, 2, 1, 0])
    wanted = {"top1": 60.0, "top1-disc": 200 / 3, "top1-bar": 50.0, "top1-star": math.nan}
    assert_close(metrics, wanted, equal_nan=True)


def test_the_largest_box_names_the_image():
    small, large = annotation(0, [0, 0, 5, 4]), annotation(1, [9, 9, 14, 14], BoxMode.XYXY_ABS)
    crowd = annotation(2, [0, 0, 99, 99], iscrowd=1)
    assert label_of([small, large, crowd]) == 1


def test_images_without_object_are_left_out_with_a_note(catalog, caplog):
    metrics = evaluated(catalog, [0, None, 1], [0, 0, 0])
    assert metrics["top1"] == 50.0
    assert "Left out, as they have no object: 1 of 3 images" in caplog.text
    assert label_of([annotation(2, [0, 0, 9, 9], iscrowd=1)]) is None


def test_no_image_with_an_object_gives_no_number(catalog):
    assert math.isnan(evaluated(catalog, [None], [0])["top1"])
