"""Mask and keypoint heads: losses and outputs by hand, empty cases, error messages."""

import math

import maskrcnn_repro  # noqa: F401

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling.roi_heads import KRCNNConvDeconvUpsampleHead, MaskRCNNConvUpsampleHead
from detectron2.modeling.roi_heads.keypoint_head import keypoint_rcnn_inference, keypoint_rcnn_loss
from detectron2.modeling.roi_heads.mask_head import mask_rcnn_inference, mask_rcnn_loss
from detectron2.modeling.roi_heads.roi_heads import select_proposals_with_visible_keypoints
from detectron2.structures import BitMasks, Boxes, Instances, Keypoints
from torch.testing import assert_close

from tests.helpers.roi_cases import LOG2, SHAPE, latest, squares

# Mask head


def masked_proposal():
    """A 4 x 4 image whose left half belongs to the object; the proposal is all of it."""
    mask = torch.zeros(1, 4, 4, dtype=torch.bool)
    mask[:, :, :2] = True
    return Instances(
        (4, 4), proposal_boxes=squares(4), gt_classes=torch.tensor([1]), gt_masks=BitMasks(mask)
    )


@pytest.mark.parametrize("agnostic", [False, True])
def test_mask_loss_by_hand(storage, agnostic):
    own = torch.tensor([[[0.0, 0.0], [2.0, -2.0]]])
    other = torch.full((1, 2, 2), 50.0)
    logits = own[:, None] if agnostic else torch.stack([other, own], dim=1)
    # An image without foreground has no masks at all.
    empty = Instances((4, 4), proposal_boxes=Boxes(torch.zeros(0, 4)))
    empty.gt_classes = torch.zeros(0, dtype=torch.long)
    loss = mask_rcnn_loss(logits, [masked_proposal(), empty])
    assert_close(loss, torch.tensor((2 * LOG2 + 2 * math.log1p(math.exp(-2))) / 4))
    # Truth 1 0 / 1 0; a logit of 0 means outside: 0 0 / 1 0.
    assert latest(storage) == pytest.approx(
        {"mask_rcnn/accuracy": 0.75, "mask_rcnn/false_positive": 0, "mask_rcnn/false_negative": 0.5}
    )


def test_mask_loss_of_other_classes_has_no_gradient(storage):
    logits = torch.randn(1, 3, 2, 2, requires_grad=True)
    mask_rcnn_loss(logits, [masked_proposal()]).backward()
    assert (logits.grad[0].abs().sum(dim=(1, 2)) > 0).tolist() == [False, True, False]


def test_mask_loss_without_rois_is_zero_with_a_gradient():
    logits = torch.randn(0, 3, 2, 2, requires_grad=True)
    loss = mask_rcnn_loss(logits, [masked_proposal()[torch.zeros(1, dtype=torch.bool)]])
    loss.backward()
    assert loss.item() == 0
    assert logits.grad.shape == logits.shape


@pytest.mark.parametrize("agnostic", [False, True])
def test_each_detection_gets_the_mask_of_its_class(agnostic):
    logits = torch.arange(3.0)[:, None, None, None] + torch.zeros(3, 1 if agnostic else 2, 2, 2)
    if not agnostic:
        logits[:, 1] += 10
    detections = [Instances((9, 9), pred_classes=torch.tensor(c)) for c in ([0, 1], [], [1])]
    detections[1].pred_classes = torch.zeros(0, dtype=torch.long)
    mask_rcnn_inference(logits, detections)
    expected = torch.tensor([0.0, 1, 2] if agnostic else [0.0, 11, 12]).sigmoid()
    assert [len(instances) for instances in detections] == [2, 0, 1]
    masks = torch.cat([instances.pred_masks for instances in detections])
    assert_close(masks, expected[:, None, None, None].expand(3, 1, 2, 2))


def test_mask_head_layers_and_loss_weight(storage):
    head = MaskRCNNConvUpsampleHead(SHAPE, num_classes=3, conv_dims=[5, 6], loss_weight=2.0)
    assert list(head.state_dict()) == [
        f"{layer}.{kind}"
        for layer in ("mask_fcn1", "deconv", "predictor")
        for kind in ("weight", "bias")
    ]
    assert head.layers(torch.ones(2, 4, 7, 7)).shape == (2, 3, 14, 14)
    with torch.no_grad():
        head.predictor.weight.zero_()
    loss = head(torch.ones(1, 4, 2, 2), [masked_proposal()])["loss_mask"]
    assert_close(loss, torch.tensor(2 * LOG2))


@pytest.mark.embedded_only
def test_mask_head_errors():
    with pytest.raises(ValueError, match="conv_dims"):
        MaskRCNNConvUpsampleHead(SHAPE, num_classes=3, conv_dims=[])
    with pytest.raises(ValueError, match="square, not 2 x 3"):
        mask_rcnn_loss(torch.zeros(1, 1, 2, 3), [masked_proposal()])


# Keypoint head


def posed_proposal(visibility=(2, 0, 2)):
    """One visible keypoint in the lower left quarter, one unlabelled, one outside the proposal."""
    points = torch.tensor([[[0.5, 1.5, 0], [0.5, 0.5, 0], [3.0, 0.5, 0]]])
    points[0, :, 2] = torch.tensor(visibility)
    return Instances(
        (9, 9),
        proposal_boxes=squares(2),
        gt_classes=torch.tensor([0]),
        gt_keypoints=Keypoints(points),
    )


@pytest.mark.parametrize(("normalizer", "divisor"), [(None, 2), (4.0, 4)])
def test_keypoint_loss_counts_visible_keypoints_inside_alone(storage, normalizer, divisor):
    logits = torch.zeros(1, 3, 2, 2)
    logits[0, 0, 1, 0] = math.log(3)  # probability 3 / (3 + 3); of the second 1 / 4
    logits[0, 2] = torch.tensor([[0.0, 9.0], [9.0, 9.0]])
    empty = Instances((9, 9), proposal_boxes=Boxes(torch.zeros(0, 4)))
    batch = [posed_proposal((2, 1, 2)), empty]
    loss = keypoint_rcnn_loss(logits, batch, normalizer=normalizer)
    assert_close(loss, torch.tensor((LOG2 + math.log(4)) / divisor))


def test_keypoint_loss_leaves_unlabelled_keypoints_out(storage):
    logits = torch.zeros(1, 3, 2, 2)
    logits[0, 1:] = torch.tensor([[0.0, 9.0], [9.0, 9.0]])
    loss = keypoint_rcnn_loss(logits, [posed_proposal((2, 0, 2))], normalizer=None)
    assert_close(loss, torch.tensor(math.log(4)))


@pytest.mark.parametrize("rois", [0, 1])
def test_keypoint_loss_without_visible_keypoints_is_zero_with_a_gradient(storage, rois):
    logits = torch.randn(rois, 3, 2, 2, requires_grad=True)
    loss = keypoint_rcnn_loss(logits, [posed_proposal((0, 0, 2))[:rois]], normalizer=None)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad.abs().sum() == 0
    assert latest(storage)["kpts_num_skipped_batches"] >= 1


def test_keypoints_are_found_at_the_peaks():
    logits = torch.zeros(2, 1, 4, 4)
    logits[0, 0, 1, 2] = 8
    logits[1, 0, 3, 0] = 8
    boxes = torch.tensor([[10.0, 20, 14, 24], [0, 0, 4, 4]])
    detections = [Instances((50, 50), pred_boxes=Boxes(boxes[i : i + 1])) for i in range(2)]
    detections.insert(1, Instances((50, 50), pred_boxes=Boxes(torch.zeros(0, 4))))
    keypoint_rcnn_inference(logits, detections)
    score = math.exp(8) / (math.exp(8) + 15)
    assert_close(detections[0].pred_keypoints, torch.tensor([[[12.5, 21.5, score]]]))
    assert_close(detections[2].pred_keypoints, torch.tensor([[[0.5, 3.5, score]]]))
    assert detections[1].pred_keypoints.shape == (0, 1, 3)
    assert_close(detections[2].pred_keypoint_heatmaps, logits[1:])


def test_a_box_below_a_pixel_counts_as_one_pixel():
    logits = torch.zeros(2, 1, 4, 4)
    logits[:, 0, 1, 2] = 8
    boxes = torch.tensor([[10.0, 20, 10.25, 20.5], [7, 7, 7, 7]])
    detections = [Instances((50, 50), pred_boxes=Boxes(boxes))]
    keypoint_rcnn_inference(logits, detections)
    # In the middle of that pixel, whichever cell is the highest.
    assert detections[0].pred_keypoints[:, 0, :2].tolist() == [[10.5, 20.5], [7.5, 7.5]]


def test_keypoint_head_layers_and_normalizers(storage):
    cfg = get_cfg()
    cfg.MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS = [5, 6]
    cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS = 3
    cfg.MODEL.ROI_KEYPOINT_HEAD.LOSS_WEIGHT = 0.5
    by_count = KRCNNConvDeconvUpsampleHead(cfg, SHAPE)
    assert [name for name in by_count.state_dict() if "weight" in name] == [
        "conv_fcn1.weight",
        "conv_fcn2.weight",
        "score_lowres.weight",
    ]
    assert by_count.layers(torch.ones(2, 4, 14, 14)).shape == (2, 3, 56, 56)
    cfg.MODEL.ROI_KEYPOINT_HEAD.NORMALIZE_LOSS_BY_VISIBLE_KEYPOINTS = False
    cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 8
    cfg.MODEL.ROI_HEADS.POSITIVE_FRACTION = 0.25
    static = KRCNNConvDeconvUpsampleHead(cfg, SHAPE)
    static.load_state_dict(by_count.state_dict())
    features, images = torch.ones(2, 4, 1, 1), [posed_proposal()] * 2
    first, second = (head(features, images)["loss_keypoint"] for head in (by_count, static))
    # Two visible keypoints; against 3 keypoints of 2 RoIs in each of 2 images.
    assert_close(first * 2, second * 12)


@pytest.mark.embedded_only
def test_keypoint_head_refuses_an_unknown_normalizer():
    with pytest.raises(ValueError, match="'visible', not 'seen'"):
        KRCNNConvDeconvUpsampleHead(SHAPE, num_keypoints=3, conv_dims=[4], loss_normalizer="seen")


def test_proposals_without_a_visible_keypoint_inside_are_left_out(storage):
    batch = [posed_proposal(), posed_proposal((0, 0, 2)), Instances((9, 9))]
    batch[2].proposal_boxes = Boxes(torch.zeros(0, 4))
    kept = select_proposals_with_visible_keypoints(batch)
    assert [len(proposals) for proposals in kept] == [1, 0, 0]
    assert latest(storage) == {"keypoint_head/num_fg_samples": 0.5}


@pytest.mark.embedded_only
def test_no_foreground_anywhere_is_logged_as_zero_not_nan(storage):
    empty = Instances((9, 9), proposal_boxes=Boxes(torch.zeros(0, 4)))
    select_proposals_with_visible_keypoints([empty])
    assert latest(storage) == {"keypoint_head/num_fg_samples": 0}
