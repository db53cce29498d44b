"""RoI pooling, the box head, sampling of proposals: values by hand, empty cases, errors."""

import math

import maskrcnn_repro  # noqa: F401

import pytest
import torch
import torchvision
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.poolers import (
    ROIPooler,
    assign_boxes_to_levels,
    convert_boxes_to_pooler_format,
)
from detectron2.modeling.roi_heads import (
    FastRCNNConvFCHead,
    FastRCNNOutputLayers,
    Res5ROIHeads,
    ROIHeads,
    StandardROIHeads,
    build_box_head,
    select_foreground_proposals,
)
from detectron2.modeling.roi_heads.fast_rcnn import (
    fast_rcnn_inference,
    fast_rcnn_inference_single_image,
)
from detectron2.structures import Boxes, Instances
from torch.testing import assert_close

from tests.helpers.roi_cases import LOG2, SHAPE, latest, squares

UNIT = Box2BoxTransform(weights=(1.0, 1.0, 1.0, 1.0))


# Poolers


def test_level_of_a_box_follows_fpn_equation_1():
    first, second = squares(112, 223, 224, 448), squares(8, 5000, 0)
    levels = assign_boxes_to_levels([first, second], 2, 5, 224, 4)
    # floor(4 + log2(side / 224)), held to 2..5, counted from 2.
    assert levels.tolist() == [1, 1, 2, 3, 0, 3, 0]


def test_side_a_rounding_error_below_an_edge_belongs_above_it():
    below = torch.tensor(56.0).nextafter(torch.tensor(0.0)).nextafter(torch.tensor(0.0)).item()
    assert below < 56  # a quarter of 224: level 2 begins there
    assert assign_boxes_to_levels([squares(below, 55.9)], 1, 5, 224, 4).tolist() == [1, 0]


def test_pooler_format_has_the_image_index_in_front():
    boxes = [Boxes(torch.tensor([[1.0, 2, 3, 4]])), squares(), squares(7)]
    boxes[1] = Boxes(torch.zeros(0, 4))
    expected = torch.tensor([[0.0, 1, 2, 3, 4], [2, 0, 0, 7, 7]])
    assert_close(convert_boxes_to_pooler_format(boxes), expected)


@pytest.mark.parametrize(("kind", "value"), [("ROIAlignV2", 1.5), ("ROIAlign", 2), ("ROIPool", 3)])
def test_one_bin_on_a_ramp(kind, value):
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)  # value = column
    pooler = ROIPooler(1, scales=[1 / 4], sampling_ratio=2, pooler_type=kind)
    out = pooler([ramp], [Boxes(torch.tensor([[4.0, 4, 12, 12]]))])  # cells 1 to 3
    # V2: centre 2 minus half a cell; V1 without the shift; RoIPool: the maximum of cells 1, 2, 3.
    assert_close(out, torch.full((1, 1, 1, 1), float(value)))


def test_each_box_is_pooled_from_its_level_and_image_and_gets_a_gradient():
    maps = [torch.zeros(2, 1, 64 >> i, 64 >> i) for i in range(2)]
    for level, feature in enumerate(maps):
        feature += 10 * level + torch.arange(2.0)[:, None, None, None]
        feature.requires_grad_()
    pooler = ROIPooler(3, [1 / 8, 1 / 16], 2, "ROIAlignV2")
    out = pooler(maps, [squares(448, 100, 300), squares(50)])
    assert out.shape == (4, 1, 3, 3)
    assert out[:, 0, 0, 0].tolist() == [10, 0, 10, 1]
    out.sum().backward()
    assert [m.grad.sum().item() for m in maps] == [18, 18]  # 9 cells of two RoIs each


@pytest.mark.embedded_only
def test_pooled_rois_need_not_be_square():
    maps = [torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 4, 4)]
    out = ROIPooler((3, 2), [1 / 8, 1 / 16], 2, "ROIAlignV2")(maps, [squares(50, 448)])
    assert out.shape == (2, 1, 3, 2)


def test_single_level_pooler_is_torchvisions_roi_align():
    features = torch.randn(2, 3, 9, 11)
    corners = torch.rand(2, 5, 2) * 60
    boxes = torch.cat([corners, corners + torch.rand(2, 5, 2) * 80], dim=2)
    for ratio in (0, 1, 2):
        ours = ROIPooler(7, [1 / 16], ratio, "ROIAlignV2")([features], [Boxes(b) for b in boxes])
        theirs = torchvision.ops.roi_align(features, list(boxes), 7, 1 / 16, ratio, aligned=True)
        assert_close(ours, theirs)


def test_pooling_no_box_gives_an_empty_tensor_with_a_gradient():
    features = [torch.randn(1, 2, 8, 8, requires_grad=True), torch.randn(1, 2, 4, 4)]
    out = ROIPooler(7, [1 / 4, 1 / 8], 2, "ROIAlignV2")(features, [Boxes(torch.zeros(0, 4))])
    assert out.shape == (0, 2, 7, 7)
    out.sum().backward()
    assert features[0].grad.abs().sum() == 0


@pytest.mark.embedded_only
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pooler_type": "RoIAlign"}, "Unknown pooler type 'RoIAlign'; choose ROIAlignV2"),
        ({"scales": [1 / 7]}, "powers of 2"),
        ({"scales": [1 / 4, 1 / 16]}, "halve"),
        ({"scales": [1 / 8, 1 / 4]}, "halve"),
        ({"output_size": (7, 7, 7)}, r"output_size.*\(7, 7, 7\)"),
        ({"canonical_box_size": 0}, "positive, not 0"),
    ],
)
def test_pooler_refuses_wrong_arguments(change, message):
    arguments = {"output_size": 7, "scales": [1], "sampling_ratio": 0, "pooler_type": "ROIPool"}
    with pytest.raises(ValueError, match=message):
        ROIPooler(**(arguments | change))


@pytest.mark.embedded_only
def test_pooler_refuses_a_wrong_number_of_maps_or_images():
    pooler = ROIPooler(7, [1 / 4, 1 / 8], 0, "ROIAlign")
    feature = torch.zeros(1, 1, 4, 4)
    with pytest.raises(ValueError, match="2 feature maps expected, 1 given"):
        pooler([feature], [squares(1)])
    with pytest.raises(ValueError, match="Boxes of 2 images given for 1"):
        pooler([feature, feature], [squares(1), squares(1)])


# Box predictor


def predictor(**changes):
    return FastRCNNOutputLayers(SHAPE, box2box_transform=UNIT, num_classes=2, **changes)


def proposals_with_truth():
    """Four RoIs, one foreground: its object is a tenth of its width to the right."""
    proposals = Instances((40, 40))
    proposals.proposal_boxes = squares(10, 20, 20, 20)
    proposals.gt_boxes = Boxes(torch.tensor([[1.0, 0, 11, 10]] + [[0.0, 0, 1, 1]] * 3))
    proposals.gt_classes = torch.tensor([1, 2, 2, -1])
    return proposals


def test_score_threshold_nms_per_class_top_k_and_clipping():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 40, 40]])
    scores = torch.tensor([[0.9, 0.1, 0.9], [0.8, 0.6, 0.9], [0.5, 0.7, 0.9]])
    # 0.5 is not above the threshold; (RoI 1, class 0) overlaps (RoI 0, class 0) by 0.9.
    detections, rows = fast_rcnn_inference_single_image(boxes, scores, (30, 35), 0.5, 0.5, -1)
    assert rows.tolist() == [0, 2, 1]
    assert detections.pred_classes.tolist() == [0, 1, 1]
    assert_close(detections.scores, torch.tensor([0.9, 0.7, 0.6]))
    assert detections.pred_boxes.tensor.tolist() == [
        [0, 0, 10, 10],
        [20, 20, 35, 30],
        [0, 0, 10, 9],
    ]
    [best], [rows] = fast_rcnn_inference([boxes], [scores], [(30, 35)], 0.5, 0.5, 2)
    assert rows.tolist() == [0, 2]
    assert best.image_size == (30, 35)


def test_each_class_has_its_own_box():
    boxes = torch.tensor([[0.0, 0, 1, 1, 2, 2, 4, 4]])
    detections, _ = fast_rcnn_inference_single_image(
        boxes, torch.tensor([[0.3, 0.6, 0.1]]), (9, 9), 0.1, 0.5, 10
    )
    assert detections.pred_classes.tolist() == [1, 0]
    assert detections.pred_boxes.tensor.tolist() == [[2, 2, 4, 4], [0, 0, 1, 1]]


def test_rois_that_are_not_finite_are_left_out():
    boxes = torch.tensor([[0.0, 0, math.inf, 1], [0, 0, 5, 5], [0, 0, 3, 3]])
    scores = torch.tensor([[0.9, 0.1], [0.8, math.nan], [0.7, 0.3]])
    detections, _ = fast_rcnn_inference_single_image(boxes, scores, (9, 9), 0.0, 0.5, 10)
    assert detections.pred_boxes.tensor.tolist() == [[0, 0, 3, 3]]


@pytest.mark.embedded_only
def test_kept_rows_count_the_rois_that_were_left_out():
    boxes = torch.tensor([[math.nan] * 4, [0, 0, 5, 5]])
    scores = torch.tensor([[0.9, 0.1], [0.8, 0.2]])
    _, rows = fast_rcnn_inference_single_image(boxes, scores, (9, 9), 0.0, 0.5, 10)
    assert rows.tolist() == [1]


def test_losses_by_hand(storage):
    deltas = torch.zeros(3, 8)
    deltas[:, :4] = 100  # class 0: no RoI is of it
    proposals = proposals_with_truth()[torch.tensor([0, 1, 2])]
    logits = torch.tensor([[0, LOG2, 0], [0, 0, LOG2], [0, 0, 0]])
    losses = predictor(loss_weight={"loss_box_reg": 2.0}).losses((logits, deltas), [proposals])
    # Softmax probability of the true class: 1/2, 1/2, 1/3. |dx| = 0.1 over three RoIs, twice.
    assert_close(losses["loss_cls"], torch.tensor((2 * LOG2 + math.log(3)) / 3))
    assert_close(losses["loss_box_reg"], torch.tensor(2 * 0.1 / 3))
    assert latest(storage) == pytest.approx(
        {
            "fast_rcnn/cls_accuracy": 2 / 3,  # argmax of the third is class 0
            "fast_rcnn/fg_cls_accuracy": 1,
            "fast_rcnn/false_negative": 0,
        }
    )


def test_ignored_rois_have_no_box_loss_but_count():
    proposals = proposals_with_truth()
    arguments = (proposals.proposal_boxes.tensor, proposals.gt_boxes.tensor)
    for columns, agnostic in ((8, False), (4, True)):
        layers = predictor(cls_agnostic_bbox_reg=agnostic)
        loss = layers.box_reg_loss(*arguments, torch.zeros(4, columns), proposals.gt_classes)
        assert_close(loss, torch.tensor(0.1 / 4))


def test_boxes_of_the_true_classes():
    proposals = proposals_with_truth()
    deltas = torch.zeros(4, 8)
    deltas[:, 4] = 0.1  # dx of class 1
    [boxes] = predictor().predict_boxes_for_gt_classes((None, deltas), [proposals])
    # Background (class 2) and ignored RoIs (-1) get the box of class 1 and 0.
    assert_close(boxes[:, 0], torch.tensor([1.0, 2.0, 2.0, 0.0]))
    assert proposals.gt_classes.tolist() == [1, 2, 2, -1]


def test_sigmoid_classifier_sums_over_classes_and_averages_over_rois(storage):
    layers = predictor(use_sigmoid_ce=True)
    proposals = proposals_with_truth()[torch.tensor([0, 1, 2])]
    losses = layers.losses((torch.zeros(3, 3), torch.zeros(3, 8)), [proposals])
    assert_close(losses["loss_cls"], torch.tensor(2 * LOG2))
    [probs] = layers.predict_probs((torch.zeros(3, 3), None), [proposals])
    assert_close(probs, torch.full((3, 3), 0.5))


def test_an_image_without_ground_truth_has_no_box_loss(storage):
    proposals = Instances((9, 9), proposal_boxes=squares(2, 3), gt_classes=torch.tensor([2, 2]))
    layers = predictor()
    sum(layers.losses(layers(torch.ones(2, 4, 2, 2)), [proposals]).values()).backward()
    assert layers.bbox_pred.weight.grad.abs().sum() == 0
    assert layers.cls_score.weight.grad.abs().sum() > 0
    assert "fast_rcnn/false_negative" not in latest(storage)


def test_no_proposals_give_no_detections():
    layers = predictor()
    empty = Instances((9, 9), proposal_boxes=Boxes(torch.zeros(0, 4)))
    [detections], [rows] = layers.inference(layers(torch.zeros(0, 4, 2, 2)), [empty])
    assert len(detections) == len(rows) == 0
    assert detections.pred_boxes.tensor.shape == (0, 4)


@pytest.mark.parametrize("agnostic", [True, pytest.param(False, marks=pytest.mark.embedded_only)])
def test_no_images_give_no_loss_and_a_gradient(agnostic):
    layers = predictor(cls_agnostic_bbox_reg=agnostic)
    losses = layers.losses(layers(torch.zeros(0, 4, 2, 2)), [])
    sum(losses.values()).backward()
    assert [loss.item() for loss in losses.values()] == [0, 0]
    assert all(p.grad is not None for p in layers.parameters())


@pytest.mark.embedded_only
def test_federated_loss_is_refused():
    with pytest.raises(NotImplementedError, match=r"USE_FED_LOSS.*install Detectron2"):
        predictor(use_fed_loss=True, use_sigmoid_ce=True)


# Box head


def test_box_head_layers_and_shapes():
    head = FastRCNNConvFCHead(SHAPE, conv_dims=[3], fc_dims=[5, 6], conv_norm="BN")
    assert head(torch.ones(2, 4, 2, 2)).shape == (2, 6)
    assert head.output_shape == ShapeSpec(channels=6)
    assert list(head.state_dict())[:2] == ["conv1.weight", "conv1.norm.weight"]
    assert "conv1.bias" not in head.state_dict()
    assert head.fc1.in_features == 3 * 2 * 2
    assert head.fc1.bias.abs().sum() == 0
    convs = FastRCNNConvFCHead(SHAPE, conv_dims=[3], fc_dims=[])
    assert convs.output_shape == ShapeSpec(channels=3, height=2, width=2)


@pytest.mark.embedded_only
def test_box_head_errors():
    with pytest.raises(ValueError, match="at least one layer"):
        FastRCNNConvFCHead(SHAPE, conv_dims=[], fc_dims=[])
    cfg = get_cfg()
    cfg.MODEL.ROI_BOX_HEAD.NAME = "NoSuchHead"
    with pytest.raises(KeyError, match="NoSuchHead"):
        build_box_head(cfg, SHAPE)


# Sampling of proposals


def roi_heads(**changes):
    arguments = {
        "num_classes": 3,
        "batch_size_per_image": 4,
        "positive_fraction": 0.5,
        "proposal_matcher": Matcher([0.5], [0, 1], allow_low_quality_matches=False),
        "proposal_append_gt": False,
    }
    return ROIHeads(**(arguments | changes))


def test_sampling_labels_by_overlap_and_limits_the_foreground(storage):
    proposals = [
        Instances((99, 99), proposal_boxes=squares(10, 10, 10, 80, 60)),
        Instances((99, 99), proposal_boxes=squares(10, 20)),
    ]
    truth = [
        Instances((99, 99), gt_boxes=squares(80, 9), gt_classes=torch.tensor([0, 2])),
        Instances((99, 99), gt_boxes=Boxes(torch.zeros(0, 4))),
    ]
    truth[0].gt_extra = torch.tensor([7, 8])
    truth[0].other = torch.tensor([1, 1])
    truth[1].gt_classes = torch.zeros(0, dtype=torch.long)
    heads = roi_heads(positive_fraction=0.75)
    first, second = heads.label_and_sample_proposals(proposals, truth)
    # Sides 10 belong to 9 (IoU 0.81), 80 to 80, 60 to 80 (0.5625): no background, three allowed.
    assert len(first) == 3
    expected = {10: (2, 8), 80: (0, 7), 60: (0, 7)}
    for side, label, extra in zip(
        first.proposal_boxes.tensor[:, 2].tolist(), first.gt_classes, first.gt_extra, strict=True
    ):
        assert expected[side] == (label, extra)
    assert not first.has("other")
    assert second.gt_classes.tolist() == [3, 3]
    assert not second.has("gt_boxes")
    assert latest(storage) == {"roi_head/num_fg_samples": 1.5, "roi_head/num_bg_samples": 1.0}


def test_proposals_between_two_thresholds_are_never_sampled(storage):
    # IoU with the object of 100 pixels: 1, 0.64 (ignored), 0.09.
    proposals = [Instances((99, 99), proposal_boxes=squares(10, 8, 3))]
    truth = [Instances((99, 99), gt_boxes=squares(10), gt_classes=torch.tensor([1]))]
    matcher = Matcher([0.3, 0.7], [0, -1, 1], allow_low_quality_matches=False)
    heads = roi_heads(proposal_matcher=matcher, positive_fraction=1.0)
    [samples] = heads.label_and_sample_proposals(proposals, truth)
    assert samples.proposal_boxes.tensor[:, 2].tolist() == [10, 3]
    assert samples.gt_classes.tolist() == [1, 3]
    assert latest(storage) == {"roi_head/num_fg_samples": 1, "roi_head/num_bg_samples": 1}


def test_ground_truth_can_be_added_to_the_proposals(storage):
    proposals = [Instances((99, 99), proposal_boxes=squares(3), objectness_logits=torch.ones(1))]
    truth = [Instances((99, 99), gt_boxes=squares(80), gt_classes=torch.tensor([1]))]
    [samples] = roi_heads(proposal_append_gt=True).label_and_sample_proposals(proposals, truth)
    assert samples.gt_classes.tolist() == [1, 3]
    assert samples.proposal_boxes.tensor[:, 2].tolist() == [80, 3]


def test_foreground_is_neither_background_nor_ignored():
    proposals = Instances((9, 9), gt_classes=torch.tensor([3, 0, -1, 2]))
    [kept], [mask] = select_foreground_proposals([proposals], 3)
    assert kept.gt_classes.tolist() == [0, 2]
    assert mask.tolist() == [False, True, False, True]


@pytest.mark.embedded_only
def test_roi_heads_errors():
    cfg = get_cfg()
    maps = {"res4": ShapeSpec(channels=4, stride=16), "res5": ShapeSpec(channels=8, stride=32)}
    cfg.MODEL.KEYPOINT_ON = True
    with pytest.raises(ValueError, match="no keypoint branch; use StandardROIHeads"):
        Res5ROIHeads(cfg, maps)
    cfg.MODEL.KEYPOINT_ON = False
    cfg.MODEL.ROI_HEADS.IN_FEATURES = ["res4", "res5"]
    with pytest.raises(ValueError, match=r"IN_FEATURES has \['res4', 'res5'\]"):
        Res5ROIHeads(cfg, maps)
    with pytest.raises(ValueError, match=r"equal width; .* have \[4, 8\]"):
        StandardROIHeads(cfg, maps)
    with pytest.raises(NotImplementedError, match="ROIHeads has no forward"):
        roi_heads()(None, {}, [])
