"""Layers: normalization, convolution, NMS, RoIAlign, pasting of masks."""

import maskrcnn_repro  # noqa: F401

import pytest
import torch
import torchvision
from detectron2.layers import (
    CNNBlockBase,
    Conv2d,
    FrozenBatchNorm2d,
    NaiveSyncBatchNorm,
    ROIAlign,
    ShapeSpec,
    batched_nms,
    cat,
    cross_entropy,
    get_norm,
    nonzero_tuple,
    paste_masks_in_image,
    shapes_to_tensor,
)
from detectron2.layers.batch_norm import LayerNorm
from torch import nn
from torch.testing import assert_close


def _filled_frozen_norm():
    norm = FrozenBatchNorm2d(1, eps=0.0)
    for name, value in {
        "weight": 3.0,
        "bias": 1.0,
        "running_mean": 2.0,
        "running_var": 4.0,
    }.items():
        getattr(norm, name).fill_(value)
    return norm


@pytest.mark.parametrize("needs_gradient", [False, True])
def test_frozen_norm_by_hand(needs_gradient):
    x = torch.tensor([6.0, 2.0]).reshape(1, 1, 1, 2).requires_grad_(needs_gradient)
    # (6 - 2) / sqrt(4) * 3 + 1 = 7
    assert _filled_frozen_norm()(x).flatten().tolist() == [7.0, 1.0]


def test_frozen_norm_starts_as_identity_and_has_no_parameters():
    norm, x = FrozenBatchNorm2d(3), torch.rand(2, 3, 4, 4)
    assert_close(norm(x), x)
    assert list(norm.parameters()) == []
    assert list(norm.state_dict()) == ["weight", "bias", "running_mean", "running_var"]


def test_frozen_norm_passes_the_gradient_on():
    x = torch.rand(1, 1, 2, 2, requires_grad=True)
    _filled_frozen_norm()(x).sum().backward()
    assert_close(x.grad, torch.full_like(x, 1.5))  # weight / sqrt(var)


def test_frozen_norm_loads_weights_without_statistics():
    norm = FrozenBatchNorm2d(2)
    norm.load_state_dict({"weight": torch.tensor([2.0, 3.0]), "bias": torch.zeros(2)})
    assert norm.weight.tolist() == [2.0, 3.0]
    assert norm.running_mean.tolist() == [0.0, 0.0]


def test_freezing_keeps_the_function():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.BatchNorm2d(4), nn.ReLU()))
    model(torch.rand(8, 3, 5, 5) * 3 + 1)  # moves the statistics
    x = torch.rand(2, 3, 5, 5)
    expected = model.eval()(x)
    frozen = FrozenBatchNorm2d.convert_frozen_batchnorm(model)
    assert frozen is model
    assert isinstance(model[1][0], FrozenBatchNorm2d)
    assert_close(model.train()(x), expected)  # no batch statistics any more


def test_a_block_can_be_frozen():
    class Block(CNNBlockBase):
        def __init__(self):
            super().__init__(3, 4, 2)
            self.conv = Conv2d(3, 4, 3, stride=2, norm=get_norm("BN", 4))

    block = Block()
    assert (block.in_channels, block.out_channels, block.stride) == (3, 4, 2)
    assert block.freeze() is block
    assert not any(parameter.requires_grad for parameter in block.parameters())
    assert isinstance(block.conv.norm, FrozenBatchNorm2d)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("BN", nn.BatchNorm2d),
        ("FrozenBN", FrozenBatchNorm2d),
        ("SyncBN", nn.SyncBatchNorm),
        ("nnSyncBN", nn.SyncBatchNorm),
        ("naiveSyncBN", NaiveSyncBatchNorm),
        ("naiveSyncBN_N", NaiveSyncBatchNorm),
        ("GN", nn.GroupNorm),
        ("LN", LayerNorm),
    ],
)
def test_norms_by_name(name, kind):
    assert type(get_norm(name, 64)) is kind


def test_no_norm_and_a_norm_of_ones_own():
    assert get_norm("", 4) is None
    assert get_norm(None, 4) is None
    assert get_norm(lambda channels: nn.GroupNorm(2, channels), 4).num_groups == 2
    with pytest.raises(KeyError, match="BatchNorm"):
        get_norm("BatchNorm", 4)


def test_naive_sync_norm_in_one_process_is_batch_norm():
    naive, plain, x = NaiveSyncBatchNorm(3), nn.BatchNorm2d(3), torch.rand(4, 3, 5, 5)
    assert_close(naive(x), plain(x))
    assert_close(naive.running_var, plain.running_var)


def test_layer_norm_is_over_channels_at_each_cell():
    x = torch.tensor([1.0, 3.0]).reshape(1, 2, 1, 1).expand(1, 2, 2, 3)
    expected = torch.tensor([-1.0, 1.0]).reshape(1, 2, 1, 1).expand_as(x)
    assert_close(LayerNorm(2)(x), expected, atol=1e-5, rtol=0)


def test_conv_applies_norm_then_activation():
    conv = Conv2d(1, 1, 1, bias=False, norm=_filled_frozen_norm(), activation=torch.relu)
    conv.weight.data.fill_(2.0)
    # 2 * 1 -> (2 - 2) / 2 * 3 + 1 = 1;  2 * -1 -> (-2 - 2) / 2 * 3 + 1 = -5 -> 0
    assert conv(torch.tensor([1.0, -1.0]).reshape(1, 1, 1, 2)).flatten().tolist() == [1.0, 0.0]
    assert set(conv.state_dict()) >= {"weight", "norm.weight", "norm.running_var"}


def test_conv_takes_an_empty_batch():
    conv = Conv2d(3, 5, 3, padding=1, norm=nn.BatchNorm2d(5), activation=torch.relu).eval()
    assert conv(torch.zeros(0, 3, 8, 9)).shape == (0, 5, 8, 9)


def test_cat_of_one_does_not_copy():
    x = torch.rand(2, 3)
    assert cat([x]) is x
    assert cat((x, x), dim=1).shape == (2, 6)
    with pytest.raises(AssertionError):
        cat(x)


def test_cross_entropy_of_nothing_is_zero_with_a_gradient():
    logits = torch.zeros(0, 5, requires_grad=True)
    loss = cross_entropy(logits, torch.zeros(0, dtype=torch.long))
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad.shape == (0, 5)


def test_cross_entropy_of_something_is_torchs():
    logits, target = torch.rand(4, 5), torch.tensor([0, 1, 4, 4])
    for reduction in ("mean", "sum", "none"):
        expected = nn.functional.cross_entropy(logits, target, reduction=reduction)
        assert_close(cross_entropy(logits, target, reduction=reduction), expected)


def test_small_helpers():
    rows, columns = nonzero_tuple(torch.tensor([[0, 1], [1, 0]]))
    assert (rows.tolist(), columns.tolist()) == ([0, 1], [1, 0])
    assert shapes_to_tensor([3, 4]).tolist() == [3, 4]
    assert ShapeSpec(channels=4, stride=8) == ShapeSpec(4, None, None, 8)


def test_nms_keeps_groups_apart():
    boxes = torch.tensor([[0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30], [0, 0, 10, 10]]).float()
    scores = torch.tensor([0.8, 0.9, 0.1, 0.7])
    one_group = batched_nms(boxes, scores, torch.zeros(4, dtype=torch.long), 0.5)
    two_groups = batched_nms(boxes, scores, torch.tensor([0, 0, 0, 1]), 0.5)
    assert one_group.tolist() == [1, 2]
    assert two_groups.tolist() == [1, 3, 2]
    assert batched_nms(boxes[:0], scores[:0], torch.zeros(0, dtype=torch.long), 0.5).tolist() == []


def test_nms_of_half_precision_boxes_far_out():
    boxes = torch.tensor([[60000, 60000, 60064, 60064]], dtype=torch.float16).repeat(2, 1)
    kept = batched_nms(boxes, torch.tensor([0.5, 0.6]), torch.tensor([0, 9]), 0.5)
    assert kept.tolist() == [1, 0]


def test_roi_align_of_a_ramp_is_the_centre_of_each_cell():
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)  # cell i has value i
    roi = torch.tensor([[0, 2.0, 2.0, 6.0, 6.0]])
    aligned = ROIAlign(2, 1.0, 2, aligned=True)(ramp, roi)[0, 0]
    shifted = ROIAlign(2, 1.0, 2, aligned=False)(ramp, roi)[0, 0]
    assert_close(aligned, torch.tensor([[2.5, 4.5], [2.5, 4.5]]))  # value i lies at i + 0.5
    assert_close(shifted, torch.tensor([[3.0, 5.0], [3.0, 5.0]]))  # value i lies at i


@pytest.mark.parametrize("scale", [0.25, 1.0])
@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize("size", [1, (3, 5)])
def test_roi_align_is_torchvisions(scale, ratio, size):
    features = torch.rand(2, 3, 9, 12)
    corners = torch.rand(5, 2) * 6
    index = torch.tensor([[0.0], [1], [1], [0], [1]])
    rois = torch.cat([index, corners, corners + torch.rand(5, 2) * 20], dim=1)
    expected = torchvision.ops.roi_align(features, rois, size, scale, ratio, aligned=True)
    assert_close(ROIAlign(size, scale, ratio)(features, rois), expected)


def test_roi_align_without_rois_and_with_a_wrong_shape():
    pool = ROIAlign((2, 2), 1.0, 0)
    assert pool(torch.rand(1, 3, 4, 4), torch.zeros(0, 5)).shape == (0, 3, 2, 2)
    with pytest.raises(AssertionError):
        pool(torch.rand(1, 3, 4, 4), torch.zeros(3, 4))


def test_a_full_mask_fills_its_box():
    pasted = paste_masks_in_image(torch.ones(1, 4, 4), torch.tensor([[1.0, 2.0, 5.0, 4.0]]), (6, 7))
    expected = torch.zeros(1, 6, 7, dtype=torch.bool)
    expected[:, 2:4, 1:5] = True
    assert_close(pasted, expected)


def test_a_mask_of_the_size_of_its_box_is_copied():
    mask = torch.rand(1, 5, 5)
    pasted = paste_masks_in_image(mask, torch.tensor([[2.0, 1.0, 7.0, 6.0]]), (8, 9), threshold=0.5)
    assert_close(pasted[0, 1:6, 2:7], mask[0] >= 0.5)
    assert pasted.sum() == (mask >= 0.5).sum()


def test_a_negative_threshold_keeps_the_values():
    box = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
    values = paste_masks_in_image(torch.full((1, 2, 2), 0.4), box, (2, 2), threshold=-1)
    assert values.dtype == torch.uint8
    assert values.unique().tolist() == [102]  # 0.4 * 255


def test_pasting_nothing_and_pasting_outside():
    assert paste_masks_in_image(torch.ones(0, 4, 4), torch.zeros(0, 4), (6, 7)).shape == (0, 6, 7)
    with pytest.raises(AssertionError):
        paste_masks_in_image(torch.ones(2, 4, 3), torch.zeros(2, 4), (6, 7))


@pytest.mark.embedded_only  # Detectron2 raises an error from inside torch
@pytest.mark.parametrize(
    "box", [[-9.0, -9.0, -3.0, -3.0], [20.0, 1.0, 25.0, 3.0], [1.0, 20.0, 2.0, 22.0]]
)
def test_a_box_outside_the_image_leaves_no_pixel(box):
    assert not paste_masks_in_image(torch.ones(1, 4, 4), torch.tensor([box]), (6, 7)).any()
