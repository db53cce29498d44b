"""Recall of stored proposals: values by hand, chunks, Detectron2's own numbers; its table and picture."""

import json
import math

from maskrcnn_repro.data import register_custom
from maskrcnn_repro.data.proposals.store import ProposalStore
from maskrcnn_repro.data.proposals.writer import StoreWriter
from maskrcnn_repro.evaluation import recall as recall_module
from maskrcnn_repro.evaluation.recall import proposal_recall
from maskrcnn_repro.evaluation.table import metrics_table, summary
from maskrcnn_repro.visualization.draw import Objects
from maskrcnn_repro.visualization.proposals import best_fitting, proposals_by_image

import numpy as np
import pytest
import torch
from detectron2.evaluation import COCOEvaluator
from detectron2.structures import Boxes, Instances

from tests.helpers.proposal_files import IDS, random_proposals, write_pickle
from tests.helpers.tiny_coco import write_tiny_coco


@pytest.fixture
def data(tmp_path, catalog):
    """The tiny data set with known boxes: one small, one medium, one large, and a crowd."""
    json_file, images = write_tiny_coco(tmp_path)
    tree = json.loads(json_file.read_text())
    boxes = [
        (10, [0, 0, 10, 10]),
        (10, [20, 0, 40, 40]),
        (11, [0, 0, 100, 100]),
        (12, [0, 0, 9, 9]),
    ]
    tree["annotations"] = [
        {
            "id": i,
            "image_id": image_id,
            "category_id": 1,
            "bbox": box,
            "area": box[2] * box[3],
            "iscrowd": int(image_id == 12),
        }
        for i, (image_id, box) in enumerate(boxes, 1)
    ]
    json_file.write_text(json.dumps(tree))
    register_custom([("known", str(json_file), str(images))])
    return "known"


def store_of(folder, proposals):
    writer = StoreWriter(folder / "known.proposals")
    for image_id, (boxes, logits) in zip(IDS, proposals, strict=True):
        writer.add(image_id, boxes, logits)
    writer.finish(dataset="known", images_sha256=None, origin={})
    return ProposalStore(folder / "known.proposals")


NONE = np.zeros((0, 4)), np.zeros(0)


def test_values_by_hand(data, tmp_path):
    proposals = [
        # IoU 1 with the small box; 30 of 40 columns, so IoU 0.75, with the medium one.
        (np.array([[0, 0, 10, 10], [20, 0, 50, 40]]), np.array([1.0, 2.0])),
        # Far off, then IoU 0.9, behind 100 better ones.
        (
            np.concatenate([np.tile([500, 500, 510, 510], (100, 1)), [[0, 0, 90, 100]]]),
            np.arange(101, 0, -1),
        ),
        NONE,
        NONE,
    ]
    recall = proposal_recall(store_of(tmp_path, proposals), data, tmp_path)
    # Of the ten thresholds 0.5, 0.55 ... 0.95, IoU 0.75 passes six, 0.9 nine.
    assert recall["ARs@100"] == pytest.approx(100)
    assert recall["ARm@100"] == pytest.approx(60)
    assert recall["ARl@100"] == pytest.approx(0)
    assert recall["ARl@1000"] == pytest.approx(90)
    assert recall["AR@100"] == pytest.approx((100 + 60 + 0) / 3)
    assert recall["AR@1000"] == pytest.approx((100 + 60 + 90) / 3)


def test_an_object_between_two_sizes_counts_in_both(data, tmp_path):
    file = tmp_path / "instances.json"
    tree = json.loads(file.read_text())
    tree["annotations"] = [
        {**tree["annotations"][0], "id": i, "bbox": [0, 0, side, side], "area": side**2}
        for i, side in enumerate((32, 96), 1)
    ]
    file.write_text(json.dumps(tree))
    # IoU 1 with the first, 0.75 with the second: ten and six of ten thresholds.
    proposals = np.array([[0, 0, 32, 32], [0, 0, 72, 96]]), np.ones(2)
    recall = proposal_recall(store_of(tmp_path, [proposals, NONE, NONE, NONE]), data, tmp_path)
    assert recall["ARs@100"] == pytest.approx(100)
    assert recall["ARm@100"] == pytest.approx((100 + 60) / 2)
    assert recall["ARl@100"] == pytest.approx(60)


@pytest.mark.parametrize("chunk", [1, 3, 1000])
def test_chunks_give_detectron2s_numbers_for_all_images_together(
    data, tmp_path, monkeypatch, chunk
):
    monkeypatch.setattr(recall_module, "CHUNK", chunk)
    proposals = random_proposals(count=400)
    store = store_of(tmp_path, proposals)
    evaluator = COCOEvaluator(data, tasks=("bbox",), distributed=False, output_dir=str(tmp_path))
    evaluator.reset()
    for image_id, (boxes, logits) in zip(IDS, proposals, strict=True):
        instances = Instances((64, 64), proposal_boxes=Boxes(torch.as_tensor(boxes)))
        instances.objectness_logits = torch.as_tensor(logits)
        evaluator.process([{"image_id": image_id}], [{"proposals": instances}])
    theirs = evaluator.evaluate()["box_proposals"]
    ours = proposal_recall(store, data, tmp_path)
    assert ours == pytest.approx(theirs, abs=1e-4, nan_ok=True)
    assert ours["AR@1000"] > 0


def test_a_size_without_objects_is_nan_and_no_annotations_give_nothing(data, tmp_path):
    file = tmp_path / "instances.json"
    tree = json.loads(file.read_text())
    tree["annotations"] = tree["annotations"][:2]
    file.write_text(json.dumps(tree))
    store = store_of(tmp_path, random_proposals())
    assert math.isnan(proposal_recall(store, data, tmp_path)["ARl@100"])
    del tree["annotations"]
    file.write_text(json.dumps(tree))
    assert proposal_recall(store, data, tmp_path) == {}


def test_the_table_has_a_line_for_each_limit():
    tasks = {"box_proposals": {"AR@100": 40.25, "ARs@100": None, "AR@1000": 51.6}}
    header, _, first, second = metrics_table(tasks).splitlines()
    assert header.split() == ["AR", "ARs", "ARm", "ARl"]
    assert first.split() == ["100", "proposals", "40.2", "-", "-", "-"]
    assert second.split() == ["1000", "proposals", "51.6", "-", "-", "-"]
    assert summary(tasks) == "AR@100 40.2 · AR@1000 51.6"


def test_the_picture_has_the_best_proposal_of_each_object(tmp_path):
    boxes = np.array([[0, 0, 10, 5], [0, 0, 10, 9], [30, 30, 40, 40]], np.float32)
    file = write_pickle(tmp_path / "p.pkl", [(boxes, np.ones(3))], ids=[7])
    truth = Objects(
        boxes=np.array([[0.0, 0, 10, 10], [30, 30, 50, 40], [90, 90, 99, 99]]),
        classes=np.array([4, 1, 2]),
    )
    best = best_fitting(proposals_by_image(file)[7], truth, threshold=0.5)
    assert best.boxes.tolist() == [[0, 0, 10, 9], [30, 30, 40, 40]]
    assert best.classes.tolist() == [4, 1]
    assert best.scores == pytest.approx([0.9, 0.5])
    assert len(best_fitting(boxes[:0], truth, threshold=0.5)) == 0
    nothing = Objects(boxes=np.zeros((0, 4)), classes=np.zeros(0, np.int64))
    assert len(best_fitting(boxes, nothing, threshold=0.5)) == 0
