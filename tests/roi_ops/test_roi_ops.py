"""The RoI operations: values by hand, edges, and messages, by each way in which they are computed."""

import math

import maskrcnn_repro  # noqa: F401
from maskrcnn_repro.errors import ConfigError
from maskrcnn_repro.roi_ops import ROI_OP_REGISTRY, RoIOperation, build_roi_op, kernels

import pytest
import torch
from torch.testing import assert_close

OPERATIONS = ["RoIPool", "RoIWarpMax", "RoIWarpAve", "RoIAlignMax", "RoIAlignAve"]
AVERAGES = ["RoIWarpAve", "RoIAlignAve"]
EVERY = pytest.mark.parametrize("name", OPERATIONS)


@pytest.fixture(params=["channels-last", "contiguous", "contiguous by rows"])
def laid_out(request, monkeypatch):
    """A function that lays features out so that they are computed by rows, by torchvision, by rows copied."""
    rows = request.param == "contiguous by rows"
    for name in OPERATIONS:
        monkeypatch.setattr(ROI_OP_REGISTRY.get(name), "rows_pay", lambda *_: rows)
    last = request.param == "channels-last"
    memory_format = torch.channels_last if last else torch.contiguous_format

    def lay_out(features):
        copied = features.detach().clone(memory_format=memory_format)
        return copied.requires_grad_(features.requires_grad)

    return lay_out


def ramp(height=8, width=10, channels=3):
    """Features whose value is the column, in feature cells; channel c adds 100 c."""
    return (
        torch.arange(float(width)).expand(1, 1, height, width)
        + torch.arange(channels).view(1, -1, 1, 1) * 100
    )


def roi(*corners, image=0):
    return torch.tensor([[image, *corners]], dtype=torch.float32)


def columns_of(name, region, layout, cells=(1, 2), **settings):
    """Pool a ramp and return the last row of the first channel: columns of the map."""
    out = build_roi_op(name, cells, 1.0, **settings)(layout(ramp()), region)
    assert_close(out[0, 2], out[0, 0] + 200)
    return out[0, 0, -1].tolist()


def test_roialign_of_a_ramp_is_the_bin_centre(laid_out):
    assert columns_of("RoIAlignAve", roi(2, 2, 6, 6), laid_out) == [3.0, 5.0]
    assert columns_of("RoIAlignAve", roi(1.5, 2, 4.5, 6), laid_out) == [2.25, 3.75]


def test_the_maximum_of_a_ramp_is_the_last_sample(laid_out):
    # Bins 2..4 and 4..6 with samples at a quarter and three quarters.
    assert columns_of("RoIAlignMax", roi(2, 2, 6, 6), laid_out) == [3.5, 5.5]
    assert columns_of("RoIAlignMax", roi(2, 2, 6, 6), laid_out, samples=1) == [3.0, 5.0]


@pytest.mark.parametrize(("name", "expected"), [("RoIWarpAve", 4.0), ("RoIWarpMax", 4.5)])
def test_roiwarp_rounds_corners_and_no_bins(laid_out, name, expected):
    # 2.5 to 5.4 becomes 3 to 5: a half goes up.
    assert columns_of(name, roi(2.5, 2, 5.4, 6), laid_out, (1, 1)) == [expected]
    assert columns_of(name, roi(2.4, 2, 5.4, 6), laid_out, (1, 1))[0] == pytest.approx(
        3.5 if name == "RoIWarpAve" else 4.25
    )


def test_roipool_of_whole_cells(laid_out):
    cells = torch.arange(16.0).view(1, 1, 4, 4)
    pool = build_roi_op("RoIPool", (2, 2), 1.0)
    whole = pool(laid_out(cells), roi(0, 0, 3, 3))
    assert whole[0, 0].tolist() == [[5.0, 7.0], [13.0, 15.0]]
    # 3 x 3 cells for 2 x 2 bins: the middle ones belong to both. 2.4 and 2.6 round to 2 and 3.
    overlapping = pool(laid_out(cells), roi(0.6, 0.4, 2.6, 2.4))
    assert overlapping[0, 0].tolist() == [[6.0, 7.0], [10.0, 11.0]]


def test_roipool_rounds_negative_halves_away_from_zero(laid_out):
    # -0.5 becomes -1: of cells -1 to 2 each bin has two. From 0, the bins would be 0 to 1 and 1 to 2.
    assert columns_of("RoIPool", roi(-0.5, 2, 2, 6), laid_out) == [0.0, 2.0]


def test_roipool_of_a_corner_beyond_all_integers_reads_to_the_border():
    layout = ramp().to(memory_format=torch.channels_last)
    out = build_roi_op("RoIPool", (1, 1), 1.0)(layout, roi(0, 0, 1e30, 1e30))
    assert out.flatten().tolist() == [9.0, 109.0, 209.0]


@pytest.mark.parametrize(
    ("name", "cells"), [("RoIPool", [(1, 1), (1, 4), (4, 1), (4, 4)]), ("RoIAlignMax", [(2, 2)])]
)
def test_the_first_of_equal_values_takes_the_gradient(name, cells, laid_out):
    # RoIPool: bins of 3 x 3 cells; RoIAlignMax: samples at 2 and 4, the centres of cells.
    side, region = (2, roi(1, 1, 6, 6)) if name == "RoIPool" else (1, roi(1, 1, 5, 5))
    features = laid_out(torch.zeros(1, 2, 8, 8).requires_grad_())
    build_roi_op(name, (side, side), 1.0)(features, region).sum().backward()
    expected = torch.zeros(8, 8)
    for row, column in cells:
        expected[row, column] = 1.0
    assert_close(features.grad[0], expected.expand(2, 8, 8))


@pytest.mark.parametrize(
    ("name", "expected"),
    [("RoIAlignAve", [2.5, 4.5]), ("RoIWarpMax", [3.0, 5.0]), ("RoIPool", [3.0, 5.0])],
)
def test_the_half_pixel_shift(laid_out, name, expected):
    # RoIPool: 1.5 to 5.5 round to 2 and 6 without the shift, and cells 2 to 5 hold 2.0 to 5.9 with it.
    region = roi(2, 2, 5.9, 6) if name == "RoIPool" else roi(2, 2, 6, 6)
    assert columns_of(name, region, laid_out, half_pixel=True) == expected


def test_the_scale_and_other_shapes_of_output(laid_out):
    assert columns_of("RoIAlignAve", roi(2, 2, 6, 6), laid_out, (3, 4)) == [2.5, 3.5, 4.5, 5.5]
    out = build_roi_op("RoIAlignAve", (1, 2), 1 / 16)(laid_out(ramp()), roi(32, 32, 96, 96))
    assert out[0, 0].tolist() == [[3.0, 5.0]]


@EVERY
def test_sampling_points_are_what_is_read(name):
    """On maps whose values are the coordinates, averages and maxima of the points are the output."""
    operation = build_roi_op(name, (3, 2), 0.5, half_pixel=True)
    rois = torch.cat([roi(4.2, 5.1, 15, 13.3), roi(8, 3, 10, 12)])
    y, x = torch.meshgrid(torch.arange(10.0), torch.arange(12.0), indexing="ij")
    points = operation.sampling_points(rois)
    assert points.shape[:3] == (2, 3, 2)
    assert points.shape[4] == 2
    points = points.flatten(1, 2).permute(0, 3, 1, 2)
    read = points.nanmean(-1) if name in AVERAGES else points.nan_to_num(-math.inf).amax(-1)
    assert_close(operation(torch.stack([x, y])[None], rois), read.view(2, 2, 3, 2))


def test_sampling_points_by_hand():
    align = build_roi_op("RoIAlignAve", (1, 1), 1.0).sampling_points(roi(2, 4, 6, 8))
    assert align.tolist() == [[[[[3, 5], [5, 5], [3, 7], [5, 7]]]]]
    # 3 columns for 2 bins, 1 row.
    pool = build_roi_op("RoIPool", (1, 2), 1.0).sampling_points(roi(0, 4, 2, 4))
    assert pool.tolist() == [[[[[0, 4], [1, 4]], [[1, 4], [2, 4]]]]]
    assert build_roi_op("RoIPool", (1, 2), 1.0).sampling_points(roi()[:0].view(0, 5)).numel() == 0


@EVERY
def test_no_roi_keeps_the_graph(name, laid_out):
    features = laid_out(torch.rand(2, 4, 5, 5).requires_grad_())
    out = build_roi_op(name, (7, 7), 1.0)(features, torch.zeros(0, 5))
    assert out.shape == (0, 4, 7, 7)
    out.sum().backward()
    assert features.grad.abs().sum() == 0


@EVERY
def test_outside_the_map_is_zero(name, laid_out):
    far = torch.cat([roi(90, 90, 95, 95), roi(-50, 1, -40, 4), roi(1, 3e9, 4, 4e9)])
    out = build_roi_op(name, (2, 2), 1.0)(laid_out(torch.rand(1, 4, 5, 5) + 1), far)
    assert out.abs().max() == 0


@EVERY
def test_rois_of_no_size_and_reversed_ones(name, laid_out):
    rois = torch.cat([roi(2, 2, 2, 2), roi(4, 4, 2, 3)])
    out = build_roi_op(name, (2, 2), 1.0)(laid_out(ramp()), rois)
    # At least a cell: from 2 to 3 and from 4 to 5, or cells 2 and 4.
    assert out[:, 0].sub(torch.tensor([2.0, 4.0]).view(2, 1, 1)).abs().max() < 1
    assert out[0, 0, 0, 0] >= 2


@EVERY
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_roi_that_is_not_finite_gives_zeros(name, laid_out, bad):
    features = laid_out(torch.rand(1, 4, 6, 6).add(1).requires_grad_())
    rois = torch.cat([roi(1, 1, 5, 5), roi(1, bad, 4, 4), roi(1, 1, bad, 4)])
    out = build_roi_op(name, (2, 2), 1.0)(features, rois)
    assert out[0].min() >= 1
    assert out[1:].abs().max() == 0
    out.sum().backward()
    assert features.grad.isfinite().all()


@EVERY
def test_a_nan_of_the_map_stays_where_it_is_read(name, laid_out):
    features = torch.rand(1, 2, 12, 12).requires_grad_()
    features.data[0, 0, 1, 1] = math.nan
    features = laid_out(features)
    rois = torch.cat([roi(0, 0, 3, 3), roi(5, 5, 10, 10), roi(-20, -20, -10, -10)])
    out = build_roi_op(name, (1, 1), 1.0)(features, rois)
    out.sum().backward()
    assert out[:, 1].isfinite().all()
    assert out[1:].isfinite().all()
    if name in AVERAGES:
        assert out[0, 0].isnan().all()


@EVERY
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bits_are_near_32(name, laid_out, dtype):
    rois = torch.rand(20, 5) * torch.tensor([0.0, 500, 500, 500, 500])
    rois[:, 3:] += rois[:, 1:3]
    # Coordinates keep their 32 bits: 16 would move an RoI by cells.
    operation = build_roi_op(name, (3, 3), 1 / 16)
    weights = torch.rand(20, 8, 3, 3)
    results = []
    for kind in (torch.float32, dtype):
        torch.manual_seed(1)
        features = laid_out(torch.rand(1, 8, 64, 64).to(dtype).to(kind).requires_grad_())
        out = operation(features, rois)
        assert out.dtype == kind
        (out.float() * weights).sum().backward()
        results.append([out.detach().float(), features.grad.float()])
    assert_close(results[1][0], results[0][0], rtol=2e-2, atol=1e-2)
    # Equal values of 16 bits are more frequent than of 32, and change where a maximum's gradient goes.
    assert (results[1][1] - results[0][1]).abs().mean() < 5e-2 * results[0][1].abs().mean()


@EVERY
def test_gradients_of_many_chunks_are_summed_in_32_bits(name, laid_out, monkeypatch):
    monkeypatch.setattr(kernels, "CHUNK", 1)
    # One RoI per chunk. bfloat16 counts to 256 only; the sums themselves are rounded to it.
    features = laid_out(torch.ones(1, 2, 6, 6).bfloat16().requires_grad_())
    rois = roi(2, 2, 3, 3).repeat(300, 1)
    build_roi_op(name, (1, 1), 1.0)(features, rois).sum(dtype=torch.float32).backward()
    sums = features.grad.float().sum(dim=(0, 2, 3))
    assert sums.tolist() == pytest.approx([300, 300], rel=2**-8)


def test_the_gradient_of_a_large_bin_reaches_its_maximum_in_16_bits(laid_out):
    # Of 400 cells the second: bfloat16 cannot tell their numbers apart.
    features = torch.zeros(1, 2, 20, 20, dtype=torch.bfloat16)
    features[0, :, 0, 1] = 1.0
    features = laid_out(features.requires_grad_())
    build_roi_op("RoIPool", (1, 1), 1.0)(features, roi(0, 0, 19, 19)).sum().backward()
    assert torch.equal(features.grad, features.detach())


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_roi_of_no_image_is_seen_far_outside_the_first(bad):
    # On a GPU, and traced, indices are not checked: none may lead a kernel out of the maps.
    regions = build_roi_op("RoIAlignAve", (7, 7), 0.5).regions(
        torch.cat([roi(2, 4, 6, 8, image=bad), roi(2, 4, 6, 8, image=1)])
    )
    assert regions.tolist() == [[0.0, -1e6, -1e6, -1e6, -1e6], [1.0, 1.0, 2.0, 3.0, 4.0]]


@EVERY
def test_each_roi_reads_its_own_image(name, laid_out):
    features = torch.rand(3, 70, 9, 11)  # more channels than are copied at once
    rois = torch.cat([roi(1, 2, 7, 8, image=image) for image in (2, 0, 1, 2)])
    operation = build_roi_op(name, (3, 2), 1.0)
    together = operation(laid_out(features), rois)
    for image, out in zip((2, 0, 1, 2), together, strict=True):
        alone = operation(laid_out(features[image : image + 1]), roi(1, 2, 7, 8))
        assert_close(out, alone[0])


@EVERY
def test_the_output_lies_in_memory_as_the_features_do(name, laid_out):
    features = laid_out(torch.rand(2, 4, 9, 11).requires_grad_())
    out = build_roi_op(name, (3, 2), 1.0)(features, roi(1, 2, 7, 8).repeat(5, 1))
    out.backward(torch.rand_like(out))
    last = features.is_contiguous(memory_format=torch.channels_last)
    for tensor in (out, features.grad):
        assert tensor.is_contiguous(memory_format=torch.channels_last) == last
        assert tensor.is_contiguous() != last


def test_all_are_registered_and_an_unknown_one_is_named():
    assert set(OPERATIONS) <= {name for name, _ in ROI_OP_REGISTRY}
    with pytest.raises(ConfigError, match=r"'RoIAlingAve'.*Did you mean 'RoIAlignAve'.*RoIPool"):
        build_roi_op("RoIAlingAve", (7, 7), 1.0)


@pytest.mark.parametrize(
    "settings", [{"samples": 0}, {"samples": 16}, {"output_size": (0, 7)}, {"spatial_scale": 0.0}]
)
def test_settings_that_make_no_sense(settings):
    usual = {"output_size": (7, 7), "spatial_scale": 1.0}
    with pytest.raises(ConfigError, match=r"RoIAlignAve needs .*MODEL\.ROI_OP\.SAMPLES"):
        ROI_OP_REGISTRY.get("RoIAlignAve")(**usual | settings)


def test_arguments_that_do_not_fit():
    operation: RoIOperation = build_roi_op("RoIAlignAve", (7, 7), 1.0)
    with pytest.raises(ValueError, match=r"\(R, 5\), not .*\(3, 4\)"):
        operation(torch.rand(1, 2, 4, 4), torch.zeros(3, 4))
    with pytest.raises(ValueError, match="images 0 to 2, but there are features of 2"):
        operation(torch.rand(2, 2, 4, 4), torch.cat([roi(0, 0, 1, 1), roi(0, 0, 1, 1, image=2)]))
    with pytest.raises(ValueError, match="images nan to nan"):
        operation(torch.rand(2, 2, 4, 4), roi(0, 0, 1, 1, image=math.nan))


def test_settings_are_shown():
    assert "samples=3, half_pixel=True" in repr(
        build_roi_op("RoIAlignMax", (7, 7), 1 / 8, samples=3, half_pixel=True)
    )
