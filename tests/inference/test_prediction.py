"""What a prediction is turned into: COCO's results, supervision's detections, a picture."""

import json
import sys

from maskrcnn_repro.data.image_file import ImageError
from maskrcnn_repro.errors import ConfigError, UserError
from maskrcnn_repro.inference.prediction import Prediction
from maskrcnn_repro.modeling.paste import rle_of_crop
from maskrcnn_repro.visualization import draw

import numpy as np
import pytest
from PIL import Image

from tests.helpers.traced_memory import peak_of

NAMES = ("nose", "left_eye", "right_eye")


def prediction(**more):
    boxes = np.float32([[1, 2, 4, 6], [0.5, 0, 2, 1.25]])
    rles = [
        rle_of_crop(np.ones((4, 3), bool), (1, 2), (8, 10)),
        rle_of_crop(np.ones((1, 2), bool), (0, 0), (8, 10)),
    ]
    points = np.float32([[[1, 2, 0.5]] * 3, [[3, 4, 0.25]] * 3])
    parts = {"rles": rles, "keypoints": points, "keypoint_names": NAMES, "skeleton": (NAMES[:2],)}
    parts |= {"class_ids": np.array([1, 0]), "class_names": ("disc", "bar")}
    return Prediction(boxes, np.float32([0.75, 0.5]), height=8, width=10, **parts | more)


def test_entries_of_a_results_file():
    first, second = prediction().to_coco(17)
    assert first["image_id"] == 17
    assert (first["category_id"], second["category_id"]) == (2, 1)
    assert (first["bbox"], first["score"]) == ([1, 2, 3, 4], 0.75)
    assert second["bbox"] == [0.5, 0, 1.5, 1.25]
    # COCO counts a keypoint's pixel from its centre.
    assert first["keypoints"] == [0.5, 1.5, 0.5] * 3
    assert first["segmentation"]["size"] == [8, 10]
    assert json.loads(json.dumps([first, second])) == [first, second]


def test_entries_have_the_ids_of_the_data_set_and_the_name_of_the_file():
    entries = prediction(category_ids=(4, 9), path="a/b.png").to_coco()
    assert [(e["file_name"], e["category_id"]) for e in entries] == [("a/b.png", 9), ("a/b.png", 4)]


@pytest.mark.slow
def test_detections_of_supervision():
    supervision = pytest.importorskip("supervision")
    detections = prediction().to_supervision()
    assert isinstance(detections, supervision.Detections)
    assert detections.xyxy.tolist() == [[1, 2, 4, 6], [0.5, 0, 2, 1.25]]
    assert detections.mask.sum(axis=(1, 2)).tolist() == [12, 2]
    assert detections.data["class_name"].tolist() == ["bar", "disc"]
    assert len(prediction()[[]].to_supervision()) == 0


def test_without_supervision_the_cure_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(UserError, match=r"pip install 'maskrcnn-repro\[supervision\]'"):
        prediction().to_supervision()


def test_rows_are_chosen_in_their_order():
    chosen = prediction()[[1, 0]]
    assert chosen.scores.tolist() == [0.5, 0.75]
    assert chosen.names == ["disc", "bar"]
    assert chosen.masks.sum(axis=(1, 2)).tolist() == [2, 12]
    assert len(prediction()[np.array([False, True])]) == 1
    assert prediction()[-1].names == ["disc"]
    assert [row.scores.tolist() for row in prediction()] == [[0.75], [0.5]]
    with pytest.raises(IndexError):
        prediction()[2]


def test_a_picture_is_drawn_on_its_file_or_on_an_array(tmp_path):
    grey = np.full((8, 10, 3), 90, np.uint8)
    Image.fromarray(grey).save(tmp_path / "a.png")
    drawn = prediction(path=str(tmp_path / "a.png")).draw()
    assert np.array_equal(drawn, prediction().draw(grey))
    assert (drawn != grey).any()
    assert (grey == 90).all()
    assert prediction().draw(grey, magnification=2).shape == (16, 20, 3)


def test_colours_leave_the_names_as_they_are(monkeypatch):
    chips = []
    monkeypatch.setattr(draw, "draw_chip", lambda pen, corner, *chip: chips.append(chip))
    grey = np.full((8, 10, 3), 90, np.uint8)
    prediction().draw(grey, colors=[3, 3])
    assert chips == [("bar 0.75", draw.class_color(3)), ("disc 0.50", draw.class_color(3))]
    chips.clear()
    prediction(class_ids=np.zeros(2, int), class_names=("disc",)).draw(grey, colors=[1, 0])
    assert chips == [("0.75", draw.class_color(1)), ("0.50", draw.class_color(0))]
    with pytest.raises(ConfigError, match="colors has 1 numbers, for 2 detections"):
        prediction().draw(grey, colors=[3])


def test_masks_are_decoded_one_after_the_other():
    mask = rle_of_crop(np.ones((5, 5), bool), (1, 2), (1000, 1000))
    boxes, scores = np.tile(np.float32([1, 2, 6, 7]), (40, 1)), np.full(40, 0.5, np.float32)
    many = Prediction(boxes, scores, np.zeros(40, int), ("disc", "bar"), 1000, 1000, [mask] * 40)
    image = np.zeros((1000, 1000, 3), np.uint8)
    assert peak_of(lambda: many.draw(image, 0.1)) < 15e6


def test_what_cannot_be_drawn_on_is_named():
    with pytest.raises(ImageError, match="has no file to draw on"):
        prediction().draw()
    with pytest.raises(ImageError, match="has no file to draw on"):
        prediction(path="https://a.b/c.png").draw()
    with pytest.raises(ImageError, match=r"10 x 8 pixels is drawn on an array of \(8, 10, 3\)"):
        prediction().draw(np.zeros((10, 8, 3), np.uint8))
