"""Cascade R-CNN: values by hand, the parent's with one stage, Detectron2's, no objects, mistakes."""

from pathlib import Path

from maskrcnn_repro.checkpoint.model_source import find_model
from maskrcnn_repro.config import load_config
from maskrcnn_repro.errors import ConfigError
from maskrcnn_repro.export.exporting import Exporter, Target
from maskrcnn_repro.export.formats import WRITERS

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import ROI_HEADS_REGISTRY
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

import maskrcnn_family
from tests.family import parity
from tests.helpers.parity import compare
from tests.helpers.tiny_predictor import write_tiny_model

CONFIG = Path(maskrcnn_family.__file__).parent / "cascade" / "config.yaml"
SHAPES = {"p2": ShapeSpec(channels=4, stride=4)}
SIZE = (64, 64)


def heads(name="FamilyCascadeROIHeads", **changes):
    """A cascade of two stages (or other heads) on one map of 4 channels, 3 classes, with 8 features per RoI."""
    cfg = load_config(CONFIG, ["MODEL.DEVICE", "cpu"])
    values = {
        "ROI_HEADS.NAME": name,
        "ROI_HEADS.IN_FEATURES": ["p2"],
        "ROI_HEADS.NUM_CLASSES": 3,
        "ROI_HEADS.SCORE_THRESH_TEST": 0.0,
        "ROI_HEADS.NMS_THRESH_TEST": 1.0,
        "ROI_BOX_HEAD.FC_DIM": 8,
        "ROI_BOX_CASCADE_HEAD.IOUS": (0.5, 0.6),
        "ROI_BOX_CASCADE_HEAD.BBOX_REG_WEIGHTS": ((10.0, 10.0, 5.0, 5.0), (20.0, 20.0, 10.0, 10.0)),
        "MASK_ON": False,
    }
    for key, value in (values | changes).items():
        cfg.merge_from_list([f"MODEL.{key}", value])
    torch.manual_seed(0)
    return ROI_HEADS_REGISTRY.get(name)(cfg, SHAPES)


def instances(boxes, classes=None):
    boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).view(-1, 4))
    if classes is None:
        logits = torch.zeros(len(boxes))
        return Instances(SIZE, proposal_boxes=boxes, objectness_logits=logits)
    return Instances(SIZE, gt_boxes=boxes, gt_classes=torch.tensor(classes, dtype=torch.int64))


def train(module, proposals, targets, features=None):
    module.train()
    features = features if features is not None else torch.randn(len(targets), 4, 16, 16)
    with EventStorage() as storage:
        return module(None, {"p2": features}, proposals, targets)[1], storage.latest()


def test_a_box_of_iou_between_the_thresholds_is_foreground_in_the_first_stage_alone():
    module = heads()
    # Both predictors move nothing and 10 of 18 columns are common: IoU 10 / 18 = 0.556.
    for predictor in module.box_predictor:
        torch.nn.init.zeros_(predictor.bbox_pred.weight)
    proposals, targets = [instances([[4, 0, 18, 10]])], [instances([[0, 0, 14, 10]], [1])]
    module.proposal_append_gt = False
    losses, logged = train(module, proposals, targets)
    assert {name.rsplit("_", 1)[1] for name in losses} == {"stage0", "stage1"}
    assert logged["roi_head/num_fg_samples"][0] == 1
    assert logged["stage1/roi_head/num_fg_samples"][0] == 0
    assert logged["stage1/roi_head/num_bg_samples"][0] == 1
    assert losses["loss_box_reg_stage0"] > 0
    assert losses["loss_box_reg_stage1"] == 0


def test_scores_are_the_mean_of_the_stages_and_boxes_the_last_one_s():
    module = heads().eval()
    first, second = module.box_predictor
    for layer in (first.cls_score, second.cls_score, first.bbox_pred, second.bbox_pred):
        torch.nn.init.zeros_(layer.weight)
    # Logits log 3, 0, 0, 0 give class 0 a half; all equal give it a quarter: 3/8 in the mean.
    first.cls_score.bias.data = torch.tensor([3.0, 1, 1, 1]).log()
    # dx = 10 / 10 of the width 10 moves by 10; the second 10 / 20 moves by 5 more.
    for predictor in (first, second):
        predictor.bbox_pred.bias.data = torch.tensor([10.0, 0, 0, 0])
    with torch.no_grad():
        (detections,), _ = module(
            None, {"p2": torch.zeros(1, 4, 16, 16)}, [instances([[0, 0, 10, 10]])]
        )
    best = detections[detections.pred_classes == 0]
    assert best.scores.item() == pytest.approx(3 / 8)
    assert best.pred_boxes.tensor.tolist() == [[15, 0, 25, 10]]


def test_one_stage_is_the_parent():
    one = {"ROI_BOX_CASCADE_HEAD.IOUS": (0.5,)}
    one["ROI_BOX_CASCADE_HEAD.BBOX_REG_WEIGHTS"] = ((10.0, 10.0, 5.0, 5.0),)
    cascade, parent = heads(**one), heads("PaperStandardROIHeads")
    features = torch.randn(1, 4, 16, 16)
    proposals = [instances([[4, 0, 18, 10], [20, 20, 50, 60]])]
    targets = [instances([[0, 0, 14, 10]], [2])]
    ours, theirs = (train(m, proposals, targets, features)[0] for m in (cascade, parent))
    # Sampling orders RoIs by random numbers, and a mean rounds with the order.
    expected = {f"{name}_stage0": loss.item() for name, loss in theirs.items()}
    assert {name: loss.item() for name, loss in ours.items()} == pytest.approx(expected)
    with torch.no_grad():
        results = [m.eval()(None, {"p2": features}, proposals)[0][0] for m in (cascade, parent)]
    assert torch.equal(results[0].scores, results[1].scores)
    assert torch.equal(results[0].pred_boxes.tensor, results[1].pred_boxes.tensor)


def test_features_get_the_mean_of_the_stages_gradients_and_heads_their_own():
    module, features = heads(), torch.randn(1, 4, 16, 16, requires_grad=True)
    proposals, targets = [instances([[4, 0, 18, 10]])], [instances([[0, 0, 14, 10]], [1])]
    losses, _ = train(module, proposals, targets, features)
    stages = [sum(l for n, l in losses.items() if n.endswith(f"stage{s}")) for s in range(2)]
    wanted = [features, module.box_head[1].fc1.weight]
    both = torch.autograd.grad(sum(stages), wanted, retain_graph=True)
    first, second = (
        torch.autograd.grad(s, wanted, retain_graph=True, allow_unused=True) for s in stages
    )
    assert torch.allclose(both[0], first[0] + second[0])
    assert torch.equal(both[1], second[1])


@pytest.fixture(scope="module")
def pair():
    return parity.measure("cascade", ours=True), parity.stored("cascade")


def test_parameters_have_detectron2_s_names(pair):
    assert pair[0]["state"] == pair[1]["state"]


@pytest.mark.parametrize("part", ["losses", "gradients", "proposals", "detections"])
def test_results_are_detectron2_s(pair, part):
    assert getattr(compare, part)(pair[0][part], pair[1][part]) == []


def test_an_image_without_objects_is_background_in_each_stage():
    module = heads()
    losses, _ = train(module, [instances([[4, 0, 18, 10]])], [instances([], [])])
    assert losses["loss_box_reg_stage0"] == losses["loss_box_reg_stage1"] == 0
    sum(losses.values()).backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_without_proposals_there_are_no_detections():
    module = heads().eval()
    with torch.no_grad():
        (detections,), _ = module(None, {"p2": torch.zeros(1, 4, 16, 16)}, [instances([])])
    assert len(detections) == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ROI_BOX_CASCADE_HEAD.IOUS": (0.5,)}, r"IOUS \(0.5,\) has 1 stages, BBOX_REG_WEIGHTS 2"),
        ({"ROI_BOX_CASCADE_HEAD.IOUS": (0.6, 0.7)}, r"starts with 0.6, .*IOU_THRESHOLDS \(0.5,\)"),
        (
            {"ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": False},
            "CLS_AGNOSTIC_BBOX_REG False, .* set it to True",
        ),
        ({"ROI_BOX_HEAD.MIN_SIZE": 2.0}, "MIN_SIZE 2.0 is not for .* leave it at 0.0"),
        ({"ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES": True}, "TRAIN_ON_PRED_BOXES True is not for"),
    ],
)
def test_contradictions_are_told(changes, words):
    with pytest.raises(ConfigError, match=words):
        heads(**changes)


KEYS = {
    "PLUGINS": ("maskrcnn_family.cascade",),
    "MODEL.ROI_HEADS.NAME": "FamilyCascadeROIHeads",
    "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": True,
}


@pytest.mark.slow
@pytest.mark.parametrize("form", ["torchscript", "onnx"])
def test_an_exported_file_gives_the_model_s_detections(tmp_path, form):
    source = find_model(write_tiny_model(tmp_path, **KEYS))
    exporter = Exporter(source, Target(form, threshold=0.0))
    comparison = exporter.write(tmp_path / f"cascade{WRITERS[form][0]}")
    assert comparison.holds
    assert comparison.matched == comparison.detections > 0
