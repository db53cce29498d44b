"""Masks as polygons: exact without tolerance, holes counted, parts by size."""

from maskrcnn_repro.inference.outlines import crop_mask, outline

import numpy as np
import pytest
from pycocotools import mask as rle_codec

from tests.helpers.predictions import RING, encoded


def filled(mask):
    """The mask without its holes: what cannot be reached from outside through sides of pixels."""
    outside = np.zeros(np.add(mask.shape, 2), bool)
    outside[0] = True
    free = np.pad(mask == 0, 1, constant_values=True)
    while True:
        grown = outside.copy()
        grown[1:] |= outside[:-1]
        grown[:-1] |= outside[1:]
        grown[:, 1:] |= outside[:, :-1]
        grown[:, :-1] |= outside[:, 1:]
        grown &= free
        if (grown == outside).all():
            return (~outside[1:-1, 1:-1]).astype(np.uint8)
        outside = grown


def drawn(parts, shape):
    polygons = rle_codec.frPyObjects([part.ravel().tolist() for part in parts], *shape)
    return rle_codec.decode(rle_codec.merge(polygons))


def test_a_ring_and_a_pixel_by_hand():
    shape = outline(encoded(RING), 0)
    corners = [{tuple(point) for point in part.tolist()} for part in shape.parts]
    assert corners == [{(1, 1), (4, 1), (4, 4), (1, 4)}, {(5, 3), (6, 3), (6, 4), (5, 4)}]
    assert shape.holes == 1


@pytest.mark.parametrize("seed", range(20))
def test_without_tolerance_polygons_cover_the_mask_and_its_holes(seed):
    mask = (np.random.default_rng(seed).random((11, 14)) < 0.5).astype(np.uint8)
    np.testing.assert_array_equal(drawn(outline(encoded(mask), 0).parts, mask.shape), filled(mask))


def test_a_tolerance_saves_points_and_keeps_the_disc():
    y, x = np.mgrid[:200, :200]
    disc = ((x - 100) ** 2 + (y - 90) ** 2 < 70**2).astype(np.uint8)
    exact, simple = (outline(encoded(disc), tolerance).parts[0] for tolerance in (0, 1))
    assert len(simple) * 5 < len(exact)
    overlap = drawn([simple], disc.shape) & disc
    assert overlap.sum() > 0.985 * (drawn([simple], disc.shape) | disc).sum()


def test_a_small_part_is_not_simplified_away():
    assert len(outline(encoded(RING), 50).parts) == 2


def test_an_empty_mask_has_no_outline():
    empty = encoded(np.zeros((3, 4)))
    assert (outline(empty, 1).parts, outline(empty, 1).holes) == ([], 0)
    assert crop_mask(empty)[1].shape == (0, 0)
