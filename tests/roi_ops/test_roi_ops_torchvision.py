"""The RoI operations against torchvision, over a grid of settings, and against differences."""

import itertools

import maskrcnn_repro  # noqa: F401
from maskrcnn_repro.roi_ops import ROI_OP_REGISTRY, build_roi_op, kernels

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close
from torchvision.ops import roi_align, roi_pool

HEIGHT, WIDTH, CHANNELS = 24, 17, 6
SIZES = [(1, 1), (7, 7), (3, 5)]
SCALES = [0.25, 1.0]


def some_rois(count, images, scale):
    """RoIs inside, across and outside of the border, some smaller than a cell, one of no size."""
    corner = torch.rand(count, 2) * torch.tensor([WIDTH, HEIGHT]) * 1.5 - 4
    side = torch.rand(count, 2) ** 2 * torch.tensor([WIDTH, HEIGHT])
    side[0] = 0.0
    index = torch.randint(0, images, (count, 1)).float()
    return torch.cat([index, torch.cat([corner, corner + side], dim=1) / scale], dim=1)


def rounded(rois, scale):
    return torch.cat([rois[:, :1], (rois[:, 1:] * scale + 0.5).floor()], dim=1)


def reference(name, features, rois, size, scale, samples, half_pixel):
    """What the operation is, in torchvision's terms; the maxima by twice as many bins of one sample."""
    if name == "RoIPool":
        shift = torch.tensor([0.0, 0.5, 0.5, 0.5, 0.5]) / scale * half_pixel
        return roi_pool(features, rois - shift, size, scale)
    if name.startswith("RoIWarp"):
        rois, scale = rounded(rois, scale), 1.0
    if name.endswith("Ave"):
        return roi_align(features, rois, size, scale, samples, half_pixel)
    fine = (size[0] * samples, size[1] * samples)
    return F.max_pool2d(roi_align(features, rois, fine, scale, 1, half_pixel), samples)


def results(operation, features, rois):
    """Return the output and the gradient of the features for some gradient of the output."""
    features = features.detach().requires_grad_()
    out = operation(features, rois)
    weights = torch.linspace(-1, 2, out.numel()).view(out.shape)
    (out * weights).sum().backward()
    return out.detach(), features.grad


GRID = [
    pytest.param(name, *rest, id="-".join(map(str, (name, *rest))))
    for name in ("RoIPool", "RoIWarpMax", "RoIWarpAve", "RoIAlignMax", "RoIAlignAve")
    for rest in itertools.product(SIZES, SCALES, [1, 2, 3], [False, True])
    if not (name == "RoIPool" and rest[2] > 1)
]


@pytest.mark.parametrize(("name", "size", "scale", "samples", "half_pixel"), GRID)
def test_agrees_with_torchvision(monkeypatch, name, size, scale, samples, half_pixel):
    features, rois = torch.randn(2, CHANNELS, HEIGHT, WIDTH), some_rois(30, 2, scale)
    # Rounded and moved by half a cell, points fall on cells and on the border of what is read: there
    # rounding errors choose among equal samples, and between the border's value and zero.
    ties = name == "RoIWarpMax" and half_pixel
    if ties:
        rois[:, 1:] = rois[:, 1:].clamp(1 / scale, (WIDTH - 2) / scale)
    operation = build_roi_op(name, size, scale, samples=samples, half_pixel=half_pixel)
    expected = results(
        lambda x, r: reference(name, x, r, size, scale, samples, half_pixel), features, rois
    )
    last = features.to(memory_format=torch.channels_last)
    assert_same(results(operation, last, rois), expected, ties)
    assert_same(results(operation, features, rois), expected, ties)
    monkeypatch.setattr(ROI_OP_REGISTRY.get(name), "rows_pay", lambda *_: True)
    assert_same(results(operation, features, rois), expected, ties)


def assert_same(actual, expected, ties):
    if ties:
        actual, expected = ((out, grad.sum(dim=(2, 3))) for out, grad in (actual, expected))
    assert_close(tuple(actual), tuple(expected), rtol=1e-4, atol=1e-4 if ties else 1e-5)


@pytest.mark.parametrize("samples", [2, 3])
def test_average_and_maximum_of_the_grid_of_samples(samples):
    """P bins of S x S samples are S P bins of one sample, pooled (exactly as in the paper's footnote)."""
    features = torch.randn(1, 3, 20, 20, dtype=torch.float64)
    features = features.to(memory_format=torch.channels_last)
    rois = torch.tensor([[0, 1.3, 2.2, 17.9, 14.1], [0, 5.0, 5.0, 9.5, 18.0]], dtype=torch.float64)
    fine = build_roi_op("RoIAlignAve", (7 * samples, 7 * samples), 1.0, samples=1)(features, rois)
    average = build_roi_op("RoIAlignAve", (7, 7), 1.0, samples=samples)(features, rois)
    maximum = build_roi_op("RoIAlignMax", (7, 7), 1.0, samples=samples)(features, rois)
    assert_close(average, F.avg_pool2d(fine, samples), rtol=0, atol=1e-13)
    assert_close(maximum, F.max_pool2d(fine, samples), rtol=0, atol=1e-13)


def test_roiwarp_is_roialign_of_rounded_corners():
    features = torch.randn(1, 3, 20, 20).to(memory_format=torch.channels_last)
    rois = torch.tensor([[0, 21.0, 35.0, 140.0, 231.0], [0, 24.0, 40.0, 72.0, 88.0]])
    for kind in ("Ave", "Max"):
        warp = build_roi_op(f"RoIWarp{kind}", (7, 7), 1 / 16)(features, rois)
        align = build_roi_op(f"RoIAlign{kind}", (7, 7), 1.0)(features, rounded(rois, 1 / 16))
        assert_close(warp, align, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["RoIPool", "RoIWarpMax", "RoIAlignMax", "RoIAlignAve"])
@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_gradient_by_differences(name, memory_format):
    features = torch.rand(2, 2, 6, 5, dtype=torch.float64).to(memory_format=memory_format)
    rois = torch.tensor(
        [[0, 0.3, 0.9, 4.2, 5.1], [1, -1, 2, 3, 9], [1, 1, 1, 1, 1]], dtype=torch.float64
    )
    operation = build_roi_op(name, (2, 2), 1.0)
    assert torch.autograd.gradcheck(lambda x: operation(x, rois), features.requires_grad_())


@pytest.mark.parametrize("name", ["RoIPool", "RoIWarpMax", "RoIAlignAve"])
def test_large_rois_and_many_go_through_several_chunks(monkeypatch, name):
    monkeypatch.setattr(kernels, "CHUNK", 64)
    monkeypatch.setattr(kernels, "BLOCK", 4)
    features, rois = torch.randn(2, CHANNELS, HEIGHT, WIDTH), some_rois(12, 2, 1.0)
    features = features.to(memory_format=torch.channels_last)
    expected = results(lambda x, r: reference(name, x, r, (3, 3), 1.0, 2, False), features, rois)
    operation = build_roi_op(name, (3, 3), 1.0)
    assert_close(results(operation, features, rois), expected, rtol=1e-4, atol=1e-5)
    assert_close(operation(features, rois), expected[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_ties_of_roipool_go_to_torchvisions_cell(monkeypatch, dtype, memory_format):
    """Values from -1 to 1 in whole steps: nearly every bin has several largest cells, and one takes the gradient."""
    monkeypatch.setattr(ROI_OP_REGISTRY.get("RoIPool"), "rows_pay", lambda *_: True)
    features = torch.randint(-1, 2, (2, CHANNELS, HEIGHT, WIDTH)).to(dtype)
    outside = torch.tensor([[1.0, -40, -40, -20, -20], [0, 90, 90, 99, 99]])
    rois = torch.cat([outside, some_rois(40, 2, 0.5)]).to(dtype)
    for size in SIZES:
        expected = results(lambda x, r, size=size: roi_pool(x, r, size, 0.5), features, rois)
        given = features.to(memory_format=memory_format)
        actual = results(build_roi_op("RoIPool", size, 0.5), given, rois)
        assert torch.equal(actual[0], expected[0])
        assert not actual[0][:2].any()
        # Sums in another order; a gradient at another cell would differ by far more.
        assert_close(actual[1], expected[1], rtol=1e-5, atol=1e-4)
        with torch.no_grad():
            assert torch.equal(build_roi_op("RoIPool", size, 0.5)(given, rois), expected[0])


@pytest.mark.parametrize("name", ["RoIPool", "RoIAlignMax"])
def test_of_equal_values_one_takes_the_gradient(name):
    """Half of a map after ReLU is zero: the gradient of a maximum must not be counted twice."""
    features = torch.zeros(1, 2, 8, 8).to(memory_format=torch.channels_last).requires_grad_()
    rois = torch.tensor([[0, 1.0, 1.0, 6.0, 6.0]])
    build_roi_op(name, (2, 2), 1.0)(features, rois).sum().backward()
    assert features.grad.sum(dim=(2, 3)).tolist() == [[4.0, 4.0]]


@pytest.mark.parametrize("name", ["RoIPool", "RoIAlignMax", "RoIAlignAve"])
def test_exported_it_is_torchvisions(name):
    features = torch.rand(1, 2, 8, 8).to(memory_format=torch.channels_last)
    rois = torch.tensor([[0, 1.0, 1.0, 6.0, 6.0], [0, 2.0, 1.0, 7.0, 5.0]])
    operation = build_roi_op(name, (2, 2), 1.0)
    exported = torch.export.export(operation, (features, rois))
    assert f"torchvision.roi_{'pool' if name == 'RoIPool' else 'align'}" in str(exported.graph)
    assert_close(exported.module()(features, rois), operation(features, rois))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize(
    "name", ["RoIPool", "RoIWarpMax", "RoIWarpAve", "RoIAlignMax", "RoIAlignAve"]
)
@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_a_gpu_gives_the_same(name, memory_format):
    features = torch.randn(2, CHANNELS, HEIGHT, WIDTH).to(memory_format=memory_format)
    rois, operation = some_rois(30, 2, 0.25), build_roi_op(name, (7, 7), 0.25)
    there = [tensor.cpu() for tensor in results(operation, features.cuda(), rois.cuda())]
    assert_close(there, list(results(operation, features, rois)), rtol=1e-4, atol=1e-4)
    half = operation(features.cuda().bfloat16(), rois.cuda())
    assert half.dtype == torch.bfloat16
    assert_close(half.cpu().float(), operation(features, rois), rtol=2e-2, atol=2e-2)
