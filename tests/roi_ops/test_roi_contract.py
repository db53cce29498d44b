"""What every RoI operation does with odd RoIs and maps, in every layout and dtype: nothing raises, all agree."""

import math

import maskrcnn_repro  # noqa: F401
from maskrcnn_repro.roi_ops import ROI_OP_REGISTRY, build_roi_op

import pytest
import torch
from torch.testing import assert_close

OPERATIONS = ["RoIPool", "RoIWarpMax", "RoIWarpAve", "RoIAlignMax", "RoIAlignAve"]
DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
LAYOUTS = ["channels-last", "contiguous", "contiguous by rows"]
WHOLE = (0, 0, 4, 4)
FINITE_ODD = {
    "no size": [(2, 2, 2, 2)],
    "reversed": [(4, 4, 2, 3)],
    "outside": [(90, 90, 95, 95), (-50, 1, -40, 4)],
    "huge": [(-4e10, -4e10, 4e10, 4e10), (1, 1, 1e30, 1e30), (-3e38, -3e38, 3e38, 3e38)],
    "beyond float32": [(0, 0, 1e300, 1e300), (-1e300, 1, 1e300, 3)],
}
EVERY = pytest.mark.parametrize("name", OPERATIONS)
EVERY_DTYPE = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype)[6:])


def every_layout(name, features, corners, monkeypatch, *, samples=2):
    """Return outputs and gradients of the features, by layout; RoIs are given in float64."""
    rois = torch.tensor([(0, *box) for box in corners], dtype=torch.float64).view(-1, 5)
    results = {}
    for layout in LAYOUTS:
        monkeypatch.setattr(
            ROI_OP_REGISTRY.get(name), "rows_pay", lambda *_, by=layout[10:]: by == " by rows"
        )
        last = layout == "channels-last"
        memory_format = torch.channels_last if last else torch.contiguous_format
        copied = features.clone(memory_format=memory_format).requires_grad_()
        out = build_roi_op(name, (2, 2), 1.0, samples=samples)(copied, rois)
        assert out.dtype == features.dtype
        assert out.shape == (len(rois), features.shape[1], 2, 2)
        out.sum().backward()
        assert copied.grad.shape == features.shape
        results[layout] = out.detach(), copied.grad
    return results


def ramp(dtype):
    """Columns plus ten times rows, (1, 2, 5, 6); no value is zero."""
    values = torch.arange(1.0, 7) + 10 * torch.arange(1.0, 6)[:, None]
    return torch.stack([values, -values])[None].to(dtype)


@EVERY
@EVERY_DTYPE
@pytest.mark.parametrize("kind", FINITE_ODD)
def test_finite_rois_give_finite_numbers_the_same_in_all_layouts(name, dtype, kind, monkeypatch):
    results = every_layout(name, ramp(dtype), [WHOLE, *FINITE_ODD[kind]], monkeypatch)
    expected = results["channels-last"]
    assert all(tensor.isfinite().all() for tensor in expected)
    assert expected[0][0].abs().min() > 0
    if kind == "outside":
        assert expected[0][1:].abs().max() == 0
    narrow = dtype.itemsize == 2
    for layout in LAYOUTS[1:]:
        out, grad = results[layout]
        assert_close(out, expected[0], rtol=2e-2 if narrow else 1e-5, atol=0)
        # Samples that 16 bits make equal: which one is the maximum differs.
        grads = [each.sum(dim=(2, 3)) if narrow else each for each in (grad, expected[1])]
        assert_close(*grads, rtol=2e-2 if narrow else 1e-5, atol=1e-6)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_roipool_of_a_huge_roi_splits_the_map_at_its_border_cells(layout, monkeypatch):
    # The middle of +-1e6 is cell 0, the border of the map: bins hold column 0 and row 0, and the rest with it.
    results = every_layout("RoIPool", ramp(torch.float32), FINITE_ODD["huge"][:1], monkeypatch)
    assert results[layout][0][0, 0].tolist() == [[11.0, 16.0], [51.0, 56.0]]


@EVERY
@EVERY_DTYPE
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_rois_that_are_not_finite_pool_to_zero(name, dtype, bad, monkeypatch):
    corners = [WHOLE, *((*WHOLE[:at], bad, *WHOLE[at + 1 :]) for at in range(4))]
    for out, grad in every_layout(name, ramp(dtype), corners, monkeypatch).values():
        assert out[0].abs().min() > 0
        assert out[1:].abs().max() == 0
        assert grad.isfinite().all()


@EVERY
@EVERY_DTYPE
@pytest.mark.parametrize(
    "shape",
    [(1, 0, 5, 6), (1, 2, 0, 6), (1, 2, 5, 0), (1, 2, 0, 0), (1, 0, 0, 0)],
    ids=["no channels", "no rows", "no columns", "no cells", "nothing"],
)
@pytest.mark.parametrize("boxes", [0, 1])
def test_maps_without_numbers_pool_to_zero(name, dtype, shape, boxes, monkeypatch):
    results = every_layout(name, torch.rand(shape, dtype=dtype), [WHOLE] * boxes, monkeypatch)
    assert all(out.abs().sum() == 0 for out, _ in results.values())


@EVERY
@EVERY_DTYPE
@pytest.mark.parametrize("images", [0, 2])
def test_no_rois_pool_to_nothing(name, dtype, images, monkeypatch):
    features = torch.rand(images, 2, 5, 6, dtype=dtype)
    for _, grad in every_layout(name, features, [], monkeypatch).values():
        assert grad.abs().sum() == 0


@EVERY
@EVERY_DTYPE
@pytest.mark.parametrize("odd", [math.nan, math.inf])
def test_numbers_of_the_map_that_are_not_finite_are_seen_where_they_are_read(
    name, dtype, odd, monkeypatch
):
    features = ramp(dtype)
    features[0, 0, 1, 1] = odd
    outside = (-20, -20, -10, -10)
    results = every_layout(name, features, [WHOLE, outside], monkeypatch)
    for out, _ in results.values():
        assert out[0, 0, 0, 0].item() == pytest.approx(odd, nan_ok=True)
        assert out[0, 1].isfinite().all()
        assert out[0, 0, 1].isfinite().all()
        assert out[1].abs().max() == 0


@pytest.mark.parametrize("name", OPERATIONS[1:])
@EVERY_DTYPE
def test_a_cell_with_the_weight_zero_is_not_read(name, dtype, monkeypatch):
    # One sample per bin, at columns and rows 1 and 3: cells 2 and 4 are their neighbours of weight 0. What
    # lies outside reads nothing: neither does it read cell 0.
    features = ramp(dtype)
    features[0, :, 2], features[0, :, :, 4], features[0, :, 0, 0] = math.nan, math.inf, math.nan
    results = every_layout(name, features, [WHOLE, (-20, 0, -10, 4)], monkeypatch, samples=1)
    for out, _ in results.values():
        assert out[0, 0].tolist() == [[22.0, 24.0], [42.0, 44.0]]
        assert out[1].abs().max() == 0


@EVERY
@EVERY_DTYPE
def test_a_roi_of_no_image_is_refused(name, dtype, monkeypatch):
    with pytest.raises(ValueError, match="images 0 to 0, but there are features of 0"):
        every_layout(name, torch.rand(0, 2, 5, 6, dtype=dtype), [WHOLE], monkeypatch)
