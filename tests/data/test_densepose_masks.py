"""Masks of the parts of a body: what their run-length encodings say, and damaged ones, named before a training."""

import json

import maskrcnn_repro  # noqa: F401
from maskrcnn_repro.data.densepose import truth
from maskrcnn_repro.data.densepose.annotation import SIDE, SurfacePoints
from maskrcnn_repro.errors import DataError

import numpy as np
import pytest

CELLS = SIDE * SIDE
POINT = {"dp_x": [1], "dp_y": [2], "dp_I": [1], "dp_U": [0], "dp_V": [0]}


def mask(counts, size=(SIDE, SIDE)):
    return {"size": list(size), "counts": counts}


def parts_of(masks):
    """The part of each cell of a person with these masks."""
    return SurfacePoints.read(POINT | {"dp_masks": masks}).parts


def test_of_masks_that_overlap_the_later_one_is_seen_and_one_alone_is_the_body():
    whole = mask([0, CELLS])
    assert (parts_of([whole, [], whole]) == 3).all()
    assert (parts_of(whole) == 1).all()


def test_runs_go_down_the_columns_background_first():
    parts = parts_of([[], mask([SIDE + 2, 3, CELLS - SIDE - 5])])
    assert [tuple(place) for place in np.argwhere(parts).tolist()] == [(2, 1), (3, 1), (4, 1)]
    assert parts.max() == 2


def test_a_string_says_what_the_list_of_its_runs_says():
    """From the third run on a string has differences with the last but one, 5 bits a character, the lowest first."""
    # 32 | 16 has no sign: 0 and "1"; 65535 is 31, 31, 31, 1 from the lowest 5 bits on: 'o' 'o' 'o' '1'.
    assert (parts_of(mask("1ooo1")) == parts_of(mask([1, CELLS - 1]))).all()
    assert parts_of(mask("1ooo1")).sum() == CELLS - 1


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ([mask("zzzz")], "'counts' of the RLE of mask 1 of dp_masks are no COCO string: it has"),
        ([[], mask([5, 7])], f"mask 2 of dp_masks has counts of 12 pixels, not {CELLS}"),
        ([mask([CELLS, 1])], f"mask 1 of dp_masks has counts of {CELLS + 1} pixels"),
        (mask([-5, CELLS + 5]), "mask 1 of dp_masks have -5, which is no number of pixels"),
        ([mask("")], "mask 1 of dp_masks are empty"),
        ([mask(5)], "mask 1 of dp_masks are of type int"),
        ([mask("1ooo1", [9, 9])], r"mask 1 of dp_masks has the size \[9, 9\], not \[256, 256\]"),
        ([{"counts": "1"}], "mask 1 of dp_masks is no RLE with size and counts"),
        ([[1, 2]], "mask 1 of dp_masks is no RLE with size and counts"),
        ([*[[]] * 255, mask("1ooo1")], "mask 256 of dp_masks is one of more than 255"),
        (3, "not iterable"),
    ],
)
def test_damaged_masks_are_named_before_the_training(masks, message, tmp_path, monkeypatch):
    annotation = {"id": 5, "image_id": 7, **POINT, "dp_masks": masks}
    with pytest.raises(DataError, match=f"Annotation 5 of image 7: .*{message}"):
        SurfacePoints.read(annotation)
    file = tmp_path / "people.json"
    file.write_text(json.dumps({"annotations": [annotation]}))
    monkeypatch.setattr(truth, "surface_file", lambda dataset: file)
    with pytest.raises(DataError, match=message):
        truth.check_surfaces("people", 24)


def test_masks_that_are_sound_pass_the_check(tmp_path, monkeypatch):
    file = tmp_path / "people.json"
    annotation = {**POINT, "dp_masks": [mask("1ooo1"), []]}
    file.write_text(json.dumps({"annotations": [annotation, {}]}))
    monkeypatch.setattr(truth, "surface_file", lambda dataset: file)
    truth.check_surfaces("people", 24)
    assert SurfacePoints.read(annotation, painted=False).parts is None


def test_a_file_that_is_nested_too_deep_is_named(tmp_path, monkeypatch):
    file = tmp_path / "people.json"
    file.write_text("[" * 10**5)
    monkeypatch.setattr(truth, "surface_file", lambda dataset: file)
    with pytest.raises(DataError, match=r"people\.json cannot be read: RecursionError"):
        truth.check_surfaces("people", 24)
