"""Shapes and random numbers of the generated data: geometry by hand, NumPy's raw stream."""

from maskrcnn_repro.data.synthetic.draws import ONE, Draws, cosine, sine
from maskrcnn_repro.data.synthetic.mini_coco.shapes import SHAPES
from maskrcnn_repro.data.synthetic.outlines import area, fill, place

import numpy as np
import pycocotools.mask as coco_mask


def square(low, high):
    return [(low, low), (high, low), (high, high), (low, high)]


def overlap_with_pycocotools(mask, polygon):
    drawn = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygon, *mask.shape))) > 0
    return (drawn & mask).sum() / (drawn | mask).sum()


# --- geometry by hand


def test_sine_of_the_angles_everybody_knows():
    assert [sine(d) for d in (0, 30, 90, 150, 180, 210, 270, 360, -30)] == [
        0, ONE // 2, ONE, ONE // 2, 0, -ONE // 2, -ONE, 0, -ONE // 2,
    ]  # fmt: skip
    assert [cosine(d) for d in (0, 60, 90, 180)] == [ONE, ONE // 2, 0, -ONE]
    table = [sine(d) for d in range(360)]
    np.testing.assert_allclose(table, ONE * np.sin(np.radians(range(360))), atol=0.501)


def test_square_of_three_pixels_fills_three_by_three():
    mask = fill([square(5, 20)], height=6, width=7)  # fifths: from 1 to 4 pixels
    expected = np.zeros((6, 7), dtype=bool)
    expected[1:4, 1:4] = True
    np.testing.assert_array_equal(mask, expected)
    assert area([square(5, 20)]) == 9


def test_second_ring_is_a_hole():
    rings = [square(0, 25), square(10, 15)]
    mask = fill(rings, height=5, width=5)
    assert not mask[2, 2]
    assert mask.sum() == area(rings) == 24


def test_shape_beyond_the_border_is_cut():
    mask = fill([square(-10, 10)], height=4, width=3)
    assert np.argwhere(mask).tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert not fill([square(100, 200)], height=4, width=3).any()


def test_place_stretches_turns_and_moves():
    # The unit square as 4 x 2 pixels, turned by 90 degrees about (10, 20) pixels: 2 wide, 4 high.
    corners = [[(-1000, -1000), (1000, 1000)]]
    assert place(corners, size=(4, 2), degrees=90, centre=(50, 100)) == [[(55, 90), (45, 110)]]


def test_masks_are_those_pycocotools_draws():
    draws = Draws(7)
    for name in [n for n in SHAPES if n != "ring"] * 12:
        size = draws.between(12, 60), draws.between(9, 60)
        outline = place(SHAPES[name](draws), size, draws.below(360), (280, 310))
        polygon = [[v / 5 for point in outline[0] for v in point]]
        assert overlap_with_pycocotools(fill(outline, 130, 120), polygon) >= 0.97, (name, size)


# --- random numbers


def test_stream_is_numpys_raw_one():
    raw = np.random.PCG64(np.random.SeedSequence((3, 1))).random_raw(2)
    draws = Draws(3, 1)
    assert [draws.below(1000), draws.below(1000)] == [(int(w) >> 32) * 1000 >> 32 for w in raw]


def test_range_includes_both_ends():
    draws = Draws(0)
    assert {draws.between(3, 6) for _ in range(200)} == {3, 4, 5, 6}
    octets = draws.octets(100, 30)
    assert octets.shape == (100, 30)
    assert (octets.min(), octets.max()) == (0, 255)
