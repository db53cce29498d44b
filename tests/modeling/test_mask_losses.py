"""Mask losses: values by hand, equivalences, and the sentence for a loss that cannot be."""

import math

from maskrcnn_repro.config import get_config
from maskrcnn_repro.errors import ConfigError
from maskrcnn_repro.modeling.mask_head import MASK_LOSS_REGISTRY, MaskLoss, build_mask_loss
from maskrcnn_repro.modeling.mask_head.losses import (
    argmax_masks,
    sigmoid_loss,
    sigmoid_masks,
    softmax_loss,
    softmax_masks,
)

import pytest
import torch
from detectron2.config import CfgNode
from torch.testing import assert_close

from tests.helpers.roi_cases import LOG2

LEFT = torch.tensor([[[True, False], [True, False]]])  # the object covers the left column


def config(**mask_head: object) -> CfgNode:
    cfg = get_config()
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 3
    for key, value in mask_head.items():
        cfg.MODEL.ROI_MASK_HEAD[key] = value
    return cfg


def test_sigmoid_by_hand_reads_the_class_alone():
    own = torch.tensor([[0.0, 0.0], [2.0, -2.0]])
    logits = torch.stack([torch.full((2, 2), 50.0), own])[None].requires_grad_()
    loss = sigmoid_loss(logits, LEFT, torch.tensor([1]))
    # Two undecided pixels, and two right ones at distance 2.
    assert_close(loss, torch.tensor((2 * LOG2 + 2 * math.log1p(math.exp(-2))) / 4))
    loss.backward()
    assert logits.grad[0, 0].abs().max() == 0


def test_softmax_by_hand_asks_for_background_outside_the_object():
    # Channels: class 0, class 1, background; e to their powers are 1, 3, 1 at every pixel.
    logits = torch.tensor([0.0, math.log(3), 0.0])[None, :, None, None].expand(1, 3, 2, 2)
    inside, outside = -math.log(3 / 5), -math.log(1 / 5)
    loss = softmax_loss(logits, LEFT, torch.tensor([1]))
    assert_close(loss, torch.tensor((inside + outside) / 2))


def test_masks_by_hand():
    # Two RoIs with different classes and different pixels.
    logits = torch.zeros(2, 3, 1, 2)
    logits[0, 1, 0] = torch.tensor([math.log(2), 0.0])
    logits[1, 0, 0] = torch.tensor([0.0, math.log(2)])
    classes = torch.tensor([1, 0])
    assert_close(sigmoid_masks(logits, classes), torch.tensor([[[2 / 3, 0.5]], [[0.5, 2 / 3]]]))
    assert_close(softmax_masks(logits, classes), torch.tensor([[[0.5, 1 / 3]], [[1 / 3, 0.5]]]))
    logits[:, 2] = 0.5  # the background wins where no class is above
    assert_close(argmax_masks(logits, classes), torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]]))


@pytest.fixture
def many():
    """Logits of 3 classes, truth and classes of 5 RoIs."""
    return torch.randn(5, 3, 4, 4), torch.rand(5, 4, 4) < 0.5, torch.tensor([0, 2, 1, 2, 0])


def test_one_class_is_class_agnostic(many):
    logits, truth, classes = many
    assert_close(
        sigmoid_loss(logits[:, :1], truth, classes),
        sigmoid_loss(logits[:, :1], truth, torch.zeros_like(classes)),
    )
    assert_close(sigmoid_masks(logits[:, :1], classes), logits[:, 0].sigmoid())


def test_softmax_of_two_is_the_sigmoid_of_the_difference(many):
    logits, truth, _ = many
    only = torch.zeros(5, dtype=torch.long)
    difference = logits[:, :1] - logits[:, 1:2]
    assert_close(softmax_loss(logits[:, :2], truth, only), sigmoid_loss(difference, truth, only))
    assert_close(softmax_masks(logits[:, :2], only), sigmoid_masks(difference, only))


@pytest.mark.parametrize("loss", [sigmoid_loss, softmax_loss])
def test_relabelled_classes_give_the_same_loss(many, loss):
    logits, truth, classes = many
    classes = classes.clamp(max=1)  # channel 2 is the background of the softmax
    swapped = logits[:, [1, 0, 2]]
    assert_close(loss(logits, truth, classes), loss(swapped, truth, 1 - classes))


@pytest.mark.parametrize("loss", [sigmoid_loss, softmax_loss])
def test_gradient_by_differences(many, loss):
    logits, truth, classes = many
    logits = logits.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, truth, classes.clamp(max=1)), logits)


@pytest.mark.parametrize("masks", [sigmoid_masks, softmax_masks, argmax_masks])
def test_no_rois_have_no_masks(masks):
    assert masks(torch.zeros(0, 3, 4, 4), torch.zeros(0, dtype=torch.long)).shape == (0, 4, 4)


@pytest.mark.parametrize(
    ("keys", "channels", "masks"),
    [
        ({}, 3, sigmoid_masks),
        ({"CLS_AGNOSTIC_MASK": True}, 1, sigmoid_masks),
        ({"LOSS": "softmax"}, 4, softmax_masks),
        ({"LOSS": "softmax", "SOFTMAX_INFERENCE": "argmax"}, 4, argmax_masks),
    ],
)
def test_a_loss_is_built_from_its_keys(keys, channels, masks):
    built = build_mask_loss(config(**keys))
    assert (built.channels, built.masks) == (channels, masks)


@MASK_LOSS_REGISTRY.register()
def always_seven(cfg: CfgNode) -> MaskLoss:
    return MaskLoss(7, sigmoid_loss, sigmoid_masks)


@pytest.mark.parametrize(
    ("built", "message"),
    [
        (None, "'own' builds None; it must build a MaskLoss"),
        (MaskLoss(0, sigmoid_loss, sigmoid_masks), "'own' has 0 channels; "),
        (MaskLoss("2", sigmoid_loss, sigmoid_masks), "'own' has '2' channels; "),
    ],
)
def test_what_is_no_loss_is_named(monkeypatch, built, message):
    monkeypatch.setitem(MASK_LOSS_REGISTRY._obj_map, "own", lambda cfg: built)
    with pytest.raises(ConfigError, match=message):
        build_mask_loss(config(LOSS="own"))


def test_a_third_partys_loss_is_built_by_its_name():
    assert build_mask_loss(config(LOSS="always_seven")).channels == 7


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"LOSS": "sofmax"},
            r"LOSS 'sofmax' does not exist. Did you mean 'softmax'\? It may be .*sigmoid, softmax.",
        ),
        (
            {"LOSS": "softmax", "CLS_AGNOSTIC_MASK": True},
            "ROI_MASK_HEAD.LOSS 'softmax'.*ROI_MASK_HEAD.CLS_AGNOSTIC_MASK True",
        ),
        (
            {"LOSS": "softmax", "SOFTMAX_INFERENCE": "max"},
            "SOFTMAX_INFERENCE 'max' does not exist.*It may be argmax, probability.",
        ),
    ],
)
def test_messages(keys, message):
    with pytest.raises(ConfigError, match=message):
        build_mask_loss(config(**keys))
