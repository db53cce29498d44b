"""Masks pasted straight to RLE: pixels by hand, Detectron2's pixels over a grid, memory; the container."""

import tracemalloc

from maskrcnn_repro import BACKEND
from maskrcnn_repro.modeling import paste
from maskrcnn_repro.modeling.paste import paste_to_rles
from maskrcnn_repro.modeling.rle import RLEMasks

import numpy as np
import pytest
import torch
from detectron2.layers import paste_masks_in_image
from detectron2.structures import Instances
from pycocotools import mask as coco_mask

WAYS = {"pixels": 1 << 30, "strips": 0}
"""Boxes with fewer pixels than this are sampled as a whole."""
MASKS = ("random", "binary", "flat", "full", "smooth", "nan")


def masks_of(kind, count, side):
    values = torch.rand(count, side, side)
    if kind == "binary":  # interpolated values of exactly 0.5 are many
        return (values > 0.5).float()
    if kind == "flat":  # all pixels are near the threshold
        return 0.5 + (values - 0.5) * 1e-6
    if kind == "full":
        return torch.ones_like(values)
    if kind == "nan":
        return torch.where(values < 0.1, torch.nan, values)
    return torch.sigmoid(8 * (values - 0.3)) if kind == "smooth" else values


def boxes_in(height, width, count):
    """Boxes of all sizes: the whole image, on pixels, between pixels, below a pixel, partly outside."""
    size = torch.tensor([width, height])
    centre = torch.rand(count, 2) * 1.2 * size - 0.1 * size
    half = (torch.rand(count, 2) ** 3 * 0.75 + 1e-3) * size
    boxes = torch.cat([centre - half, centre + half], dim=1)
    boxes[: count // 2] = boxes[: count // 2].clamp(min=0).minimum(size.repeat(2))
    boxes[0] = torch.tensor([0, 0, width, height])
    boxes[1] = torch.tensor([3.0, 4, 9, 9])
    boxes[2] = torch.tensor([3.0, 4, 3 + 1e-6, 9])
    boxes[3] = torch.tensor([5.0, 5, 5.0001, 5.0001])
    boxes[4] = torch.tensor([2.5, 0, 7.25, height])  # columns of full height follow each other
    inside = (boxes[:, 2:] > 1).all(dim=1) & (boxes[:, :2] < size - 1).all(dim=1)
    return boxes[inside & (boxes[:, 2:] > boxes[:, :2]).all(dim=1)]


def encoded(bitmaps):
    """COCO's own encoding of (R, H, W) bitmaps."""
    rles = [coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8)) for mask in bitmaps.numpy()]
    return [{"size": list(r["size"]), "counts": r["counts"].decode()} for r in rles]


@pytest.fixture(params=WAYS)
def _each_way(request, monkeypatch):
    monkeypatch.setattr(paste, "FEW", WAYS[request.param])


# --- values by hand


@pytest.mark.usefixtures("_each_way")
def test_one_cell_over_four_pixels_by_hand():
    # Pixel centres lie 3/8 and 1/8 of a cell off its centre: factors 5/8 and 7/8 on each axis. In the corners
    # 25/64 is below one half, at the edges 35/64 is above.
    rles = paste_to_rles(torch.ones(1, 1, 1), torch.tensor([[2.0, 1, 6, 5]]), (6, 7))
    assert rles[0].astype(int).tolist() == [
        [0, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 1, 1, 0, 0],
        [0, 0, 1, 1, 1, 1, 0],
        [0, 0, 1, 1, 1, 1, 0],
        [0, 0, 0, 1, 1, 0, 0],
        [0, 0, 0, 0, 0, 0, 0],
    ]
    [rle] = coco_mask.frPyObjects([{"size": [6, 7], "counts": [14, 2, 3, 4, 2, 4, 3, 2, 8]}], 6, 7)
    assert rles.rles == [{"size": [6, 7], "counts": rle["counts"].decode()}]


@pytest.mark.parametrize(("threshold", "pixels"), [(0.3, 24), (0.5, 12), (0.6, 4), (0.8, 0)])
def test_thresholds_by_hand(threshold, pixels):
    # 49/64 in the middle; one pixel outside of the box the factor is still 3/8, and 21/64 is above 0.3.
    rles = paste_to_rles(torch.ones(1, 1, 1), torch.tensor([[2.0, 1, 6, 5]]), (6, 7), threshold)
    assert rles[0].sum() == pixels


# --- agreement with Detectron2


@pytest.mark.usefixtures("_each_way")
@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("side", [1, 2, 14, 28])
def test_bytes_are_those_of_detectron2s_pixels(side, kind):
    for size in ((64, 80), (33, 17), (150, 220)):
        boxes = boxes_in(*size, 30)
        masks = masks_of(kind, len(boxes), side)
        expected = encoded(paste_masks_in_image(masks, boxes, size))
        assert paste_to_rles(masks, boxes, size).rles == expected


@pytest.mark.usefixtures("_each_way")
def test_blocks_of_columns_change_nothing(monkeypatch):
    boxes, masks = boxes_in(64, 80, 30), masks_of("smooth", 30, 28)
    masks = masks[: len(boxes)]
    whole = paste_to_rles(masks, boxes, (64, 80)).rles
    for pixels in (1, 200):
        monkeypatch.setattr(paste, "BLOCK", pixels)
        assert paste_to_rles(masks, boxes, (64, 80)).rles == whole


def test_memory_is_below_that_of_a_bitmap():
    size = (3000, 4000)
    row = torch.linspace(-1, 1, 28)
    masks = (1.3 - torch.hypot(row[:, None], row)).clamp(0, 1).expand(3, 28, 28)
    boxes = torch.tensor([[0.0, 0, 4000, 3000], [100, 50, 2000, 2900], [1, 1, 5, 9]])
    tracemalloc.start()
    paste_to_rles(masks, boxes, size)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < size[0] * size[1]


# --- the empty case

INF = float("inf")


@pytest.mark.parametrize(
    "box",
    [
        [3.0, 4, 3, 9],
        [5, 5, 2, 9],
        [-9, -9, -5, -5],
        [95, 3, 99, 7],
        [3, 90, 9, 99],
        [INF, 0, INF, 4],
    ],
)
def test_a_box_without_an_area_or_outside_has_an_empty_mask(box):
    rles = paste_to_rles(torch.ones(1, 14, 14), torch.tensor([box]), (64, 80))
    assert rles.rles == encoded(torch.zeros(1, 64, 80, dtype=torch.bool))


@pytest.mark.usefixtures("_each_way")
@pytest.mark.parametrize(
    "box",
    [
        [0.0, 0, INF, 5],
        [-INF, 0, 4, 4],
        [1, 2, 4, INF],
        pytest.param(
            [float("nan"), 0, 4, 4],
            marks=pytest.mark.skipif(
                BACKEND.name == "installed", reason="Detectron2 takes NaN for any integer"
            ),
        ),
        [-INF, -INF, INF, INF],
        pytest.param(
            [INF, 0, INF, 4],
            marks=pytest.mark.skipif(
                BACKEND.name == "installed",
                reason="Detectron2 begins at the lowest integer, and takes 24 GB for the pixels from there",
            ),
        ),
        [-3e38, -3e38, 3e38, 3e38],
        [-1e30, -1e30, 1e30, 1e30],
    ],
)
def test_pixels_of_a_box_without_ends_are_those_of_the_bitmap(box):
    masks, boxes = torch.ones(1, 14, 14), torch.tensor([box])
    expected = encoded(paste_masks_in_image(masks, boxes, (64, 80)))
    assert paste_to_rles(masks, boxes, (64, 80)).rles == expected


def test_no_masks():
    rles = paste_to_rles(torch.zeros(0, 28, 28), torch.zeros(0, 4), (64, 80))
    assert (len(rles), rles.to_bitmaps().shape) == (0, (0, 64, 80))
    assert list(rles) == []


# --- the container


@pytest.fixture
def bitmaps():
    return torch.rand(4, 5, 7) > 0.4


def test_it_is_indexed_as_a_tensor_is(bitmaps):
    masks = RLEMasks(encoded(bitmaps), (5, 7))
    assert len(masks) == 4
    assert torch.equal(masks.to_bitmaps(), bitmaps)
    assert (masks[-1] == bitmaps[-1].numpy()).all()
    assert masks[1].shape == (5, 7)
    for item in (
        slice(1, 3),
        torch.tensor([True, False, False, True]),
        torch.tensor([2, 0, 2]),
        [3, 1],
        [],
        np.array([False] * 4),
    ):
        assert torch.equal(masks[item].to_bitmaps(), bitmaps[item])
    for mask, expected in zip(masks, bitmaps, strict=True):
        assert (mask == expected.numpy()).all()
    assert (np.asarray(masks) == bitmaps.numpy()).all()
    assert masks.to("cpu") is masks
    assert str(masks) == "RLEMasks(4 masks of 5 x 7 pixels)"
    with pytest.raises(IndexError):
        masks[4]


def test_instances_take_it_as_a_field(bitmaps):
    instances = Instances(
        (5, 7), scores=torch.arange(4.0), pred_masks=RLEMasks(encoded(bitmaps), (5, 7))
    )
    kept = instances[instances.scores > 1].to("cpu")
    assert torch.equal(kept.pred_masks.to_bitmaps(), bitmaps[2:])
    assert torch.equal(instances[1].pred_masks.to_bitmaps(), bitmaps[1:2])
    twice = Instances.cat([instances, kept])
    assert torch.equal(twice.pred_masks.to_bitmaps(), torch.cat([bitmaps, bitmaps[2:]]))


def test_masks_of_another_size_are_refused(bitmaps):
    rles = encoded(bitmaps) + encoded(torch.zeros(1, 7, 5))
    with pytest.raises(ValueError, match=r"RLE 4 has the size \(7, 5\), not \(5, 7\)"):
        RLEMasks(rles, (5, 7))
