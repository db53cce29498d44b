"""Objects and classes of label maps: of every depth, and in one pass over the maps of both."""

from maskrcnn_repro.data.formats import index_png
from maskrcnn_repro.data.formats.index_png import VOID, kinds_of
from maskrcnn_repro.errors import DataError

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.data.formats.test_readers import voc
from tests.helpers.label_files import blank, converted


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


IDS = np.array([[0, 300, 300, 7], [0, 0, 400, 7]])


def masks(folder, name):
    """An empty folder of masks beside one image, and the path of its mask."""
    blank(folder / "images" / "a.jpg", 4, 2)
    (folder / "masks").mkdir()
    return folder / "masks" / name


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_masks_of_every_depth_have_their_objects(tmp_path, dtype):
    Image.fromarray(IDS.astype(dtype)).save(masks(tmp_path, "a.tif"))
    _, trees = converted(tmp_path, tmp_path / "out")
    assert [a["area"] for a in trees["data"]["annotations"]] == [2, 2, 1]


@pytest.mark.parametrize("value", [1.5, float("nan"), 2.0**31, -np.inf])
def test_fractions_are_no_objects(tmp_path, value):
    Image.fromarray(np.where(IDS == 300, value, IDS).astype(np.float32)).save(
        masks(tmp_path, "a.tif")
    )
    with pytest.raises(DataError, match=r"a\.tif has the value \S+, which is no whole number"):
        converted(tmp_path, tmp_path / "out")


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_colours_of_16_bits_are_refused(tmp_path, ending):
    colours = np.zeros((2, 4, 3), np.uint16)
    colours[..., 2] = IDS
    cv2.imwrite(str(masks(tmp_path, f"a.{ending}")), colours)
    with pytest.raises(DataError, match=rf"a\.{ending} has channels of 16 bits"):
        converted(tmp_path, tmp_path / "out")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "CMYK"])
def test_colours_tell_objects_apart_and_alpha_does_not(tmp_path, mode):
    colours = np.zeros((2, 4, 3), np.uint8)
    colours[:, :2], colours[0, 2:] = (9, 0, 0), (9, 0, 1)
    image = Image.fromarray(colours).convert(mode)
    if mode == "RGBA":
        image.putpixel((0, 0), (9, 0, 0, 0))
    image.save(masks(tmp_path, "a.tif"))
    _, trees = converted(tmp_path, tmp_path / "out")
    assert sorted(a["area"] for a in trees["data"]["annotations"]) == [2, 4]
