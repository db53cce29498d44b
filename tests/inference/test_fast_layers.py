"""Layers of the fast path: folded batch norm, fused convolutions and their public fall-back, RoIAlign."""

from maskrcnn_repro.inference.fast.backbone import double_map
from maskrcnn_repro.inference.fast.fold import fold_norm, is_foldable
from maskrcnn_repro.inference.fast.layers import FusedConv, FusedLinear, has_fused_operators
from maskrcnn_repro.inference.fast.pooling import align
from maskrcnn_repro.inference.fast.winograd import WinogradConv, is_worthwhile
from maskrcnn_repro.roi_ops.rectangles import Bins

import pytest
import torch
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from torch import nn
from torch.nn import functional as F
from torchvision.ops import roi_align

WAYS = [pytest.param(False, id="public")]
if has_fused_operators():
    WAYS.append(pytest.param(True, id="onednn"))


def test_a_fold_worked_out_by_hand():
    conv = nn.Conv2d(1, 2, 1)
    norm = nn.BatchNorm2d(2, eps=0.75)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([3.0, 5.0]).view(2, 1, 1, 1))
        conv.bias.copy_(torch.tensor([1.0, 0.0]))
        norm.running_mean.copy_(torch.tensor([2.0, -1.0]))
        norm.running_var.copy_(torch.tensor([0.25, 3.25]))  # with eps 1 and 4: deviations 1 and 2
        norm.weight.copy_(torch.tensor([10.0, 4.0]))
        norm.bias.copy_(torch.tensor([0.5, 7.0]))
    weight, bias = fold_norm(conv, norm)
    # 10 * (3 x + 1 - 2) / 1 + 0.5 and 4 * (5 x + 1) / 2 + 7
    assert weight.flatten().tolist() == [30.0, 10.0]
    assert bias.tolist() == [-9.5, 9.0]


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, FrozenBatchNorm2d])
def test_a_fold_is_the_pair(norm):
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(4, 6, 3, bias=False), norm(6).eval()
    for name in ("weight", "bias", "running_mean", "running_var"):
        getattr(norm, name).data = torch.rand(6) + 0.5
    x = torch.randn(2, 4, 7, 8)
    torch.testing.assert_close(F.conv2d(x, *fold_norm(conv, norm)), norm(conv(x)))


def test_only_a_norm_that_is_the_same_for_all_images_is_folded():
    assert is_foldable(None)
    assert not is_foldable(nn.GroupNorm(2, 4))
    assert not is_foldable(nn.BatchNorm2d(4, track_running_stats=False))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("fused", WAYS)
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("relu", [True, False])
def test_a_fused_convolution_is_convolution_sum_and_relu(fused, dtype, groups, relu):
    if fused and not has_fused_operators(dtype):
        pytest.skip("This processor has no instructions for oneDNN's operators in bfloat16.")
    torch.manual_seed(0)
    window = {"stride": (2, 2), "padding": (2, 2), "dilation": (2, 2), "groups": groups}
    plain = Conv2d(32, 32, 3, **window)
    layer = FusedConv(
        plain.weight.detach(), plain.bias.detach(), relu=relu, dtype=dtype, fused=fused, **window
    )
    x, other = torch.randn(2, 32, 9, 7), torch.randn(2, 32, 5, 4)
    x, other = x.to(dtype), other.to(dtype, memory_format=torch.channels_last)
    end = F.relu if relu else nn.Identity()
    close = (
        {"rtol": 0.02, "atol": 0.03} if dtype == torch.bfloat16 else {"rtol": 1e-5, "atol": 1e-5}
    )
    with torch.inference_mode():
        alone, summed = end(plain(x.float())), end(plain(x.float()) + other.float())
        y = layer(x)
        torch.testing.assert_close(y.float(), alone, **close)
        assert y.dtype == dtype
        assert y.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(layer(x, other).float(), summed, **close)
        assert layer(x[:0]).shape == (0, 32, 5, 4)


@pytest.mark.parametrize("fused", WAYS)
def test_a_1x1_convolution_has_its_stride(fused):
    torch.manual_seed(0)
    plain, x = nn.Conv2d(5, 6, 1, stride=(2, 3)), torch.randn(1, 5, 7, 8)
    layer = FusedConv(plain.weight.detach(), plain.bias.detach(), stride=(2, 3), fused=fused)
    torch.testing.assert_close(layer(x), plain(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("fused", WAYS)
def test_a_fused_linear_layer_is_linear_and_relu(fused):
    torch.manual_seed(0)
    plain, x = nn.Linear(40, 30), torch.randn(5, 40)
    layer = FusedLinear(plain.weight.detach(), plain.bias.detach(), relu=True, fused=fused)
    torch.testing.assert_close(layer(x), plain(x).relu(), rtol=1e-5, atol=1e-5)
    assert layer(x[:0]).shape == (0, 30)


def test_a_doubled_map_has_each_cell_four_times():
    x = torch.arange(6.0).view(1, 1, 2, 3)
    assert torch.equal(double_map(x), F.interpolate(x, scale_factor=2))


@pytest.mark.parametrize("samples", [0, 1, 2])
@pytest.mark.parametrize("half_pixel", [True, False])
@pytest.mark.parametrize("step", [1, 2])
def test_pooled_rois_are_torchvisions(samples, half_pixel, step):
    torch.manual_seed(0)
    features = torch.randn(2, 8, 20, 30).to(memory_format=torch.channels_last)
    corner, size = torch.rand(60, 2) * 24 - 3, 10 * torch.rand(60, 2) ** 2
    size[0], size[1], size[2] = 0, torch.tensor([60.0, 0.3]), torch.tensor([30.0, 40.0])
    images = torch.arange(60.0)[:, None] % 2
    rois = torch.cat([images, corner, corner + size], dim=1)
    expected = roi_align(features, rois, (5, 4), 1.0, samples or -1, half_pixel)
    expected = expected[:, :, ::step, ::step]
    out = torch.empty(60, expected[0].numel())
    align(features, rois, Bins((5, 4), samples, half_pixel, step), out, torch.arange(60))
    pooled = out.view(60, *expected.shape[2:], 8).permute(0, 3, 1, 2)
    torch.testing.assert_close(pooled, expected, rtol=1e-4, atol=1e-5)


needs_onednn = pytest.mark.skipif(not has_fused_operators(), reason="torch without oneDNN")


@needs_onednn
def test_minimal_filtering_of_ones_counts_the_cells_of_a_window():
    layer = WinogradConv(torch.ones(1, 1, 3, 3), torch.ones(1))
    y = layer(torch.ones(1, 1, 5, 5))[0, 0]
    # Four cells in a corner, six at a border, nine within, and the bias.
    rows = [[5.0, 7, 7, 7, 5]] + [[7.0, 10, 10, 10, 7]] * 3 + [[5.0, 7, 7, 7, 5]]
    torch.testing.assert_close(y, torch.tensor(rows))


@needs_onednn
@pytest.mark.parametrize("size", [(1, 8, 12), (2, 33, 190), (40, 7, 6), (0, 8, 8)])
@pytest.mark.parametrize("relu", [True, False])
def test_minimal_filtering_is_convolution_sum_and_relu(size, relu):
    torch.manual_seed(0)
    count, height, width = size
    x = torch.randn(count, 16, height, width)
    weight, bias = torch.randn(24, 16, 3, 3) / 12, torch.randn(24)
    other = torch.randn(count, 24, height, width)
    expected = F.conv2d(x, weight, bias, padding=1)
    layer = WinogradConv(weight, bias, relu=relu)
    for plain, result in ((expected, layer(x)), (expected + other, layer(x, other.clone()))):
        torch.testing.assert_close(result, plain.relu() if relu else plain, atol=1e-4, rtol=0)


def test_minimal_filtering_is_for_wide_3x3_convolutions():
    assert is_worthwhile(nn.Conv2d(256, 256, 3, padding=1))
    for changes in ({"stride": 2}, {"dilation": 2}, {"groups": 2}, {"padding": 0}):
        assert not is_worthwhile(nn.Conv2d(256, 256, 3, **({"padding": 1} | changes)))
    assert not is_worthwhile(nn.Conv2d(128, 256, 3, padding=1))
