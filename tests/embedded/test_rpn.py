"""Proposals and the region proposal network, worked out by hand."""

import math

import maskrcnn_repro  # noqa: F401

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling.proposal_generator import RPN, StandardRPNHead, build_proposal_generator
from detectron2.modeling.proposal_generator.proposal_utils import (
    add_ground_truth_to_proposals,
    find_top_rpn_proposals,
)
from detectron2.structures import Boxes, ImageList, Instances
from detectron2.utils.events import EventStorage
from torch import nn
from torch.testing import assert_close
from torchvision.ops import generalized_box_iou_loss, nms

INF = float("inf")


# --- proposals -------------------------------------------------------------------------------------


def top(boxes, scores, **kwargs):
    """Proposals of one image of 50 x 100 pixels; a list of levels or one level."""
    boxes, scores = ([x] if isinstance(x, torch.Tensor) else x for x in (boxes, scores))
    arguments = {
        "image_sizes": [(50, 100)],
        "nms_thresh": 0.5,
        "pre_nms_topk": 10,
        "post_nms_topk": 10,
        "min_box_size": 0.0,
        "training": False,
    }
    (proposals,) = find_top_rpn_proposals(
        [b[None] for b in boxes], [s[None] for s in scores], **(arguments | kwargs)
    )
    return proposals.proposal_boxes.tensor.tolist(), proposals.objectness_logits.tolist()


BOXES = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [90, 40, 120, 60], [20, 20, 23, 40]])
SCORES = torch.tensor([1.0, 2.0, 3.0, 4.0])


def test_proposals_are_clipped_deduplicated_and_sorted():
    boxes, scores = top(BOXES, SCORES)
    assert scores == [4, 3, 2]
    assert boxes == [[20, 20, 23, 40], [90, 40, 100, 50], [0, 0, 10, 9]]


def test_levels_do_not_suppress_each_other():
    boxes, scores = top([BOXES[:1], BOXES[1:2]], [SCORES[:1], SCORES[1:2]])
    assert scores == [2, 1]
    assert boxes == [[0, 0, 10, 9], [0, 0, 10, 10]]


def test_counts_before_and_after_nms():
    assert top(BOXES, SCORES, pre_nms_topk=3)[1] == [4, 3, 2]
    assert top(BOXES, SCORES, pre_nms_topk=1)[1] == [4]
    assert top(BOXES, SCORES, post_nms_topk=2)[1] == [4, 3]
    # Per level before NMS, in all after it.
    levels = [BOXES[:2], BOXES[2:]], [SCORES[:2], SCORES[2:]]
    assert top(*levels, pre_nms_topk=1)[1] == [4, 2]
    assert top(*levels, pre_nms_topk=1, post_nms_topk=1)[1] == [4]


def test_small_boxes_are_dropped_after_clipping():
    assert top(BOXES, SCORES, min_box_size=3.0)[1] == [3, 2]
    assert top(BOXES, SCORES, min_box_size=9.5, nms_thresh=1.0)[1] == [3, 1]
    outside = torch.tensor([[100.0, 10, 130, 20]])
    assert top(outside, torch.ones(1)) == ([], [])


def test_not_finite_is_dropped_in_testing_and_refused_in_training():
    bad = BOXES.clone()
    bad[3, 0] = float("nan")
    scores = torch.tensor([1.0, 2.0, INF, 4.0])
    assert top(bad, scores)[1] == [2]
    with pytest.raises(FloatingPointError, match="diverged"):
        top(bad, scores, training=True)


def test_nms_agrees_with_torchvision():
    corner = torch.rand(200, 2) * 40
    boxes, scores = torch.cat((corner, corner + 8), dim=1), torch.rand(200)
    kept = nms(boxes, scores, 0.3)
    proposals = top(boxes, scores, nms_thresh=0.3, pre_nms_topk=999, post_nms_topk=999)
    assert proposals == (boxes[kept].tolist(), scores[kept].tolist())


def proposals_of(boxes, **fields):
    result = Instances((50, 100))
    result.proposal_boxes = Boxes(boxes)
    result.objectness_logits = torch.zeros(len(boxes))
    for name, value in fields.items():
        result.set(name, value)
    return result


@pytest.mark.parametrize("as_instances", [False, True])
def test_ground_truth_is_appended(as_instances):
    gt = Boxes(torch.tensor([[1.0, 2, 3, 4]]))
    gt = Instances((50, 100), gt_boxes=gt) if as_instances else gt
    (result,) = add_ground_truth_to_proposals([gt], [proposals_of(BOXES)])
    assert_close(result.proposal_boxes.tensor, torch.cat((BOXES, torch.tensor([[1.0, 2, 3, 4]]))))
    assert set(result.get_fields()) == {"proposal_boxes", "objectness_logits"}
    # The logit of 1 - 1e-10.
    assert result.objectness_logits[-1].item() == pytest.approx(23.02585, abs=1e-4)


def test_no_ground_truth_is_appended():
    (result,) = add_ground_truth_to_proposals([Boxes(torch.zeros(0, 4))], [proposals_of(BOXES)])
    assert_close(result.proposal_boxes.tensor, BOXES)
    assert add_ground_truth_to_proposals([], []) == []


def test_mismatched_ground_truth():
    with pytest.raises(ValueError, match="proposals"):
        add_ground_truth_to_proposals([], [proposals_of(BOXES)])
    with pytest.raises(AssertionError, match="custom"):
        add_ground_truth_to_proposals(
            [Boxes(torch.zeros(0, 4))], [proposals_of(BOXES, custom=torch.zeros(4))]
        )


# --- the network -----------------------------------------------------------------------------------

FEATURES = {"p2": (1, 6, 8, 12), "p3": (1, 6, 4, 6)}


def small_rpn(**overrides):
    cfg = get_cfg()
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[8], [16]]
    cfg.MODEL.RPN.IN_FEATURES = list(FEATURES)
    for key, value in overrides.items():
        cfg.MODEL.RPN[key] = value
    shapes = {name: ShapeSpec(channels=6, stride=2**i) for i, name in enumerate(FEATURES, 2)}
    return build_proposal_generator(cfg, shapes)


def run(rpn, gt_boxes=None, num_images=1):
    torch.manual_seed(5)
    features = {name: torch.randn(num_images, *shape[1:]) for name, shape in FEATURES.items()}
    images = ImageList(torch.zeros(num_images, 3, 32, 48), [(32, 48)] * num_images)
    gt = gt_boxes and [Instances((32, 48), gt_boxes=Boxes(torch.tensor(b))) for b in gt_boxes]
    with EventStorage() as storage:
        proposals, losses = rpn(images, features, gt)
    return proposals, losses, {name: value for name, (value, _) in storage.latest().items()}


def test_losses_of_an_untrained_rpn_by_hand():
    rpn = small_rpn()
    nn.init.zeros_(rpn.rpn_head.objectness_logits.weight)
    nn.init.zeros_(rpn.rpn_head.anchor_deltas.weight)
    # The anchor of stride 4 and ratio 1 at cell (2, 1), moved by 2 px: dx = 2/8, all else 0. Its IoU of
    # 48/80 is below 0.7, but the best there is.
    anchor = torch.tensor([[4.0, 0.0, 12.0, 8.0]])
    _, losses, events = run(rpn, [(anchor + torch.tensor([2.0, 0, 2, 0])).tolist()])
    positive = events["rpn/num_pos_anchors"]
    sampled = positive + events["rpn/num_neg_anchors"]
    assert sampled == 256
    # Logits are 0, so every sampled anchor costs ln 2; the divisor is the sample size.
    assert losses["loss_rpn_cls"].item() == pytest.approx(math.log(2))
    # Two anchors tie: this one and its neighbour 4 px to the right.
    assert positive == 2
    assert losses["loss_rpn_loc"].item() == pytest.approx(2 * 0.25 / 256)


def test_only_background_without_ground_truth():
    proposals, losses, events = run(small_rpn(), [torch.zeros(0, 4).tolist()])
    assert events == {"rpn/num_pos_anchors": 0, "rpn/num_neg_anchors": 256}
    assert losses["loss_rpn_loc"].item() == 0
    assert losses["loss_rpn_cls"].item() == pytest.approx(math.log(2), rel=0.1)
    sum(losses.values()).backward()
    assert len(proposals[0]) > 0


def test_gradients_reach_the_head_from_losses_alone():
    rpn = small_rpn()
    proposals, losses, _ = run(rpn, [[[4.0, 4.0, 14.0, 12.0]]])
    assert not proposals[0].proposal_boxes.tensor.requires_grad
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in rpn.parameters())


def test_loss_weights():
    box = [[[4.0, 4.0, 14.0, 12.0]]]
    base = small_rpn()
    weighted = small_rpn(LOSS_WEIGHT=2.0, BBOX_REG_LOSS_WEIGHT=3.0)
    weighted.load_state_dict(base.state_dict())
    (_, plain, _), (_, scaled, _) = run(base, box), run(weighted, box)
    assert_close(scaled["loss_rpn_cls"], 2 * plain["loss_rpn_cls"])
    assert_close(scaled["loss_rpn_loc"], 6 * plain["loss_rpn_loc"])


def test_testing_needs_no_ground_truth_and_has_its_own_counts():
    rpn = small_rpn(POST_NMS_TOPK_TRAIN=7, POST_NMS_TOPK_TEST=3)
    assert len(run(rpn, [[[4.0, 4.0, 14.0, 12.0]]])[0][0]) == 7
    (proposals,), losses, events = run(rpn.eval())
    assert len(proposals) == 3
    assert losses == events == {}
    assert (proposals.objectness_logits.diff() <= 0).all()


def test_predictions_belong_to_their_anchors():
    """Whatever the layout of the head's outputs, a zero delta proposes the anchor of that very score."""
    rpn = small_rpn(NMS_THRESH=1.0, POST_NMS_TOPK_TEST=1).eval()
    wanted = {"level": 1, "anchor": 2, "row": 3, "column": 5}
    scores = [torch.zeros(1, 3, *shape[-2:]) for shape in FEATURES.values()]
    scores[wanted["level"]][0, wanted["anchor"], wanted["row"], wanted["column"]] = 9.0
    deltas = [torch.zeros(1, 12, *shape[-2:]) for shape in FEATURES.values()]
    rpn.rpn_head.forward = lambda features: (scores, deltas)
    (proposals,), _, _ = run(rpn)
    # Size 16, ratio 2: 11.31 x 22.63 around (5, 3) * 8, clipped to 48 x 32.
    half_width, half_height = 8 / math.sqrt(2), 8 * math.sqrt(2)
    expected = [40 - half_width, 24 - half_height, 40 + half_width, 32.0]
    assert_close(proposals.proposal_boxes.tensor, torch.tensor([expected]))


def test_anchors_outside_the_image_can_be_left_out():
    # One threshold: no anchor is ignored for its IoU.
    rpn = small_rpn(BOUNDARY_THRESH=0, IOU_THRESHOLDS=[0.5], IOU_LABELS=[0, 1])
    anchors = rpn.anchor_generator([torch.zeros(shape) for shape in FEATURES.values()])
    gt = Instances((32, 48), gt_boxes=Boxes(torch.tensor([[4.0, 4.0, 14.0, 12.0]])))
    (labels,), (boxes,) = rpn.label_and_sample_anchors(anchors, [gt])
    inside = Boxes.cat(anchors).inside_box((32, 48))
    assert 0 < inside.sum() < 256
    assert ((labels >= 0) == inside).all()
    assert_close(boxes, gt.gt_boxes.tensor.expand(len(inside), 4))


def test_iou_loss_on_boxes():
    rpn = small_rpn(BBOX_REG_LOSS_TYPE="giou")
    nn.init.zeros_(rpn.rpn_head.anchor_deltas.weight)
    target = torch.tensor([[6.0, 0.0, 14.0, 8.0]])
    _, losses, events = run(rpn, [target.tolist()])
    anchors = torch.tensor([[4.0, 0.0, 12.0, 8.0], [8.0, 0.0, 16.0, 8.0]])
    expected = generalized_box_iou_loss(anchors, target.expand(2, 4), reduction="sum") / 256
    assert events["rpn/num_pos_anchors"] == 2
    assert_close(losses["loss_rpn_loc"], expected)


def test_autocast():
    rpn, box = small_rpn(), [[[4.0, 4.0, 14.0, 12.0]]]
    _, expected, _ = run(rpn, box)
    with torch.autocast("cpu", torch.bfloat16):
        (proposals,), losses, _ = run(rpn, box)
    assert proposals.proposal_boxes.tensor.dtype == torch.float32
    for name, loss in losses.items():
        assert loss.item() == pytest.approx(expected[name].item(), rel=0.02)


def test_names_of_the_head():
    single = small_rpn().state_dict()
    double = small_rpn(CONV_DIMS=[-1, 5]).state_dict()
    parts = ("weight", "bias")
    outputs = [f"{name}.{p}" for name in ("objectness_logits", "anchor_deltas") for p in parts]
    assert list(single) == [f"rpn_head.{n}" for n in ("conv.weight", "conv.bias", *outputs)]
    hidden = [f"conv.conv{i}.{p}" for i in range(2) for p in parts]
    assert list(double) == [f"rpn_head.{n}" for n in (*hidden, *outputs)]
    assert double["rpn_head.conv.conv1.weight"].shape == (5, 6, 3, 3)
    assert double["rpn_head.anchor_deltas.weight"].shape == (12, 5, 1, 1)


def test_precomputed_proposals_need_no_generator():
    cfg = get_cfg()
    cfg.MODEL.PROPOSAL_GENERATOR.NAME = "PrecomputedProposals"
    assert build_proposal_generator(cfg, {}) is None


@pytest.mark.embedded_only
def test_wrong_rpn():
    with pytest.raises(ValueError, match="needs gt_instances in training"):
        run(small_rpn())
    with pytest.raises(ValueError, match="CONV_DIMS has 0; choose a positive number or -1"):
        StandardRPNHead(in_channels=4, num_anchors=3, conv_dims=[0])
    shapes = {"p2": ShapeSpec(channels=4, stride=4), "p3": ShapeSpec(channels=8, stride=8)}
    cfg = get_cfg()
    cfg.MODEL.RPN.IN_FEATURES = ["p2", "p3"]
    with pytest.raises(ValueError, match=r"their channels are \[4, 8\]"):
        RPN(cfg, shapes)
