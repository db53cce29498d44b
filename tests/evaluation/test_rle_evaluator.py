"""Evaluation of RLE masks: Detectron2's metrics and results file, from the same pixels."""

import json

from maskrcnn_repro.data import register_custom
from maskrcnn_repro.evaluation.resampling import match
from maskrcnn_repro.evaluation.rle_evaluator import METRICS, RESULTS, RLEEvaluator
from maskrcnn_repro.modeling.rle import RLEMasks

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.evaluation import COCOEvaluator
from detectron2.structures import Boxes, Instances
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tests.helpers.tiny_coco import SIDE, write_tiny_coco

TASKS = ("bbox", "segm")


@pytest.fixture
def records(tmp_path, catalog):
    json_file, pictures = write_tiny_coco(tmp_path)
    register_custom([("tiny", str(json_file), str(pictures))])
    return DatasetCatalog.get("tiny")


def detections(record, shift):
    """The objects of an image, shifted, with random scores and one class in three wrong; (R, H, W) bitmaps."""
    truth = record["annotations"]
    masks = np.stack([coco_mask.decode(annotation["segmentation"]) for annotation in truth])
    instances = Instances((SIDE, SIDE), scores=torch.rand(len(truth)))
    instances.pred_masks = torch.from_numpy(np.roll(masks, shift, axis=2).astype(bool))
    boxes = torch.tensor([annotation["bbox"] for annotation in truth]) + torch.tensor(
        [shift, 0.0, 0, 0]
    )
    instances.pred_boxes = Boxes(torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], dim=1))
    instances.pred_classes = torch.tensor([annotation["category_id"] for annotation in truth])
    instances.pred_classes[torch.rand(len(truth)) < 0.3] = 0
    return instances


def with_rles(instances):
    fields = dict(instances.get_fields())
    rles = [coco_mask.encode(np.asfortranarray(m, np.uint8)) for m in fields["pred_masks"].numpy()]
    for rle in rles:
        rle["counts"] = rle["counts"].decode()
    fields["pred_masks"] = RLEMasks(rles, instances.image_size)
    return Instances(instances.image_size, **fields)


def evaluated(evaluator, records, predictions, img_ids=None):
    evaluator.reset()
    for record, instances in zip(records, predictions, strict=True):
        evaluator.process([{"image_id": record["image_id"]}], [{"instances": instances}])
    return evaluator.evaluate(img_ids)


def assert_equal_metrics(ours, theirs):
    assert set(ours) == set(theirs)
    for task, metrics in theirs.items():
        np.testing.assert_equal(dict(ours[task]), dict(metrics))


@pytest.mark.parametrize("img_ids", [None, [10, 12]])
def test_metrics_and_file_are_those_of_bitmaps(records, tmp_path, img_ids):
    bitmaps = [detections(record, shift) for shift, record in enumerate(records)]
    bitmaps[2] = bitmaps[2][:0]
    options = {"tasks": TASKS, "use_fast_impl": False}
    reference = COCOEvaluator("tiny", output_dir=str(tmp_path / "bitmaps"), **options)
    expected = evaluated(reference, records, bitmaps, img_ids)
    assert 10 < expected["segm"]["AP"] < 100
    encoded = [with_rles(instances) for instances in bitmaps]
    # Detectron2's own decodes them one by one.
    again = COCOEvaluator("tiny", output_dir=str(tmp_path / "decoded"), **options)
    ours = RLEEvaluator("tiny", output_dir=str(tmp_path / "ours"), **options)
    for evaluator, folder in ((again, "decoded"), (ours, "ours")):
        assert_equal_metrics(evaluated(evaluator, records, encoded, img_ids), expected)
        files = [tmp_path / name / RESULTS for name in (folder, "bitmaps")]
        assert json.loads(files[0].read_text()) == json.loads(files[1].read_text())


@pytest.mark.parametrize("kind", [COCOEvaluator, RLEEvaluator])
def test_all_six_numbers_are_cocos_own(records, tmp_path, kind):
    """From the results file; of masks, without their boxes, by which COCO's code would size them."""
    predictions = [with_rles(detections(record, shift)) for shift, record in enumerate(records)]
    evaluator = kind("tiny", tasks=TASKS, output_dir=str(tmp_path / "out"), use_fast_impl=False)
    metrics = evaluated(evaluator, records, predictions)
    entries = json.loads((tmp_path / "out" / RESULTS).read_text())
    for task in TASKS:
        truth = COCO(str(tmp_path / "instances.json"))
        left_out = {"bbox"} if task == "segm" else {"segmentation"}
        results = [{k: v for k, v in entry.items() if k not in left_out} for entry in entries]
        official = COCOeval(truth, truth.loadRes(results), task)
        official.evaluate()
        official.accumulate()
        official.summarize()
        expected = [100 * value if value > -1 else np.nan for value in official.stats[:6]]
        ours = [metrics[task][name] for name in METRICS]
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-12 * 100)


def test_a_mask_is_as_large_as_its_pixels_not_as_its_box(tmp_path, catalog):
    """One small object, found after a surer wrong mask: a thin line, small in pixels, within a medium box."""
    json_file, pictures = write_tiny_coco(tmp_path, images=1)
    tree = json.loads(json_file.read_text())
    square, line = np.zeros((SIDE, SIDE), bool), np.eye(SIDE, dtype=bool)
    square[:10, 20:30] = True
    truth = {"id": 1, "image_id": 10, "category_id": 1, "bbox": [20, 0, 10, 10], "area": 100}
    rle = with_rles(Instances((SIDE, SIDE), pred_masks=torch.from_numpy(square)[None])).pred_masks
    tree["annotations"] = [{**truth, "iscrowd": 0, "segmentation": rle.rles[0]}]
    json_file.write_text(json.dumps(tree))
    register_custom([("line", str(json_file), str(pictures))])
    instances = Instances((SIDE, SIDE), scores=torch.tensor([0.5, 0.9]))
    instances.pred_masks = torch.from_numpy(np.stack([square, line]))
    instances.pred_boxes = Boxes([[20, 0, 30, 10], [0, 0, SIDE, SIDE]])
    instances.pred_classes = torch.zeros(2, dtype=torch.long)
    ours = RLEEvaluator("line", TASKS, str(tmp_path), use_fast_impl=False)
    metrics = evaluated(ours, DatasetCatalog.get("line"), [with_rles(instances)])
    # Every recall is reached with one of two detections right.
    assert metrics["segm"]["APs"] == pytest.approx(50)
    # The box of the line is no small one, so it does not count among small boxes.
    assert metrics["bbox"]["APs"] == pytest.approx(100)


@pytest.mark.parametrize("encode", [with_rles, lambda instances: instances])
def test_masks_are_ranked_by_their_scores_and_boxes_by_theirs(records, tmp_path, encode):
    by_boxes = [detections(record, shift) for shift, record in enumerate(records)]
    both, by_masks = [], []
    for instances in by_boxes:
        fields = instances.get_fields()
        scores = torch.rand(len(instances))
        by_masks.append(Instances(instances.image_size, **{**fields, "scores": scores}))
        both.append(Instances(instances.image_size, **fields, mask_scores=scores))
    ours = RLEEvaluator("tiny", TASKS, str(tmp_path / "both"), use_fast_impl=False)
    plain = COCOEvaluator("tiny", TASKS, output_dir=str(tmp_path), use_fast_impl=False)
    metrics = evaluated(ours, records, map(encode, both))
    boxes, masks = (evaluated(plain, records, p) for p in (by_boxes, by_masks))
    assert_equal_metrics(metrics, {"bbox": boxes["bbox"], "segm": masks["segm"]})
    assert masks["segm"]["AP"] != boxes["segm"]["AP"]
    files = tmp_path / "instances.json", tmp_path / "both" / RESULTS
    for task in TASKS:
        again = match(*files, task).average_precision()
        assert again["AP"] == pytest.approx(metrics[task]["AP"])


def test_boxes_alone_are_left_to_detectron2(records, tmp_path):
    predictions = [detections(record, 1) for record in records]
    for instances in predictions:
        instances.remove("pred_masks")
    ours = RLEEvaluator("tiny", ("bbox",), str(tmp_path), use_fast_impl=False)
    assert set(evaluated(ours, records, predictions)) == {"bbox"}


def test_without_detections_ap_is_nan_and_without_images_there_are_no_metrics(records, tmp_path):
    ours = RLEEvaluator("tiny", TASKS, str(tmp_path), use_fast_impl=False)
    ours.reset()
    assert ours.evaluate() == {}
    predictions = [with_rles(detections(record, 0))[:0] for record in records]
    metrics = evaluated(ours, records, predictions)
    assert np.isnan(metrics["segm"]["AP75"])
    assert json.loads((tmp_path / RESULTS).read_text()) == []


def test_without_ground_truth_the_file_still_has_the_masks(records, tmp_path):
    file = tmp_path / "instances.json"
    data = json.loads(file.read_text())
    del data["annotations"]
    file.write_text(json.dumps(data))
    predictions = [with_rles(detections(record, 0)) for record in records]
    ours = RLEEvaluator("tiny", TASKS, str(tmp_path), use_fast_impl=False)
    assert evaluated(ours, records, predictions) == {}
    results = json.loads((tmp_path / RESULTS).read_text())
    assert [instances["segmentation"] for instances in results] == [
        r for instances in predictions for r in instances.pred_masks.rles
    ]
