"""Classes of the objects in a label map, in one pass over it and over the map of classes."""

from maskrcnn_repro.data.formats import index_png
from maskrcnn_repro.data.formats.index_png import VOID, kinds_of

import numpy as np
import pytest

from tests.data.formats.test_readers import voc
from tests.helpers.label_files import converted


def test_the_kind_of_most_pixels_by_hand():
    # Object 1 has two pixels of 8 and one of 15, 2 as many of both, 3 has none that counts.
    objects = np.array([[1, 1, 1, 2], [0, 3, 3, 2]], np.int32)
    kinds = np.array([[8, 15, 8, 15], [4, VOID, 0, 8]], np.int32)
    assert kinds_of(objects, kinds) == {1: 8, 2: 8}
    assert kinds_of(np.zeros((1, 1), int), np.zeros((1, 1), int)) == {}


def by_masks(objects, kinds):
    """The same with a mask of each object."""
    result = {}
    for number in np.unique(objects[objects != 0]).tolist():
        inside = kinds[objects == number]
        values, counts = np.unique(inside[(inside != VOID) & (inside != 0)], return_counts=True)
        if len(values):
            result[number] = int(values[counts.argmax()])
    return result


@pytest.mark.parametrize("most", [2, 5, 40])
def test_kinds_are_those_of_a_mask_of_each_object(most):
    random = np.random.default_rng(most)
    palette = np.array([0, VOID, 3, 7, 0x800000, 0xFFFFFF])
    for _ in range(50):
        shape = random.integers(1, 12, 2)
        objects = random.integers(0, most, shape) * 70_000
        kinds = palette[random.integers(0, len(palette), shape)]
        assert kinds_of(objects, kinds) == by_masks(objects, kinds)


def test_many_objects_take_one_pass(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(index_png, "kinds_of", lambda *maps: calls.append(maps) or kinds_of(*maps))
    voc(tmp_path, [[1, 1, 2, 3], [4, 5, 6, 7]], [[8] * 4] * 2)
    _, trees = converted(tmp_path, tmp_path / "out")
    assert len(trees["data"]["annotations"]) == 7
    assert len(calls) == 1
