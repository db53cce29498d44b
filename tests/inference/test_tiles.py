"""Tiles of large pictures, and one object from its parts in several tiles."""

from maskrcnn_repro import Predictor
from maskrcnn_repro.inference import tiles
from maskrcnn_repro.inference.prediction import Prediction
from maskrcnn_repro.inference.tiles import Box, merge_tiles, tiles_of
from maskrcnn_repro.modeling.paste import rle_of_crop

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle_codec

from tests.helpers.tiny_predictor import assert_equal, write_pictures, write_tiny_model

LEFT, RIGHT = Box(0, 0, 60, 40), Box(40, 0, 100, 40)
"""Two tiles of a picture of 100 x 40 pixels that share 20 columns."""


def seen_in(tile, *objects, masks=True, names=("disc", "bar")):
    """Return what a tile sees of rectangles, each as (x1, y1, x2, y2, score, class) in the picture."""
    height, width = tile.y2 - tile.y1, tile.x2 - tile.x1
    boxes = np.array([o[:4] for o in objects], np.float32).reshape(-1, 4)
    boxes -= np.float32([tile.x1, tile.y1] * 2)
    boxes = boxes.clip(0, np.float32([width, height] * 2))
    rles = []
    for x1, y1, x2, y2 in boxes.astype(int):
        crop = np.ones((y2 - y1, x2 - x1), bool)
        rles.append(rle_of_crop(crop, (x1, y1), (height, width)))
    scores = np.array([o[4] for o in objects], np.float32)
    labels = np.array([o[5] for o in objects], np.int64)
    return tile, Prediction(boxes, scores, labels, names, height, width, rles if masks else None)


def merged(*tiled):
    prediction = merge_tiles(tiled, 40, 100, "a.png")
    return [
        (*box.astype(int).tolist(), round(float(score), 2), int(label))
        for box, score, label in zip(
            prediction.boxes, prediction.scores, prediction.class_ids, strict=True
        )
    ]


def test_tiles_cover_a_picture_and_share_at_least_the_overlap():
    assert tiles_of(40, 100, 60, 20) == [LEFT, RIGHT]
    assert tiles_of(40, 100, 100, 20) == [Box(0, 0, 100, 40)]
    # 3 tiles of 50 in 101 pixels: begins at 0, 25.5 and 51, rounded.
    assert [t.x1 for t in tiles_of(50, 101, 50, 20)] == [0, 26, 51]
    assert len(tiles_of(101, 101, 50, 20)) == 9


@pytest.mark.parametrize("masks", [True, False])
def test_an_object_that_both_tiles_cut_is_united(masks):
    bar = (10, 5, 90, 15)
    tiled = [seen_in(tile, (*bar, s, 1), masks=masks) for tile, s in ((LEFT, 0.8), (RIGHT, 0.9))]
    assert merged(*tiled) == [(*bar, 0.9, 1)]
    if masks:
        prediction = merge_tiles(tiled, 40, 100)
        expected = np.zeros((40, 100), bool)
        expected[5:15, 10:90] = True
        assert np.array_equal(prediction.masks[0], expected)


def test_an_object_that_one_tile_sees_whole_is_as_that_tile_has_it():
    # Of 35 to 55 the right tile sees 40 to 55, and is surer.
    disc, half = (35, 5, 55, 25), (40, 4, 55, 26)
    assert merged(seen_in(LEFT, (*disc, 0.6, 0)), seen_in(RIGHT, (*half, 0.9, 0))) == [
        (*disc, 0.9, 0)
    ]
    # Both see 45 to 55 whole: the surer one's outline stays, the other goes.
    pair = seen_in(LEFT, (45, 5, 55, 15, 0.6, 0)), seen_in(RIGHT, (45, 6, 55, 15, 0.7, 0))
    assert merged(*pair) == [(45, 6, 55, 15, 0.7, 0)]


def test_what_differs_stays_apart():
    box = (45, 5, 55, 15)
    # Another class; another place in the overlap; another object of the same tile.
    assert len(merged(seen_in(LEFT, (*box, 0.6, 0)), seen_in(RIGHT, (*box, 0.7, 1)))) == 2
    below = (45, 20, 55, 30, 0.7, 0)
    assert len(merged(seen_in(LEFT, (*box, 0.6, 0)), seen_in(RIGHT, below))) == 2
    twice = (*box, 0.6, 0), (46, 5, 56, 15, 0.5, 0)
    assert len(merged(seen_in(LEFT, *twice), seen_in(RIGHT))) == 2
    # The right tile's detection joins the first of the two alone, which fits it better.
    assert merged(seen_in(LEFT, *twice), seen_in(RIGHT, (*box, 0.7, 0))) == [
        (*box, 0.7, 0),
        (46, 5, 56, 15, 0.5, 0),
    ]


def test_a_sliver_with_a_poor_outline_belongs_to_the_object_in_which_it_lies():
    # The left tile sees the first 5 of 40 columns, and a quarter of their height.
    tiled = (seen_in(LEFT, (55, 10, 60, 15, 0.4, 0)), seen_in(RIGHT, (55, 5, 95, 25, 0.9, 0)))
    assert merged(*tiled) == [(55, 5, 95, 25, 0.9, 0)]


def test_a_small_object_in_front_of_a_large_one_stays():
    tiled = (
        seen_in(LEFT, (45, 10, 50, 15, 0.4, 0)),
        seen_in(RIGHT, (42, 5, 95, 25, 0.9, 0), (45, 10, 50, 15, 0.5, 0)),
    )
    assert merged(*tiled) == [(42, 5, 95, 25, 0.9, 0), (45, 10, 50, 15, 0.5, 0)]


def test_an_object_goes_on_through_three_tiles():
    tiles = tiles_of(40, 140, 60, 20)
    tiled = [seen_in(tile, (5, 5, 135, 15, 0.5, 0)) for tile in tiles]
    prediction = merge_tiles(tiled, 40, 140)
    assert prediction.boxes.tolist() == [[5, 5, 135, 15]]
    assert int(rle_codec.area(prediction.rles[0])) == 130 * 10


def test_nothing_in_any_tile_is_an_empty_prediction():
    prediction = merge_tiles([seen_in(LEFT), seen_in(RIGHT)], 40, 100)
    assert (len(prediction), prediction.boxes.shape, prediction.rles) == (0, (0, 4), [])


def test_keypoints_and_the_mask_s_score_are_those_of_the_best_part():
    tiled = []
    for tile, x in ((LEFT, 20.0), (RIGHT, 30.0)):
        _, prediction = seen_in(tile, (10, 5, 90, 15, x / 100, 0))
        points = np.float32([[[x, 7, 0.5]]])
        changes = {"keypoints": points, "mask_scores": np.float32([x / 40])}
        tiled.append((tile, Prediction(**vars(prediction) | changes)))
    whole = merge_tiles(tiled, 40, 100)
    assert whole.keypoints.tolist() == [[[70, 7, 0.5]]]
    assert whole.mask_scores.tolist() == [0.75]
    assert merge_tiles([(tile, tiled[-1][1][:0])], 40, 100).mask_scores.shape == (0,)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiled")
    file = write_tiny_model(folder)
    return Predictor(file, 0.0, device="cpu"), Predictor(file, 0.0, device="cpu", tiles=64)


def test_a_picture_whose_tiles_are_too_small_is_left_out(pair, monkeypatch):
    tiled, errors = pair[1], []
    monkeypatch.setattr(tiled, "facts", {"least_side": 50, "format": "torchscript"})
    # Resized so that the longer side is 128, a tile of 20 x 64 has a side of 40.
    pictures = [np.zeros(size, np.uint8) for size in ((64, 64), (20, 300), (64, 50))]
    stream = tiled.stream(pictures, on_error=lambda source, error: errors.append((source, error)))
    assert [prediction.width for prediction in stream] == [64, 50]
    [(source, error)] = errors
    assert source is pictures[1]
    assert "An input of 128 x 40 px is too small" in str(error)


def test_models_without_masks_have_none_in_the_whole_picture(monkeypatch):
    monkeypatch.setattr(tiles, "rle_of_crop", None)
    tiled = [seen_in(tile, (10, 5, 90, 15, 0.8, 1), masks=False) for tile in (LEFT, RIGHT)]
    assert merge_tiles(tiled, 40, 100).rles is None


def test_a_picture_no_larger_than_a_tile_is_predicted_whole(pair, tmp_path):
    [file] = write_pictures(tmp_path, [(64, 50)])
    assert_equal(pair[1](file), pair[0](file))


def test_a_large_picture_is_what_its_tiles_make(pair, tmp_path):
    [file, small] = write_pictures(tmp_path, [(64, 112), (40, 40)])
    whole, tiled = pair
    prediction = tiled([file, small], batch_size=2)[0]
    assert (prediction.height, prediction.width, prediction.path) == (64, 112, str(file))
    image = np.asarray(prediction.draw(np.zeros((64, 112, 3), np.uint8)))
    assert image.shape == (64, 112, 3)
    # A tile is resized as an image of its own.
    pixels = np.asarray(Image.open(file))
    tiles = [(Box(x, 0, x + 64, 64), whole(pixels[:, x : x + 64])) for x in (0, 48)]
    assert_equal(prediction, merge_tiles(tiles, 64, 112, str(file)))
