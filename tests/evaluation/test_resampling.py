"""AP of resampled images: by hand, against COCO's own code, against images that really are repeated."""

import contextlib
import io
import json
from pathlib import Path

from maskrcnn_repro.errors import DataError
from maskrcnn_repro.evaluation.resampling import CategoryMatches, Matches, draw_images, match
from maskrcnn_repro.utils.rle import encode_mask

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

IMAGES = 12


def test_precision_by_hand():
    # Image 0: one object, found. Image 1: one object, a wrong detection that is surer.
    matches = CategoryMatches(
        images=np.array([1, 0]),
        hits=np.array([[False, True]] * 10),
        misses=np.array([[True, False]] * 10),
        objects=np.array([1, 1]),
    )
    # Half of the objects are found, at a precision of 1/2: 51 of 101 recalls have it.
    both, thrice, alone, none = matches.precision(np.array([[1, 1], [3, 1], [2, 0], [0, 0]]))
    assert both == pytest.approx(np.full(10, 0.5 * 51 / 101))
    # Image 0 three times: 3 of 4 objects at a precision of 3/4.
    assert thrice == pytest.approx(np.full(10, 0.75 * 76 / 101))
    assert alone == pytest.approx(np.ones(10))
    assert np.isnan(none).all()


def annotations(rng, image_ids, crowds=True):
    """Random boxes of two categories, and detections that jitter them."""
    truth, predictions = [], []
    for image in image_ids:
        for _ in range(rng.integers(0, 5)):
            x, y, w, h = (int(v) for v in rng.integers([0, 0, 8, 8], [60, 60, 40, 40]))
            category = int(rng.integers(1, 3))
            crowd = int(crowds and rng.random() < 0.1)
            truth.append(
                {
                    "id": len(truth) + 1,
                    "image_id": image,
                    "category_id": category,
                    "bbox": [x, y, w, h],
                    "area": w * h,
                    "iscrowd": crowd,
                }
            )
            for _ in range(rng.integers(0, 3)):
                dx, dy = (int(v) for v in rng.integers(-4, 5, 2))
                predictions.append(
                    {
                        "image_id": image,
                        "category_id": category if rng.random() < 0.9 else 3 - category,
                        "bbox": [x + dx, y + dy, w, h],
                        "score": float(rng.random()),
                    }
                )
    return truth, predictions


def write(folder, truth, predictions, image_ids):
    data = {
        "images": [
            {"id": i, "width": 100, "height": 100, "file_name": f"{i}.png"} for i in image_ids
        ],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}, {"id": 3, "name": "never"}],
        "annotations": truth,
    }
    folder.mkdir(exist_ok=True)
    (folder / "truth.json").write_text(json.dumps(data))
    (folder / "predictions.json").write_text(json.dumps(predictions))
    return folder / "truth.json", folder / "predictions.json"


def official(truth, predictions, task="bbox", sigmas=()):
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(truth))
        evaluation = COCOeval(coco, coco.loadRes(str(predictions)), task)
        if sigmas:
            evaluation.params.kpt_oks_sigmas = np.array(sigmas)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(("AP", "AP50", "AP75"), 100 * evaluation.stats[:3], strict=True))


@pytest.mark.parametrize("seed", range(4))
def test_every_image_once_is_cocos_own_number(tmp_path, seed):
    truth, predictions = annotations(np.random.default_rng(seed), range(IMAGES))
    files = write(tmp_path, truth, predictions, range(IMAGES))
    assert match(*files, "bbox").average_precision() == pytest.approx(official(*files), abs=1e-9)


def test_equal_scores_keep_the_order_of_the_images_as_cocos_do(tmp_path):
    """Of 90 images every third has a surer detection; those of the earlier half are wrong."""
    images = range(90)
    box = {"category_id": 1, "bbox": [10, 10, 20, 20]}
    truth = [box | {"id": i + 1, "image_id": i, "area": 400, "iscrowd": 0} for i in images]
    sure, unsure = [i for i in images if i % 3 == 0], [i for i in images if i % 3]
    predictions = [box | {"image_id": i, "score": 0.9 if i in sure else 0.5} for i in images]
    for detection in predictions[:45]:
        detection["bbox"] = [10, 40, 20, 20]
    files = write(tmp_path, truth, predictions, images)
    matches = match(*files, "bbox")
    assert matches.categories[0].images.tolist() == sure + unsure
    assert matches.average_precision() == pytest.approx(official(*files), abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_counts_are_images_that_really_are_repeated(tmp_path, seed):
    truth, predictions = annotations(np.random.default_rng(seed), range(IMAGES))
    counts = draw_images(IMAGES, 1, seed)[0]
    copies = [(image, copy) for image in range(IMAGES) for copy in range(counts[image])]
    repeated = [
        [
            # Equal scores of different images have no order of their own; a copy must not make more.
            {**entry, "image_id": 100 * image + copy, "id": 1000 * number + copy + 1}
            for number, entry in enumerate(kind)
            for image, copy in copies
            if entry["image_id"] == image
        ]
        for kind in (truth, predictions)
    ]
    real = write(tmp_path / "repeated", *repeated, [100 * i + c for i, c in copies])
    once = match(*write(tmp_path / "once", truth, predictions, range(IMAGES)), "bbox")
    assert once.average_precision(counts) == pytest.approx(official(*real), abs=1e-9)


def test_the_same_draws_give_a_paired_comparison(tmp_path):
    truth, predictions = annotations(np.random.default_rng(5), range(IMAGES))
    matches = match(*write(tmp_path, truth, predictions, range(IMAGES)), "bbox")
    draws = draw_images(IMAGES, 20, seed=1)
    assert draws.sum(axis=1).tolist() == [IMAGES] * 20
    first, second = matches.resampled(draws), matches.resampled(draws)
    assert (first["AP"] == second["AP"]).all()
    assert first["AP"].std() > 0.5
    assert (draw_images(IMAGES, 20, seed=1) == draws).all()


def test_keypoints_are_compared_by_the_sigmas_given(tmp_path):
    rng = np.random.default_rng(0)
    truth, predictions = annotations(rng, range(IMAGES), crowds=False)
    for kind in (truth, predictions):
        for entry in kind:
            # A corner, the middle and the other corner, off by some pixels in a detection.
            x, y, w, h = entry["bbox"]
            places = [x, y, x + w / 2, y + h / 2, x + w, y + h] + rng.normal(0, 2, 6) * (
                kind is predictions
            )
            entry["keypoints"] = [v for i in range(3) for v in (*places[2 * i : 2 * i + 2], 2)]
            entry["num_keypoints"] = 3
    files = write(tmp_path, truth, predictions, range(IMAGES))
    values = []
    for sigmas in ([0.05, 0.1, 0.2], [0.2, 0.2, 0.2]):
        expected = official(*files, task="keypoints", sigmas=sigmas)
        metrics = match(*files, "keypoints", sigmas).average_precision()
        assert metrics == pytest.approx(expected, abs=1e-9)
        values.append(metrics["AP"])
    assert values[0] < values[1]


def test_no_detections_and_no_objects(tmp_path):
    truth, _ = annotations(np.random.default_rng(0), range(IMAGES), crowds=False)
    nothing = match(*write(tmp_path, truth, [], range(IMAGES)), "bbox")
    assert nothing.average_precision() == {"AP": 0.0, "AP50": 0.0, "AP75": 0.0}
    empty = Matches((1,), (CategoryMatches(*(np.zeros(s, int) for s in (0, (10, 0), (10, 0), 1))),))
    assert np.isnan(empty.average_precision()["AP"])


def test_predictions_of_other_images(tmp_path):
    truth, predictions = annotations(np.random.default_rng(0), range(IMAGES))
    files = write(tmp_path, truth, [{**predictions[0], "image_id": 999}], range(IMAGES))
    with pytest.raises(DataError, match="not in the data set"):
        match(*files, "bbox")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file or directory"),
        ('[{"image_id": 0, "category', "Unterminated string"),
        ('["a box"]', "cannot be read as COCO results: it is no list of objects"),
        ('{"image_id": 0}', "is it the file of the truth?"),
        ("[" * 100_000, "maximum recursion depth exceeded"),
        ("[" + "1" * 5000 + "]", "cannot be read as COCO results"),
        (
            '[{"image_id": [], "category_id": 1, "score": 1, "bbox": []}]',
            "the image_id [] of a prediction is no id",
        ),
        (
            '[{"image_id": 1, "category_id": [1], "score": 1, "bbox": []}]',
            "the category_id [1] of a prediction is no id",
        ),
        ('[{"image_id": 0, "category_id": 1, "score": 0.5}]', "a prediction lacks bbox."),
        ('[{"bbox": [0, 0, 5, 5]}]', "a prediction lacks category_id, image_id, score."),
    ],
)
def test_results_that_cannot_be_read_are_named(tmp_path, content, message):
    truth, predictions = write(tmp_path, [], [], range(IMAGES))
    predictions.unlink() if content is None else predictions.write_text(content)
    with pytest.raises(DataError) as caught:
        match(truth, predictions, "bbox")
    assert str(predictions) in str(caught.value)
    assert message in str(caught.value)


BOX = {"image_id": 0, "category_id": 1, "score": 0.5, "bbox": [1, 1, 5, 5]}
EMPTY = {"size": [100, 100], "counts": [10_000]}


@pytest.mark.parametrize(
    ("task", "fields", "message"),
    [
        ("bbox", {"score": "0.9"}, "the score '0.9' of a prediction is no number"),
        ("bbox", {"score": None}, "the score None of a prediction is no number"),
        ("bbox", {"score": float("nan")}, "the score nan"),
        ("bbox", {"score": 10**400}, "of a prediction is no number"),
        ("segm", {"segmentation": EMPTY, "mask_score": True}, "the mask_score True"),
        (
            "bbox",
            {"bbox": [1, 2, 3]},
            "the bbox of a prediction for image 0 is [1, 2, 3], not a list of 4",
        ),
        ("bbox", {"bbox": [1, 2, 3, "4"]}, "not a list of 4 finite numbers"),
        ("bbox", {"bbox": [1, 2, 3, 10**400]}, "not a list of 4 finite numbers"),
        ("bbox", {"bbox": {}}, "image 0 is {}, not"),
        ("segm", {"segmentation": EMPTY, "bbox": [1, 2, 3]}, "image 0 is [1, 2, 3]"),
        ("segm", {"segmentation": 5}, "'segmentation' of a prediction for image 0 is of type int"),
        ("segm", {"segmentation": []}, "the segmentation of a prediction for image 0 is empty"),
        ("segm", {"segmentation": {"size": [100, 100]}}, "image 0 has no 'counts'"),
        ("segm", {"segmentation": {**EMPTY, "counts": 5}}, "are of type int"),
        ("segm", {"segmentation": {**EMPTY, "size": ["a", 9]}}, "is not two positive integers"),
        ("segm", {"segmentation": {**EMPTY, "size": [10**5] * 2}}, "pixels (height, width), more"),
        ("segm", {"segmentation": {**EMPTY, "size": [50, 200]}}, "is not height and width of its"),
        ("boundary", {"segmentation": {**EMPTY, "counts": "oooooo5oooooo5"}}, "pixels, its size"),
        ("boundary", {"segmentation": {**EMPTY, "counts": "5"}}, "are 5 pixels, its size says"),
        ("keypoints", {"keypoints": [1, 2, 2]}, "not a list of 6 finite numbers"),
        ("keypoints", {"keypoints": [1, 2, 2, 3, None, 2]}, "not a list of 6 finite numbers"),
    ],
)
def test_a_prediction_that_a_task_cannot_use_is_named(tmp_path, task, fields, message):
    truth = {**BOX, "id": 1, "area": 25, "iscrowd": 0, "segmentation": [[1, 1, 6, 1, 6, 6, 1, 6]]}
    truth |= {"keypoints": [1, 1, 2, 5, 5, 2], "num_keypoints": 2}
    files = write(tmp_path, [truth], [BOX | truth, BOX | truth | fields], [0])
    with pytest.raises(DataError) as caught:
        match(*files, task)
    assert str(caught.value).startswith(f"{files[1]}: ")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "segmentation",
    [EMPTY, [[1, 1, 6, 1, 6, 6, 1, 6]], [[1, 1, 1, 1, 1, 1]], encode_mask(np.zeros((100, 100)))],
)
def test_masks_of_every_form_can_be_matched(tmp_path, segmentation):
    truth = {**BOX, "id": 1, "area": 25, "iscrowd": 0, "segmentation": EMPTY}
    files = write(tmp_path, [truth], [{**BOX, "segmentation": segmentation}], [0])
    assert match(*files, "segm").categories[0].images.tolist() == [0]


@pytest.mark.parametrize("first", [{}, {"bbox": [1, 1, 5, 5]}, {"bbox": []}, {"caption": "a"}])
def test_a_box_or_another_field_of_one_mask_alone_does_not_matter(tmp_path, first):
    mask = {**BOX, "segmentation": encode_mask(np.ones((100, 100)))}
    del mask["bbox"]
    truth = {**BOX, "id": 1, "area": 25, "iscrowd": 0, "segmentation": EMPTY}
    files = write(tmp_path, [truth], [mask | first, mask], [0])
    assert match(*files, "segm").categories[0].images.tolist() == [0, 0]


def test_a_device_is_not_read_as_results(tmp_path):
    truth, _ = write(tmp_path, [], [], range(IMAGES))
    with pytest.raises(DataError, match="it is a pipe or a device"):
        match(truth, Path("/dev/zero"), "bbox")
