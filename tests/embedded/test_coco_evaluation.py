"""COCO evaluation of Detectron2's API: average precision worked out by hand."""

import json
import math

import maskrcnn_repro  # noqa: F401

import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.evaluation import COCOEvaluator
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.structures import Boxes, Instances

SIZE = 256  # of every image, in pixels


def _instances(boxes, scores, classes, **more):
    result = Instances((SIZE, SIZE))
    result.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    result.scores = torch.tensor(scores, dtype=torch.float32)
    result.pred_classes = torch.tensor(classes, dtype=torch.int64)
    for name, value in more.items():
        result.set(name, value)
    return result


def _rectangle(x1, y1, x2, y2):
    mask = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    mask[y1:y2, x1:x2] = True
    return mask


def _annotation(image_id, box, category=7, **more):
    x1, y1, x2, y2 = box
    polygon = [x1, y1, x2, y1, x2, y2, x1, y2]
    return {
        "image_id": image_id,
        "category_id": category,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": (x2 - x1) * (y2 - y1),
        "iscrowd": 0,
        "segmentation": [polygon],
    } | more


@pytest.fixture
def register(tmp_path, request):
    """Return a function that registers annotations as a data set, categories 7 and 9."""
    names = []

    def make(annotations, images=(1, 2), classes=("cat", "dog")):
        name = f"{request.node.name}_{len(names)}"
        numbered = [{"id": index} | each for index, each in enumerate(annotations, 1)]
        categories = [{"id": 7 + 2 * index, "name": label} for index, label in enumerate(classes)]
        content = {
            "images": [{"id": image, "height": SIZE, "width": SIZE} for image in images],
            "annotations": numbered,
            "categories": categories,
        }
        path = tmp_path / f"{len(names)}.json"
        path.write_text(json.dumps(content))
        MetadataCatalog.get(name).set(
            json_file=str(path),
            thing_classes=list(classes),
            thing_dataset_id_to_contiguous_id={each["id"]: i for i, each in enumerate(categories)},
        )
        names.append(name)
        return name

    yield make
    for name in names:
        MetadataCatalog.pop(name)


def _evaluate(evaluator, outputs):
    """Evaluate `outputs`: image id to model output."""
    evaluator.reset()
    for image_id, output in outputs.items():
        evaluator.process([{"image_id": image_id}], [output])
    return evaluator.evaluate()


def _detect(name, by_image, **kwargs):
    evaluator = COCOEvaluator(name, distributed=False, **kwargs)
    return _evaluate(evaluator, {image: {"instances": each} for image, each in by_image.items()})


@pytest.fixture(params=[True, False], ids=["fast", "official"])
def fast(request):
    return request.param


# --- boxes ---------------------------------------------------------------------------------------


def test_perfect_boxes(register, fast):
    name = register([_annotation(1, (10, 10, 60, 60)), _annotation(2, (0, 0, 200, 100), 9)])
    detections = {
        1: _instances([[10, 10, 60, 60]], [0.9], [0]),
        2: _instances([[0, 0, 200, 100]], [0.8], [1]),
    }
    results = _detect(name, detections, use_fast_impl=fast)
    assert list(results) == ["bbox"]
    bbox = results["bbox"]
    assert math.isnan(bbox.pop("APs"))  # there are no small objects
    assert set(bbox) == {"AP", "AP50", "AP75", "APm", "APl", "AP-cat", "AP-dog"}
    assert list(bbox.values()) == pytest.approx([100] * 7)


def test_a_shifted_box_counts_up_to_its_overlap(register, fast):
    name = register([_annotation(1, (0, 0, 100, 100))])
    # Moved by 24 of 100: IoU 76 / 124 = 0.61, enough for the thresholds 0.5, 0.55 and 0.6 of ten.
    detections = {1: _instances([[24, 0, 124, 100]], [0.9], [0])}
    bbox = _detect(name, detections, use_fast_impl=fast)["bbox"]
    values = [bbox[metric] for metric in ("AP", "AP50", "AP75", "APl", "AP-cat")]
    assert values == pytest.approx([30, 100, 0, 30, 30])
    assert math.isnan(bbox["AP-dog"])


def test_a_false_alarm_above_the_hit_halves_precision(register, fast):
    name = register([_annotation(1, (0, 0, 100, 100))])
    detections = {1: _instances([[150, 150, 250, 250], [0, 0, 100, 100]], [0.9, 0.8], [0, 0])}
    assert _detect(name, detections, use_fast_impl=fast)["bbox"]["AP"] == pytest.approx(50)


def test_a_missed_object_ends_the_recall(register, fast):
    # Half the objects found: precision 1 at the recalls 0, 0.01 ... 0.5, that is 51 of 101.
    name = register([_annotation(1, (0, 0, 100, 100)), _annotation(2, (0, 0, 100, 100))])
    detections = {1: _instances([[0, 0, 100, 100]], [0.9], [0])}
    assert _detect(name, detections, use_fast_impl=fast)["bbox"]["AP"] == pytest.approx(5100 / 101)
    only = COCOEvaluator(name, distributed=False, use_fast_impl=fast)
    only.reset()
    only.process([{"image_id": 1}], [{"instances": detections[1]}])
    assert only.evaluate(img_ids=[1])["bbox"]["AP"] == pytest.approx(100)


def test_a_limit_of_detections_cuts_the_low_scores(register, fast):
    name = register([_annotation(1, (0, 0, 100, 100))])
    # The hit is number 51. As COCO sorts its limits, 50 is the largest of [1, 10, 50].
    boxes = [[150, 150, 250, 250]] * 50 + [[0, 0, 100, 100]]
    scores = [1 - index / 100 for index in range(51)]
    detections = {1: _instances(boxes, scores, [0] * 51)}
    default = _detect(name, detections, use_fast_impl=fast)["bbox"]["AP"]
    assert default == pytest.approx(100 / 51)
    limited = _detect(name, detections, use_fast_impl=fast, max_dets_per_image=50)["bbox"]["AP"]
    assert limited == 0
    raised = _detect(name, detections, use_fast_impl=fast, max_dets_per_image=300)["bbox"]["AP"]
    assert raised == pytest.approx(100 / 51)


def test_a_crowd_is_ignored(register, fast):
    name = register([_annotation(1, (0, 0, 100, 100)), _annotation(1, (0, 0, 250, 250), iscrowd=1)])
    detections = {1: _instances([[0, 0, 100, 100], [120, 120, 200, 200]], [0.8, 0.9], [0, 0])}
    assert _detect(name, detections, use_fast_impl=fast)["bbox"]["AP"] == pytest.approx(100)


# --- masks and keypoints -------------------------------------------------------------------------


def test_masks_by_their_overlap_and_their_own_area(register, fast):
    # The area that counts is the mask's, 400 (small), not that of its box.
    name = register([_annotation(1, (0, 0, 20, 20))])
    # Moved by 4 of 20: IoU 16 / 24 = 0.67, thresholds 0.5 to 0.65.
    masks = _rectangle(4, 0, 24, 20)[None]
    detections = {1: _instances([[0, 0, 250, 250]], [0.9], [0], pred_masks=masks)}
    results = _detect(name, detections, use_fast_impl=fast)
    assert list(results) == ["bbox", "segm"]
    segm = results["segm"]
    assert [segm[metric] for metric in ("AP", "AP50", "AP75", "APs")] == pytest.approx(
        [40, 100, 0, 40]
    )
    assert results["bbox"]["AP"] == 0


def _keypoint_case(register, shift):
    person = _annotation(1, (0, 0, 100, 100), keypoints=[50, 50, 2], num_keypoints=1)
    name = register([person], classes=("person",))
    # Predictions are coordinates; COCO counts pixels, so 50.5 there is 50.
    points = torch.tensor([[[50.5 + shift, 50.5, 1.0]]])
    return name, {1: _instances([[0, 0, 100, 100]], [0.9], [0], pred_keypoints=points)}


@pytest.mark.parametrize(
    ("shift", "expected"),
    # exp(-shift^2 / (2 area (2 sigma)^2)) with area 10^4 and sigma 0.05: 8 gives exp(-0.32) = 0.73,
    # the thresholds 0.5 to 0.7.
    [(0.0, 100), (8.0, 50)],
)
def test_keypoints_by_their_similarity(register, fast, shift, expected):
    name, detections = _keypoint_case(register, shift)
    results = _detect(name, detections, use_fast_impl=fast, kpt_oks_sigmas=[0.05])
    keypoints = results["keypoints"]
    assert list(keypoints) == ["AP", "AP50", "AP75", "APm", "APl"]
    assert (keypoints["AP"], keypoints["APl"]) == pytest.approx((expected, expected))
    assert math.isnan(keypoints["APm"])


def test_keypoints_need_their_sigmas(register):
    name, detections = _keypoint_case(register, 0.0)
    with pytest.raises(AssertionError, match="KEYPOINT_OKS_SIGMAS"):
        _detect(name, detections, kpt_oks_sigmas=[0.05, 0.05])


def test_entries_in_cocos_format():
    points = torch.tensor([[[1.0, 2.0, 0.5]], [[3.0, 4.0, 0.25]]])
    instances = _instances(
        [[1, 2, 4, 8], [0, 0, 1, 1]],
        [0.5, 0.25],
        [1, 0],
        pred_masks=torch.stack([_rectangle(0, 0, 0, 0), _rectangle(0, 0, SIZE, SIZE)]),
        pred_keypoints=points.clone(),
    )
    first, second = instances_to_coco_json(instances, 42)
    assert first["bbox"] == [1, 2, 3, 6]
    assert (first["image_id"], first["category_id"], first["score"]) == (42, 1, 0.5)
    assert first["keypoints"] == [0.5, 1.5, 0.5]
    assert second["keypoints"] == [2.5, 3.5, 0.25]
    assert first["segmentation"]["size"] == [SIZE, SIZE]
    assert json.loads(json.dumps(second)) == second
    assert instances_to_coco_json(instances[:0], 42) == []


@pytest.mark.embedded_only
def test_entries_leave_the_predictions_alone():
    points = torch.tensor([[[1.0, 2.0, 0.5]]])
    instances = _instances([[0, 0, 1, 1]], [0.5], [0], pred_keypoints=points.clone())
    instances_to_coco_json(instances, 1)
    assert instances.pred_keypoints.equal(points)


# --- proposals -----------------------------------------------------------------------------------


def _proposals(boxes, scores):
    result = Instances((SIZE, SIZE))
    result.proposal_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32))
    result.objectness_logits = torch.tensor(scores, dtype=torch.float32)
    return {"proposals": result}


def _recall(name, outputs):
    return _evaluate(COCOEvaluator(name, distributed=False), outputs)["box_proposals"]


def test_recall_of_proposals_by_area(register):
    name = register([_annotation(1, (0, 0, 100, 100)), _annotation(1, (200, 200, 220, 220), 9)])
    # The large one is met with IoU 76 / 124 (three thresholds of ten), the small one exactly.
    recall = _recall(name, {1: _proposals([[24, 0, 124, 100], [200, 200, 220, 220]], [0.0, 1.0])})
    values = [recall[f"AR{area}@100"] for area in ("", "s", "l")]
    assert values == pytest.approx([65, 100, 30])
    assert math.isnan(recall["ARm@100"])


def test_a_proposal_covers_one_object(register):
    # Both objects overlap the first proposal more than the second; the better pair takes it.
    name = register([_annotation(1, (0, 0, 100, 100)), _annotation(1, (0, 0, 100, 80))])
    recall = _recall(name, {1: _proposals([[0, 0, 100, 100], [200, 200, 250, 250]], [0.0, 0.0])})
    assert recall["AR@100"] == pytest.approx(50)


def test_the_limit_keeps_the_highest_scores(register):
    name = register([_annotation(1, (0, 0, 100, 100))])
    boxes = [[0, 0, 100, 100]] + [[200, 200, 250, 250]] * 100
    recall = _recall(name, {1: _proposals(boxes, [float(index) for index in range(101)])})
    assert (recall["AR@100"], recall["AR@1000"]) == pytest.approx((0, 100))


# --- borders and mistakes ------------------------------------------------------------------------


def test_no_predictions_at_all(register):
    name = register([_annotation(1, (0, 0, 100, 100))])
    assert _detect(name, {}) == {}


def test_images_without_detections(register):
    name = register([_annotation(1, (0, 0, 100, 100))])
    results = _detect(name, {1: _instances([], [], [])}, tasks=("bbox", "segm"))
    assert list(results) == ["bbox", "segm"]
    assert all(math.isnan(value) for metrics in results.values() for value in metrics.values())


def test_a_class_that_the_data_set_lacks(register):
    name = register([_annotation(1, (0, 0, 100, 100))])
    with pytest.raises(AssertionError, match=r"class=2.*2 classes.*\[0, 1\]"):
        _detect(name, {1: _instances([[0, 0, 1, 1]], [0.9], [2])})


def test_an_unknown_task(register):
    name = register([_annotation(1, (0, 0, 100, 100))])
    with pytest.raises(AssertionError, match=r"unknown task.*box"):
        _detect(name, {1: _instances([[0, 0, 1, 1]], [0.9], [0])}, tasks=("box",))


def test_a_test_set_without_annotations_is_written_not_scored(register, tmp_path):
    name = register([])
    path = MetadataCatalog.get(name).json_file
    with open(path) as file:
        content = json.load(file)
    del content["annotations"]
    with open(path, "w") as file:
        json.dump(content, file)
    out = tmp_path / "out"
    detections = {1: _instances([[0, 0, 1, 1]], [0.5], [1])}
    assert _detect(name, detections, output_dir=str(out)) == {}
    (entry,) = json.loads((out / "coco_instances_results.json").read_text())
    assert entry == {"image_id": 1, "category_id": 9, "bbox": [0, 0, 1, 1], "score": 0.5}
    (stored,) = torch.load(out / "instances_predictions.pth", weights_only=True)
    assert stored["image_id"] == 1


def test_a_data_set_in_another_format_needs_a_folder():
    name = "test_compat_evaluation_other_format"
    MetadataCatalog.get(name)
    with pytest.raises(ValueError, match="output_dir"):
        COCOEvaluator(name, distributed=False)
    MetadataCatalog.pop(name)
