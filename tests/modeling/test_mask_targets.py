"""Targets of masks from bitmaps are those of Detectron2's RoIAlign."""

from maskrcnn_repro.modeling.mask_head import targets
from maskrcnn_repro.modeling.mask_head.targets import crop_bitmaps, mask_targets

import pytest
import torch
from detectron2.structures import BitMasks, Boxes, Instances
from torchvision.ops import roi_align

HEIGHT, WIDTH = 60, 70


def bitmap(*inside):
    """Return a (1, 6, 6) bitmap with these rows and columns of the object."""
    mask = torch.zeros(1, 6, 6, dtype=torch.bool)
    mask[0, inside[0], inside[1]] = True
    return mask


def random_rois(count, generator, *, dyadic=False):
    """Return noise as bitmaps, and boxes of which some lie beside the image or have no extent."""
    bitmaps = torch.rand(count, HEIGHT, WIDTH, generator=generator) < 0.5
    corners = torch.rand(count, 2, 2, generator=generator) * torch.tensor([WIDTH, HEIGHT]) * 1.6
    corners = corners.sort(dim=1).values - 12
    corners[::9, 1] = corners[::9, 0]
    if dyadic:
        corners = (corners * 2).round() / 2
    return bitmaps, corners.flatten(1)


def shares(bitmaps, boxes, side):
    """Return the share of each cell that is covered, by torchvision in double precision."""
    rois = torch.cat([torch.arange(len(boxes))[:, None], boxes.double()], dim=1)
    return roi_align(bitmaps[:, None].double(), rois, side, 1.0, -1, True)[:, 0]


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ([0.0, 0, 6, 6], [[1, 1, 0], [1, 1, 0], [0, 0, 0]]),  # two pixels a cell, as the object
        ([1.0, 1, 4, 4], [[1, 1, 1], [1, 1, 1], [1, 1, 1]]),  # within it
        ([1.0, 1, 7, 7], [[1, 1, 0], [1, 0, 0], [0, 0, 0]]),  # half and a quarter of a cell
        ([4.0, 4, 6, 6], [[0, 0, 0], [0, 0, 0], [0, 0, 0]]),  # beside it
        ([3.0, 3, 3, 3], [[0, 0, 0], [0, 0, 0], [0, 0, 0]]),  # no extent
    ],
)
def test_by_hand(box, expected):
    target = crop_bitmaps(bitmap(slice(0, 4), slice(0, 4)), torch.tensor([box]), 3)
    assert target[0].int().tolist() == expected


@pytest.mark.parametrize("dyadic", [False, True])
@pytest.mark.parametrize("side", [7, 14, 28])
def test_as_detectron2(side, dyadic):
    bitmaps, boxes = random_rois(60, torch.Generator().manual_seed(side), dyadic=dyadic)
    ours = crop_bitmaps(bitmaps, boxes, side)
    differ = ours != BitMasks(bitmaps).crop_and_resize(boxes, side)
    # The last bit of its sum decides about a cell that is covered by half.
    assert shares(bitmaps, boxes, side)[differ] == pytest.approx(0.5, abs=1e-6)
    assert differ.float().mean() < 1e-4
    assert 0.2 < ours.float().mean() < 0.6


def test_mixed_precision_changes_no_cell():
    bitmaps, boxes = random_rois(20, torch.Generator().manual_seed(1))
    with torch.autocast("cpu", torch.bfloat16):
        mixed = crop_bitmaps(bitmaps, boxes, 14)
    assert torch.equal(mixed, crop_bitmaps(bitmaps, boxes, 14))


def test_targets_of_all_images_in_order():
    bitmaps, boxes = random_rois(5, torch.Generator().manual_seed(0))
    images = []
    for part in (slice(0, 2), slice(2, 5)):
        image = Instances((HEIGHT, WIDTH))
        image.proposal_boxes, image.gt_masks = Boxes(boxes[part]), BitMasks(bitmaps[part])
        images.append(image)
    assert torch.equal(mask_targets(images, 14), crop_bitmaps(bitmaps, boxes, 14))


def test_masks_of_another_class_crop_themselves(monkeypatch):
    class Other(BitMasks):
        def crop_and_resize(self, boxes, mask_size):
            return torch.ones(len(boxes), mask_size, mask_size, dtype=torch.bool)

    monkeypatch.setattr(targets, "crop_bitmaps", None)
    image = Instances((6, 6))
    image.proposal_boxes, image.gt_masks = Boxes([[0.0, 0, 3, 3]]), Other(bitmap(0, 0))
    assert mask_targets([image], 2).all()


def test_without_rois():
    assert mask_targets([], 14).shape == (0, 14, 14)
    assert crop_bitmaps(torch.zeros(0, 5, 6, dtype=torch.bool), torch.zeros(0, 4), 14).shape == (
        (0, 14, 14)
    )
