"""The keypoint head: its loss by hand, the same numbers as Detectron2's head, RoI heads with and without it."""

import math

from maskrcnn_repro.config import get_config
from maskrcnn_repro.errors import ConfigError
from maskrcnn_repro.modeling.keypoint_head import (
    FCNKeypointHead,
    heatmap_targets,
    keypoint_loss,
    predict_keypoints,
)

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_keypoint_head, build_roi_heads
from detectron2.modeling.roi_heads import KRCNNConvDeconvUpsampleHead
from detectron2.structures import BitMasks, Boxes, ImageList, Instances, Keypoints
from torch.testing import assert_close

LOG2 = math.log(2)
POOLED = ShapeSpec(channels=3, height=4, width=4)


def rois(count, keypoints, seed=0):
    """Random RoIs of one image of 90 x 90 pixels, each with keypoints in, at the edge and outside of it."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 40
    size = 5 + torch.rand(count, 2, generator=generator) * 40
    boxes = torch.cat([corner, corner + size], dim=1)
    place = torch.rand(count, keypoints, 2, generator=generator) * 1.4 - 0.2
    points = corner[:, None] + place * size[:, None]
    points[: count // 2, 0] = boxes[: count // 2, 2:]
    visibility = torch.randint(0, 3, (count, keypoints, 1), generator=generator)
    instances = Instances((90, 90), proposal_boxes=Boxes(boxes))
    if count:  # as Detectron2 has it, an image without ground truth has no such field
        instances.gt_keypoints = Keypoints(torch.cat([points, visibility], dim=2))
    return instances


def twins(keypoints, conv_dims, normalizer="visible"):
    """Our head and Detectron2's, with the same weights."""
    parts = {"num_keypoints": keypoints, "conv_dims": conv_dims, "loss_weight": 0.5}
    parts["loss_normalizer"] = normalizer
    ours, theirs = FCNKeypointHead(POOLED, **parts), KRCNNConvDeconvUpsampleHead(POOLED, **parts)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


# --- values by hand


@pytest.mark.parametrize(("normalizer", "divisor"), [(None, 2), (8.0, 8)])
def test_loss_by_hand(normalizer, divisor):
    logits = torch.zeros(1, 3, 2, 2)
    logits[0, 0, 1, 0] = math.log(3)  # probability 3 / 6 of the target; of the second's 1 / 4
    logits[0, 2, 0, 0] = -50.0  # does not count
    targets, visible = torch.tensor([[2, 1, 0]]), torch.tensor([[True, True, False]])
    loss = keypoint_loss(logits, targets, visible, normalizer)
    assert_close(loss, torch.tensor((LOG2 + math.log(4)) / divisor))


def test_targets_by_hand():
    # A RoI of 4 x 8 pixels at (10, 20) under a grid of 4 x 4 cells, each 1 x 2 pixels.
    points = [[10.0, 20, 2], [13.5, 25.9, 1], [14, 28, 2], [9.9, 21, 2], [12, 24, 0]]
    instances = Instances((50, 50), proposal_boxes=Boxes(torch.tensor([[10.0, 20, 14, 28]])))
    instances.gt_keypoints = Keypoints(torch.tensor([points]))
    targets, visible = heatmap_targets([instances], side=4)
    # The far corner belongs to the last cell; outside and not annotated do not count, hidden ones do.
    assert visible.tolist() == [[True, True, True, False, False]]
    assert targets[visible].tolist() == [0, 2 * 4 + 3, 15]


def test_head_of_the_paper():
    cfg = get_config()
    cfg.MODEL.ROI_KEYPOINT_HEAD.NAME = "FCNKeypointHead"
    with torch.device("meta"):
        head = build_keypoint_head(cfg, ShapeSpec(channels=256, height=14, width=14))
        heatmaps = head.layers(torch.zeros(2, 256, 14, 14))
    assert heatmaps.shape == (2, 17, 56, 56)
    assert [name for name in head.state_dict() if name.endswith("weight")] == [
        *(f"conv_fcn{i}.weight" for i in range(1, 9)),
        "score_lowres.weight",
    ]
    convs = 256 * 512 * 9 + 7 * 512 * 512 * 9 + 8 * 512
    assert sum(p.numel() for p in head.parameters()) == convs + 512 * 17 * 16 + 17


# --- equivalences


def test_loss_is_a_softmax_over_the_cells_of_each_keypoint_alone():
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    targets = torch.tensor([[0, 5, 15], [3, 3, 3]])
    visible = torch.tensor([[True, False, True], [False, False, True]])
    loss = keypoint_loss(logits, targets, visible)
    assert_close(keypoint_loss(logits + torch.randn(2, 3, 1, 1), targets, visible), loss)
    one_by_one = [
        -logits[r, k].flatten().log_softmax(0)[targets[r, k]] for r, k in visible.nonzero()
    ]
    assert_close(loss, sum(one_by_one) / 3)
    loss.backward()
    assert (logits.grad.abs().sum(dim=(2, 3)) > 0).equal(visible)


def test_predictions_invert_targets_to_half_a_cell():
    instances = rois(40, 5, seed=3)
    targets, visible = heatmap_targets([instances], side=56)
    # A hill around each target: a lone peak would fall between the pixels of a RoI below 56 pixels.
    cells = torch.arange(56.0)
    column, row = (targets % 56)[..., None] - cells, (targets // 56)[..., None] - cells
    logits = -(row[..., None] ** 2 + column[..., None, :] ** 2)
    predicted = predict_keypoints(logits, instances.proposal_boxes.tensor)[visible]
    truth = instances.gt_keypoints.tensor[visible]
    boxes = instances.proposal_boxes.tensor[:, None].expand(40, 5, 4)[visible]
    # Half a cell, and half a pixel of the image for the rounding of the result.
    limit = 0.5 * (boxes[:, 2:] - boxes[:, :2]) / 56 + 0.55
    assert visible.sum() > 40
    assert ((predicted[:, :2] - truth[:, :2]).abs() <= limit).all()


# --- agreement with Detectron2


@pytest.mark.parametrize("keypoints", [1, 17])
@pytest.mark.parametrize("conv_dims", [(), (5,), (6, 4, 6)])
@pytest.mark.parametrize("normalizer", ["visible", 24.0])
def test_losses_and_gradients_are_detectron2s(storage, keypoints, conv_dims, normalizer):
    ours, theirs = twins(keypoints, conv_dims, normalizer)
    batch = [rois(4, keypoints, 1), rois(0, keypoints), rois(3, keypoints, 2)]
    features = torch.randn(7, 3, 4, 4)
    losses = [head(features, batch)["loss_keypoint"] for head in (ours, theirs)]
    assert losses[0] > 0
    assert_close(losses[0], losses[1])
    gradients = [
        torch.autograd.grad(loss, [*h.parameters()])
        for loss, h in zip(losses, (ours, theirs), strict=True)
    ]
    assert_close(*gradients)


@pytest.mark.parametrize("keypoints", [1, 17])
def test_predictions_are_detectron2s(keypoints):
    heads = [head.eval() for head in twins(keypoints, (6,))]
    boxes = [rois(count, keypoints, count).proposal_boxes for count in (3, 0, 2)]
    features = torch.randn(5, 3, 4, 4)
    with torch.no_grad():
        outputs = [
            head(features, [Instances((90, 90), pred_boxes=b) for b in boxes]) for head in heads
        ]
    assert [instances.pred_keypoints.shape for instances in outputs[0]] == [
        (n, keypoints, 3) for n in (3, 0, 2)
    ]
    for ours, theirs in zip(*outputs, strict=True):
        assert_close(ours.pred_keypoints, theirs.pred_keypoints)
        assert_close(ours.pred_keypoint_heatmaps, theirs.pred_keypoint_heatmaps)


def test_half_precision_leaves_loss_and_places_in_float32(storage):
    head, _ = twins(5, (6,))
    batch, features = [rois(4, 5, 1)], torch.randn(4, 3, 4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        loss = head(features, batch)["loss_keypoint"]
        detections = [Instances((90, 90), pred_boxes=batch[0].proposal_boxes)]
        (detected,) = head.eval()(features, detections)
    assert loss.dtype == detected.pred_keypoints.dtype == torch.float32
    assert detected.pred_keypoint_heatmaps.dtype == torch.float32
    assert_close(loss, head.train()(features, batch)["loss_keypoint"], rtol=0.01, atol=0)


@pytest.mark.parametrize("by_visible", [True, False])
def test_config_means_what_it_means_to_detectron2(storage, by_visible):
    cfg = get_config()
    keys = cfg.MODEL.ROI_KEYPOINT_HEAD
    keys.CONV_DIMS, keys.NUM_KEYPOINTS, keys.LOSS_WEIGHT = (4, 5), 3, 0.25
    keys.NORMALIZE_LOSS_BY_VISIBLE_KEYPOINTS = by_visible
    cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 8
    heads = FCNKeypointHead(cfg, POOLED), KRCNNConvDeconvUpsampleHead(cfg, POOLED)
    heads[1].load_state_dict(heads[0].state_dict())
    features, batch = torch.randn(6, 3, 4, 4), [rois(4, 3, 5), rois(2, 3, 6)]
    assert_close(*(head(features, batch)["loss_keypoint"] for head in heads))


# --- inside RoI heads


@pytest.mark.parametrize(("masks", "keypoints"), [(False, True), (True, False), (True, True)])
def test_roi_heads_train_and_detect(storage, masks, keypoints):
    heads = build_roi_heads(tiny_config(masks, keypoints), {"p2": ShapeSpec(channels=6, stride=4)})
    images = ImageList(torch.zeros(2, 3, 64, 64), [(64, 64)] * 2)
    features = {"p2": torch.randn(2, 6, 16, 16)}
    proposals = [
        Instances((64, 64), proposal_boxes=Boxes(torch.tensor([[8.0, 8, 40, 56]]))) for _ in "ab"
    ]
    for image_proposals in proposals:
        image_proposals.objectness_logits = torch.zeros(1)
    _, losses = heads(images, features, proposals, [person(), person()[:0]])
    on = {"loss_mask": masks, "loss_keypoint": keypoints}
    assert {name for name in losses if name in on} == {name for name, is_on in on.items() if is_on}
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in heads.parameters())
    with torch.no_grad():
        (detected, _), _ = heads.eval()(images, features, proposals)
    assert len(detected) > 0
    assert detected.has("pred_masks") == masks
    assert detected.has("pred_keypoints") == keypoints
    if keypoints:
        assert detected.pred_keypoints.shape[1:] == (5, 3)


def tiny_config(masks, keypoints):
    cfg = get_config()
    cfg.MODEL.MASK_ON, cfg.MODEL.KEYPOINT_ON = masks, keypoints
    heads = cfg.MODEL.ROI_HEADS
    heads.NAME, heads.IN_FEATURES, heads.NUM_CLASSES = "StandardROIHeads", ["p2"], 1
    heads.SCORE_THRESH_TEST = 0.0
    cfg.MODEL.ROI_BOX_HEAD.NAME, cfg.MODEL.ROI_BOX_HEAD.FC_DIM = "FastRCNNConvFCHead", 8
    cfg.MODEL.ROI_BOX_HEAD.NUM_FC = 1
    cfg.MODEL.ROI_MASK_HEAD.CONV_DIM = 8
    head = cfg.MODEL.ROI_KEYPOINT_HEAD
    head.NAME, head.CONV_DIMS, head.NUM_KEYPOINTS = "FCNKeypointHead", (8, 8), 5
    return cfg


def person():
    mask = torch.zeros(1, 64, 64, dtype=torch.bool)
    mask[:, 8:56, 8:40] = True
    points = torch.tensor([[[20.0, 10, 2], [12, 30, 1], [38, 30, 2], [16, 55, 2], [0, 0, 0]]])
    return Instances(
        (64, 64),
        gt_boxes=Boxes(torch.tensor([[8.0, 8, 40, 56]])),
        gt_classes=torch.tensor([0]),
        gt_masks=BitMasks(mask),
        gt_keypoints=Keypoints(points),
    )


# --- nothing to learn from, and mistakes


def hidden(instances):
    instances.gt_keypoints.tensor[..., 2] = 0
    return instances


@pytest.mark.parametrize("batch", [[rois(0, 2)], [hidden(rois(3, 2)), rois(0, 2)]])
@pytest.mark.parametrize("normalizer", ["visible", 2.0])
def test_no_visible_keypoint_gives_zero_with_a_gradient(batch, normalizer):
    head, _ = twins(2, (4,), normalizer)
    loss = head(torch.randn(sum(map(len, batch)), 3, 4, 4), batch)["loss_keypoint"]
    loss.backward()
    assert loss.item() == 0
    assert all(p.grad is not None and not p.grad.any() for p in head.parameters())


@pytest.mark.parametrize("change", [{"num_keypoints": 0}, {"conv_dims": (8, 0)}])
def test_sizes_below_one_are_refused(change):
    with pytest.raises(ConfigError, match=r"NUM_KEYPOINTS \d and each of CONV_DIMS .* at least 1"):
        FCNKeypointHead(POOLED, **{"num_keypoints": 3, "conv_dims": (8,), **change})
