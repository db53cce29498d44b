"""Structures: keypoints and masks."""

import maskrcnn_repro  # noqa: F401

import numpy as np
import pytest
import torch
import torchvision
from detectron2.structures import (
    BitMasks,
    Boxes,
    Keypoints,
    PolygonMasks,
    ROIMasks,
    heatmaps_to_keypoints,
    polygons_to_bitmask,
)
from detectron2.structures.masks import polygon_area, rasterize_polygons_within_box
from torch.testing import assert_close

SQUARE = [1.0, 2, 4, 2, 4, 5, 1, 5]
"""Polygon of the box 1, 2, 4, 5."""


# Keypoints


def test_keypoints_become_cells_of_their_box():
    keypoints = Keypoints([[[10, 20, 2], [14.9, 29.9, 1], [15, 30, 2], [9.9, 20, 2], [12, 22, 0]]])
    cells, valid = keypoints.to_heatmap(torch.tensor([[10.0, 20, 15, 30]]), 5)
    # Upper left cell, lower right cell, the corner itself, outside, not annotated.
    assert cells.tolist() == [[0, 24, 24, 0, 0]]
    assert valid.tolist() == [[1, 1, 1, 0, 0]]


def test_the_peak_of_a_heatmap_is_found_in_image_coordinates():
    maps = torch.zeros(1, 1, 4, 4)
    maps[0, 0, 2, 1] = 10
    x, y, logit, score = heatmaps_to_keypoints(maps, torch.tensor([[100.0, 50, 104, 54]]))[
        0, 0
    ].tolist()
    assert (x, y) == (101.5, 52.5)
    assert logit == 10
    assert score == pytest.approx(1 / (1 + 15 * np.exp(-10)), rel=1e-5)


def test_targets_and_predictions_of_keypoints_agree():
    box = torch.tensor([[3.0, 4, 59, 60]])  # 56 pixels, as many as cells
    keypoints = Keypoints(torch.tensor([[[10.5, 20.5, 2], [58.5, 59.5, 2]]]))
    cells, _ = keypoints.to_heatmap(box, 56)
    maps = torch.nn.functional.one_hot(cells, 56 * 56).reshape(1, 2, 56, 56) * 20.0
    assert_close(heatmaps_to_keypoints(maps, box)[..., :2], keypoints.tensor[..., :2])


def test_keypoints_of_nobody():
    cells, valid = Keypoints(torch.zeros(0, 17, 3)).to_heatmap(torch.zeros(0, 4), 56)
    assert cells.numel() == valid.numel() == 0
    assert heatmaps_to_keypoints(torch.zeros(0, 17, 56, 56), torch.zeros(0, 4)).shape == (0, 17, 4)
    with pytest.raises(AssertionError):
        Keypoints(torch.zeros(2, 3))


def test_selecting_and_joining_keypoints():
    keypoints = Keypoints(torch.rand(3, 2, 3))
    assert_close(keypoints[torch.tensor([2, 0])].tensor, keypoints.tensor[[2, 0]])
    assert_close(Keypoints.cat([keypoints, keypoints[:1]]).tensor, keypoints.tensor[[0, 1, 2, 0]])


# Masks


def test_a_polygon_covers_its_pixels():
    mask = polygons_to_bitmask([np.array(SQUARE)], 6, 7)
    expected = np.zeros((6, 7), dtype=bool)
    expected[2:5, 1:4] = True
    assert (mask == expected).all()
    assert not polygons_to_bitmask([], 6, 7).any()


def test_area_of_polygons():
    assert polygon_area(np.array([0, 4, 0]), np.array([0, 0, 3])) == 6
    masks = PolygonMasks([[np.array(SQUARE)], [np.array(SQUARE), np.array([0, 0, 4, 0, 0, 3])]])
    assert masks.area().tolist() == [9, 15]


def test_boxes_of_masks():
    polygons = PolygonMasks([[np.array(SQUARE)]])
    assert polygons.get_bounding_boxes().tensor.tolist() == [[1, 2, 4, 5]]
    bitmaps = BitMasks.from_polygon_masks(polygons, 6, 7)
    assert bitmaps.get_bounding_boxes().tensor.tolist() == [[1, 2, 4, 5]]
    assert BitMasks(torch.zeros(1, 6, 7)).get_bounding_boxes().tensor.tolist() == [[0, 0, 0, 0]]


def test_boxes_of_random_masks_are_torchvisions():
    bitmaps = torch.rand(20, 9, 11) > 0.9
    bitmaps[:, 0, 0] = True  # torchvision wants a pixel
    expected = torchvision.ops.masks_to_boxes(bitmaps)
    expected[:, 2:] += 1  # torchvision counts pixels, a box is continuous
    assert_close(BitMasks(bitmaps).get_bounding_boxes().tensor, expected)


@pytest.mark.parametrize("kind", ["polygons", "bitmaps"])
def test_targets_show_the_mask_within_the_box(kind):
    masks = PolygonMasks([[np.array(SQUARE)]])
    if kind == "bitmaps":
        masks = BitMasks.from_polygon_masks(masks, 8, 8)
    target = masks.crop_and_resize(torch.tensor([[1.0, 2, 7, 8]]), 6)  # one cell per pixel
    expected = torch.zeros(1, 6, 6, dtype=torch.bool)
    expected[:, :3, :3] = True
    assert_close(target, expected)


def test_rasterizing_scales_each_axis():
    mask = rasterize_polygons_within_box([np.array(SQUARE)], np.array([1.0, 2, 4, 8]), 4)
    assert mask.tolist() == [[True] * 4] * 2 + [[False] * 4] * 2


def test_rasterizing_leaves_the_polygon_alone():
    polygon = np.array(SQUARE)
    rasterize_polygons_within_box([polygon], np.array([1.0, 2, 4, 8]), 4)
    assert polygon.tolist() == SQUARE


def test_masks_of_nobody():
    no_boxes = torch.zeros(0, 4)
    assert PolygonMasks([]).crop_and_resize(no_boxes, 7).shape == (0, 7, 7)
    assert BitMasks(torch.zeros(0, 5, 6)).crop_and_resize(no_boxes, 7).shape == (0, 7, 7)
    assert BitMasks.from_polygon_masks([], 5, 6).tensor.shape == (0, 5, 6)
    assert (
        PolygonMasks([]).nonempty().shape == BitMasks(torch.zeros(0, 5, 6)).nonempty().shape == (0,)
    )


def test_which_masks_are_empty():
    assert PolygonMasks([[np.array(SQUARE)], []]).nonempty().tolist() == [True, False]
    bitmaps = torch.zeros(2, 3, 3)
    bitmaps[0, 1, 1] = 1
    assert BitMasks(bitmaps).nonempty().tolist() == [True, False]


@pytest.mark.parametrize(
    "index", [[1, 2], slice(1, 3), torch.tensor([1, 2]), torch.tensor([False, True, True])]
)
def test_selecting_polygons(index):
    masks = PolygonMasks([[np.array(SQUARE) + i] for i in range(3)])
    chosen = masks[index]
    assert [polygons[0][0] for polygons in chosen] == [2, 3]
    assert len(PolygonMasks.cat([masks, chosen])) == 5
    assert masks[1].polygons[0][0].tolist() == (np.array(SQUARE) + 1).tolist()


def test_polygons_that_are_refused():
    for wrong in [np.zeros((1, 8)), [np.zeros(8)], [[np.zeros(7)]], [[np.zeros(4)]]]:
        with pytest.raises(ValueError, match=r"list|coordinates"):
            PolygonMasks(wrong)
    with pytest.raises(ValueError, match="float"):
        PolygonMasks([[np.array(SQUARE)]])[torch.tensor([0.5])]


def test_selecting_and_joining_bitmaps():
    masks = BitMasks(torch.rand(3, 4, 5) > 0.5)
    assert masks[1].tensor.shape == (1, 4, 5)
    assert tuple(masks.image_size) == (4, 5)
    assert_close(BitMasks.cat([masks, masks[1:]]).tensor, masks.tensor[[0, 1, 2, 1, 2]])
    assert_close(torch.stack(list(masks)), masks.tensor)


def test_masks_within_rois_are_pasted():
    pasted = ROIMasks(torch.ones(2, 3, 3)).to_bitmasks(Boxes([[0, 0, 2, 2], [1, 1, 4, 3]]), 4, 5)
    assert pasted.get_bounding_boxes().tensor.tolist() == [[0, 0, 2, 2], [1, 1, 4, 3]]
    with pytest.raises(ValueError, match=r"3|M, M"):
        ROIMasks(torch.ones(3, 3))
