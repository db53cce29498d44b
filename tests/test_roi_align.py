"""RoIAlign as an embedding bag: values by hand, agreement with torchvision, edges."""

import itertools

import maskrcnn_repro  # noqa: F401
from maskrcnn_repro.roi_ops import bag_roi_align

import pytest
import torch
from torch.testing import assert_close
from torchvision.ops import roi_align


def test_average_over_a_ramp_is_the_bin_centre():
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)  # value = x, in feature cells
    roi = torch.tensor([[0, 2.0, 2.0, 6.0, 6.0]])
    out = bag_roi_align(ramp, roi, (2, 2), 1.0, 2)
    assert_close(out[0, 0], torch.tensor([[3.0, 5.0], [3.0, 5.0]]))


def test_the_shift_moves_the_samples_by_half_a_cell():
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)
    roi = torch.tensor([[0, 2.0, 2.0, 6.0, 6.0]])
    out = bag_roi_align(ramp, roi, (2, 2), 1.0, 2, aligned=True)
    assert_close(out[0, 0], torch.tensor([[2.5, 4.5], [2.5, 4.5]]))


def some_rois(count, images, size):
    generator = torch.Generator().manual_seed(1)
    corner = torch.rand(count, 2, generator=generator) * size * 1.4 - size * 0.2  # some lie outside
    side = torch.rand(count, 2, generator=generator) * size
    side[0] = 0.0
    index = torch.randint(0, images, (count, 1), generator=generator).float()
    return torch.cat([index, corner, corner + side], dim=1)


GRID = list(itertools.product([1, 7], [1, 2, 3], [False, True], [0.25, 1.0]))


@pytest.mark.parametrize(("cells", "samples", "aligned", "scale"), GRID)
def test_agrees_with_torchvision_forward_and_backward(cells, samples, aligned, scale):
    rois = some_rois(20, 2, 24 / scale)
    weights = torch.rand(20, 3, cells, cells)
    results = []
    for operation in (bag_roi_align, roi_align):
        torch.manual_seed(2)
        features = torch.rand(2, 3, 24, 17, requires_grad=True)
        out = operation(features, rois, (cells, cells), scale, samples, aligned)
        (out * weights).sum().backward()
        results.append((out.detach(), features.grad))
    assert_close(results[0], results[1], rtol=1e-4, atol=1e-5)


def test_gradient_by_differences():
    features = torch.rand(1, 2, 6, 5, dtype=torch.float64, requires_grad=True)
    rois = torch.tensor([[0, 0.3, 0.9, 4.2, 5.1]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: bag_roi_align(x, rois, (2, 2), 1.0, 2), features)


def test_no_rois_and_a_roi_far_outside():
    features = torch.rand(1, 4, 5, 5, requires_grad=True)
    assert bag_roi_align(features, torch.zeros(0, 5), (7, 7), 1.0, 2).shape == (0, 4, 7, 7)
    far = torch.tensor([[0, 90.0, 90.0, 95.0, 95.0]])
    assert bag_roi_align(features, far, (7, 7), 1.0, 2).abs().max() == 0


def test_message():
    with pytest.raises(ValueError, match="sampling_ratio is 0"):
        bag_roi_align(torch.rand(1, 1, 4, 4), torch.zeros(1, 5), (1, 1), 1.0, 0)
