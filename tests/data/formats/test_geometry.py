"""Outlines of shapes, by hand: circles to a stated tolerance, cuts at the border, label maps, brush strokes."""

import math

from maskrcnn_repro.data.check.outlines import Defective
from maskrcnn_repro.data.formats.brush import brush_mask
from maskrcnn_repro.data.formats.fates import TOLERANCE
from maskrcnn_repro.data.formats.geometry import (
    ellipse,
    label_outlines,
    mask_outline,
    mend_outline,
    rectangle,
    rotate_points,
)
from maskrcnn_repro.errors import DataError

import numpy as np
import pycocotools.mask as coco_mask
import pytest


@pytest.mark.parametrize("radius", [0.5, 3, 40, 2000])
def test_a_circle_is_left_by_at_most_the_tolerance(radius):
    points = np.array(ellipse(100, 50, radius, radius)) - (100, 50)
    assert np.hypot(*points.T) == pytest.approx(radius)
    middles = (points + np.roll(points, 1, axis=0)) / 2
    gap = radius - np.hypot(*middles.T).min()
    assert gap <= TOLERANCE
    assert len(points) == 12 or gap > TOLERANCE / 2  # no more points than needed


def test_an_ellipse_has_no_more_vertices_than_the_largest_image_needs():
    points = np.array(ellipse(0, 0, 20_000, 20_000))
    assert 20_000 * (1 - math.cos(math.pi / len(points))) <= TOLERANCE
    assert len(points) <= 1000
    assert len(ellipse(0, 0, 1.7e8, 1)) == 1000


def test_an_ellipse_is_turned_clockwise_as_an_image_shows_it():
    points = np.array(ellipse(10, 10, 8, 2, 90))
    assert points.min(axis=0) == pytest.approx((8, 2), abs=0.1)
    assert points.max(axis=0) == pytest.approx((12, 18), abs=0.1)
    # To the right becomes down.
    assert rotate_points([(1, 0)], (0, 0), 90)[0] == pytest.approx((0, 1))


@pytest.mark.parametrize("radius", [0, -1, math.nan, math.inf, 1e300])
def test_radii_that_no_circle_has_are_refused_before_points_are_made(radius):
    with pytest.raises(Defective):
        ellipse(0, 0, radius, 5)


@pytest.mark.parametrize(
    ("polygon", "cut", "area"),
    [
        ([2, 2, 4, 2, 4, 4], False, 2),
        ([-4, 0, 4, 0, 4, 4, -4, 4], True, 16),
        ([5, -5, 15, 5, 5, 15, -5, 5], True, 100),  # a diamond around the whole image
        ([8, 8, 14, 8, 8, 14], True, 4),
        ([-8, 5, 5, -8, 9, 5], True, 5 * (5 + 4 * 8 / 13 + 9) / 2),
    ],
)
def test_a_polygon_is_cut_at_the_border(polygon, cut, area):
    record, changes = mend_outline([polygon], 10, 10)
    assert (changes == {"cut"}) is cut
    assert record["area"] == pytest.approx(area)
    flat = record["segmentation"][0]
    assert min(flat) >= 0
    assert max(flat) <= 10


@pytest.mark.parametrize("outline", [[2, 2, 4, 2, 4, 4], [[[2, 2], [4, 2], [4, 4]]]])
def test_flat_lists_and_pairs_are_mended(outline):
    record, changes = mend_outline(outline, 10, 10)
    assert (record["segmentation"], changes) == ([[2, 2, 4, 2, 4, 4]], {"mended"})


def test_a_flat_list_over_the_border_is_cut_there():
    record, changes = mend_outline([-8, 5, 5, -8, 9, 5], 10, 10)
    assert changes == {"mended"}
    assert record["area"] == pytest.approx(5 * (5 + 4 * 8 / 13 + 9) / 2)


@pytest.mark.parametrize(
    "outline",
    [
        [[math.nan, 0, 1, 1, 2, 2]],
        [[0, 0, 1e9, 0, 1e9, 1e9]],
        [0, 0, 1e9, 0, 1e9, 1e9],
        [[-9, 1, 18, 2] * 210_000],  # 11.3 million pixels long
        [-9, 1, 18, 2] * 210_000,
        [[0, 0, 1, 1]],
        [[12, 2, 14, 2, 14, 4]],  # beside the image
        {"size": [10**6, 10**6], "counts": [0, 10**12]},
        {"size": [10, 10], "counts": "not a string of COCO"},
        {"size": [10, 10], "counts": [100]},
        "polygon",
        [[]],
    ],
)
def test_outlines_that_cannot_train_are_refused(outline):
    with pytest.raises(Defective):
        mend_outline(outline, 10, 10)


def test_label_map_against_a_mask_of_each_value():
    ids = np.random.default_rng(0).integers(0, 4, (7, 9)) * 100
    outlines = label_outlines(ids)
    assert sorted(outlines) == [100, 200, 300]
    for value, outline in outlines.items():
        mask = coco_mask.decode({**outline, "counts": outline["counts"].encode()})
        assert (mask == (ids == value)).all()


def test_label_map_of_one_value_and_of_none():
    outline = label_outlines(np.full((2, 3), 5))[5]
    assert coco_mask.area({**outline, "counts": outline["counts"].encode()}) == 6
    assert label_outlines(np.zeros((2, 3), int)) == {}


def test_a_mask_is_laid_where_it_begins():
    outline = mask_outline(np.array([[1, 0], [1, 1]]), 3, 1, (6, 4))
    mask = coco_mask.decode({**outline, "counts": outline["counts"].encode()})
    assert np.argwhere(mask).tolist() == [[1, 3], [2, 3], [2, 4]]


def brush(values, words):
    """Pack runs as Label Studio does: each (value, length), or (list of values, None)."""
    bits = f"{values:032b}{7:05b}" + "".join(f"{n - 1:04b}" for n in (3, 4, 8, 16))
    for value, length in words:
        listed = value if length is None else [value]
        bits += f"{int(length is not None)}11{(length or len(listed)) - 1:016b}"
        bits += "".join(f"{v:08b}" for v in listed)
    bits += "0" * (-len(bits) % 8)
    return [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]


def test_brush_strokes_by_hand():
    # Two rows of three pixels, four values each: pixels 1, 2 and 4 are painted.
    runs = [(0, 4), (255, 8), (0, 4), ([255] * 4, None), (0, 4)]
    mask = brush_mask(brush(24, runs), (3, 2), "here")
    assert mask.tolist() == [[0, 1, 1], [0, 1, 0]]


@pytest.mark.parametrize("rle", [[], [0, 0], brush(24, [(0, 4)]), brush(2**32 - 1, [(255, 65536)])])
def test_brush_strokes_that_do_not_fit_the_image(rle):
    with pytest.raises(Defective):
        brush_mask(rle, (3, 2), "here")


@pytest.mark.parametrize("rle", [[300], [-1], ["a"], [1.5]])
def test_brush_strokes_that_are_no_bytes(rle):
    with pytest.raises(DataError, match="here: its 'rle' is no list of bytes"):
        brush_mask(rle, (3, 2), "here")


def test_corners():
    assert rectangle(1, 2, 3, 5) == [(1, 2), (3, 2), (3, 5), (1, 5)]
