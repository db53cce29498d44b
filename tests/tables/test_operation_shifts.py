"""How far an operation reads from the RoI as it was given, worked out by hand at stride 16."""

import maskrcnn_repro  # noqa: F401
from maskrcnn_repro.roi_ops import build_roi_op
from maskrcnn_repro.tables.report.exchange.shifts import bin_shifts, corner_shifts, round_boxes

import pytest
import torch

# In cells: 1.5, 2.25, 6.75, 8.5.
BOX = torch.tensor([[24.0, 36.0, 108.0, 136.0]])


def operation(name, bins=7, half_pixel=False):
    return build_roi_op(name, (bins, bins), 1 / 16, half_pixel=half_pixel)


@pytest.mark.parametrize("name", ["RoIPool", "RoIWarpAve"])
def test_corners_are_rounded_to_centres_of_cells(name):
    # Cells 2, 2, 7 and 9: moved by 8, -4, 4 and 8 pixels.
    assert round_boxes(operation(name), BOX).tolist() == [[32.0, 32.0, 112.0, 144.0]]
    assert corner_shifts(operation(name), BOX).tolist() == [6.0]


def test_the_bin_of_a_rounded_roi_lies_off_by_the_shift_of_its_centre():
    # One bin, of RoIWarp the rounded RoI: its centre moves by (8 + 4) / 2 and (-4 + 8) / 2 pixels.
    expected = (6.0**2 + 2.0**2) ** 0.5
    assert bin_shifts(operation("RoIWarpAve", 1), BOX).tolist() == pytest.approx([expected])
    # RoIPool's cells 2 to 7 and 2 to 9 have the same centre.
    assert bin_shifts(operation("RoIPool", 1), BOX).tolist() == pytest.approx([expected])


def test_two_bins_of_roi_pool_by_hand():
    # Along x cells 2 to 7, six for two bins: 2 to 4 and 5 to 7, centres 3 and 6; those of the RoI lie at
    # 1.5 + 5.25 / 4 and 1.5 + 3 * 5.25 / 4. Along y cells 2 to 9: centres 3.5 and 7.5, and 2.25 + 6.25 / 4, ....
    x = torch.tensor([3.0, 6.0]) - torch.tensor([1.5 + 5.25 / 4, 1.5 + 15.75 / 4])
    y = torch.tensor([3.5, 7.5]) - torch.tensor([2.25 + 6.25 / 4, 2.25 + 18.75 / 4])
    expected = 16 * (x[None] ** 2 + y[:, None] ** 2).sqrt().mean()
    assert bin_shifts(operation("RoIPool", 2), BOX).tolist() == pytest.approx([float(expected)])


@pytest.mark.parametrize("half_pixel", [False, True])
def test_roi_align_reads_the_roi_itself(half_pixel):
    align = operation("RoIAlignAve", half_pixel=half_pixel)
    assert round_boxes(align, BOX).tolist() == BOX.tolist()
    assert corner_shifts(align, BOX).tolist() == [0.0]
    assert bin_shifts(align, BOX).tolist() == pytest.approx([0.0], abs=1e-4)


def test_with_the_half_pixel_shift_roi_pool_rounds_to_the_cells_that_hold_the_corners():
    # Cells are counted from their edges: 1, 1.75, 6.25 and 8 with the shift, 1, 2, 6 and 8 rounded, half a cell further in
    # pixels.
    assert round_boxes(operation("RoIPool", half_pixel=True), BOX).tolist() == [
        [24.0, 40.0, 104.0, 136.0]
    ]


def test_without_boxes_there_are_no_shifts():
    none = BOX[:0]
    assert corner_shifts(operation("RoIPool"), none).shape == (0,)
    assert bin_shifts(operation("RoIAlignAve"), none).shape == (0,)
