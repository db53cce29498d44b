"""Box deltas and the losses on them, worked out by hand."""

import math

import maskrcnn_repro  # noqa: F401

import pytest
import torch
from detectron2.modeling.box_regression import (
    Box2BoxTransform,
    Box2BoxTransformLinear,
    _dense_box_regression_loss,
)
from detectron2.structures import Boxes
from torch.testing import assert_close


def test_deltas_by_hand():
    source, target = torch.tensor([[0.0, 0, 10, 20]]), torch.tensor([[10.0, 10, 30, 20]])
    # Centre (5, 10) to (20, 15): 15 of 10 and 5 of 20; size 10 x 20 to 20 x 10.
    expected = torch.tensor([[1.5, 0.25, math.log(2), -math.log(2)]])
    assert_close(Box2BoxTransform((1.0, 1.0, 1.0, 1.0)).get_deltas(source, target), expected)
    weighted = Box2BoxTransform((10.0, 20.0, 5.0, 4.0)).get_deltas(source, target)
    assert_close(weighted, expected * torch.tensor([10.0, 20.0, 5.0, 4.0]))


def test_linear_deltas_by_hand():
    source, target = torch.tensor([[0.0, 0, 10, 20]]), torch.tensor([[-1.0, 4, 8, 30]])
    plain, by_size = Box2BoxTransformLinear(False), Box2BoxTransformLinear()
    assert_close(plain.get_deltas(source, target), torch.tensor([[6.0, 6, 3, 20]]))
    assert_close(by_size.get_deltas(source, target), torch.tensor([[0.6, 0.3, 0.3, 1.0]]))
    assert_close(
        plain.apply_deltas(torch.tensor([[6.0, 6, -3, 20]]), source),
        torch.tensor([[-1.0, 4, 5, 30]]),
    )


@pytest.mark.parametrize(
    "transform", [Box2BoxTransform((10.0, 10.0, 5.0, 5.0)), Box2BoxTransformLinear()]
)
def test_deltas_lead_back(transform):
    source = torch.rand(50, 4) * 20 + torch.tensor([0.0, 0.0, 30.0, 30.0])
    target = torch.rand(50, 4) * 10 + torch.tensor([0.0, 0.0, 50.0, 50.0])
    assert_close(transform.apply_deltas(transform.get_deltas(source, target), source), target)


def test_class_specific_deltas_are_independent():
    transform = Box2BoxTransform((10.0, 10.0, 5.0, 5.0))
    deltas, boxes = torch.randn(7, 12), torch.rand(7, 4) + torch.tensor([0.0, 0.0, 2.0, 2.0])
    apart = [transform.apply_deltas(part, boxes) for part in deltas.split(4, dim=1)]
    assert_close(transform.apply_deltas(deltas, boxes), torch.cat(apart, dim=1))


def test_sizes_are_clamped():
    transform = Box2BoxTransform((1.0, 1.0, 1.0, 1.0))
    box = transform.apply_deltas(
        torch.tensor([[0.0, 0.0, 50.0, -1.0]]), torch.tensor([[0.0, 0, 16, 16]])
    )
    # 16 px wide becomes 1000 px at most; shrinking has no limit.
    height = 16 * math.exp(-1)
    assert_close(box, torch.tensor([[-492.0, 8 - height / 2, 508.0, 8 + height / 2]]))


def test_deltas_are_applied_in_float32():
    transform = Box2BoxTransform((1.0, 1.0, 1.0, 1.0))
    boxes = transform.apply_deltas(torch.zeros(1, 4).half(), torch.tensor([[0.1, 0.2, 999.3, 9.4]]))
    assert boxes.dtype == torch.float32
    assert_close(boxes, torch.tensor([[0.1, 0.2, 999.3, 9.4]]))


def test_deltas_of_16_bits_are_divided_in_float32():
    transform = Box2BoxTransform((10.0, 10.0, 5.0, 5.0))
    deltas = torch.tensor([[1.0, -3.0, 0.0, 0.0]]).bfloat16()
    # A tenth and three of 100 pixels; bfloat16 would make them 10.01 and 30.08.
    boxes = transform.apply_deltas(deltas, torch.tensor([[0.0, 0, 100, 100]]))
    assert_close(boxes, torch.tensor([[10.0, -30.0, 110.0, 70.0]]))


def test_no_boxes():
    transform = Box2BoxTransform((1.0, 1.0, 1.0, 1.0))
    assert transform.get_deltas(torch.zeros(0, 4), torch.zeros(0, 4)).shape == (0, 4)
    assert transform.apply_deltas(torch.zeros(0, 8), torch.zeros(0, 4)).shape == (0, 8)


@pytest.mark.embedded_only
def test_empty_source_box_is_named():
    boxes = torch.tensor([[0.0, 0, 1, 1], [3, 2, 3, 5]])
    with pytest.raises(ValueError, match=r"box 1 of the source boxes is empty: \[3.0, 2.0"):
        Box2BoxTransform((1.0, 1.0, 1.0, 1.0)).get_deltas(boxes, boxes)


def box_loss(kind="smooth_l1", beta=0.0, anchors=None):
    transform = Box2BoxTransform((1.0, 1.0, 1.0, 1.0))
    anchors = anchors or [Boxes(torch.tensor([[0.0, 0, 10, 10]])), Boxes([[0.0, 0, 20, 20]])]
    deltas = [torch.tensor([[[0.5, 0, 0, 0.0]]]), torch.tensor([[[9.0, 9, 9, 9]]])]
    gt = [torch.tensor([[0.0, 0, 10, 10], [0, 0, 5, 5]])]
    mask = torch.tensor([[True, False]])
    return _dense_box_regression_loss(anchors, transform, deltas, gt, mask, kind, beta)


def test_box_loss_by_hand():
    # One foreground anchor: its dx is 0.5 instead of 0. Smooth L1 with beta 1: 0.5^2 / 2.
    assert box_loss().item() == pytest.approx(0.5)
    assert box_loss(beta=1.0).item() == pytest.approx(0.125)
    # The box is 5..15 instead of 0..10: IoU 50/150, hull 150 (no waste), centres 5 px apart.
    diagonal = 15**2 + 10**2
    assert box_loss("giou").item() == pytest.approx(1 - 1 / 3)
    assert box_loss("diou").item() == pytest.approx(1 - 1 / 3 + 25 / diagonal)
    assert box_loss("ciou").item() == pytest.approx(1 - 1 / 3 + 25 / diagonal)


def test_box_loss_takes_tensors_as_anchors():
    tensors = [torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([[0.0, 0, 20, 20]])]
    assert box_loss(anchors=tensors).item() == pytest.approx(0.5)


def test_unknown_box_loss():
    with pytest.raises(ValueError, match="'l2'"):
        box_loss("l2")
