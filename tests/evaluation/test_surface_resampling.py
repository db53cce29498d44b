"""GPS of images drawn again: by hand, against AP of all and of copied images, nobody, files that are missing or broken."""

import re
from dataclasses import replace

from maskrcnn_repro.errors import DataError
from maskrcnn_repro.evaluation.surface_ap import Case, average_precision
from maskrcnn_repro.evaluation.surface_resampling import match_surfaces, read_matches, write_matches

import numpy as np
import pytest

from tests.evaluation import densepose_cases


def case(people, *detections):
    """Return an image of people of one size, and of detections, each a score and its GPS with every person."""
    count = len(detections)
    gps = np.array([[similar] * people for _, similar in detections]).reshape(count, people)
    return Case(
        scores=np.array([score for score, _ in detections], float),
        areas=np.full(count, 400.0),
        similarity={"gps": gps, "gpsm": gps / 2},
        overlap=np.zeros((count, people)),
        true_areas=np.full(people, 400.0),
        ignored=np.zeros(people, bool),
        crowd=np.zeros(people, bool),
    )


def test_two_images_one_of_which_is_drawn_twice_by_hand():
    # The first counts at five of ten thresholds; the other's detection is higher in score and wrong.
    matches = match_surfaces({7: case(1, (0.9, 0.72)), 8: case(1, (0.95, 0.1))}, "gps")
    values = matches.resampled(np.array([[1, 1], [2, 0], [1, 2], [2, 1], [0, 2]]))
    # Precision times the recalls from 0 to 1 in hundredths that are reached.
    ap50 = 100 * np.array([51 / 2, 101, 34 / 3, 67 * 2 / 3, 0]) / 101
    assert matches.image_ids == (7, 8)
    np.testing.assert_allclose(values["AP50"], ap50)
    np.testing.assert_allclose(values["AP"], ap50 / 2)
    assert not values["AP75"].any()


@pytest.fixture
def cases():
    return densepose_cases.compared()


@pytest.mark.parametrize("task", ["gps", "gpsm"])
def test_all_images_once_have_the_ap_of_the_evaluation(cases, task):
    drawn, expected = (
        match_surfaces(cases, task).average_precision(),
        average_precision(cases, task),
    )
    assert drawn == pytest.approx({name: expected[name] for name in drawn}, abs=1e-9)
    assert 5 < drawn["AP"] < 95


def test_a_draw_has_the_ap_of_images_that_are_copied(cases):
    counts = np.random.default_rng(3).integers(0, 4, len(cases))
    # Equal scores within an image would stand in another order.
    distinct = {
        image: replace(part, scores=part.scores - 1e-4 * np.arange(len(part.scores)))
        for image, part in cases.items()
    }
    copies = {
        (image, copy): distinct[image]
        for image, count in zip(cases, counts, strict=True)
        for copy in range(count)
    }
    drawn = match_surfaces(distinct, "gps").average_precision(counts)
    expected = average_precision(copies, "gps")
    assert drawn == pytest.approx({name: expected[name] for name in drawn}, abs=1e-9)


def test_matches_are_kept_in_a_small_file(cases, tmp_path):
    matches = {task: match_surfaces(cases, task) for task in ("gps", "gpsm")}
    file = tmp_path / "new" / "matches.npz"
    write_matches(file, matches)
    draws = np.random.default_rng(0).integers(0, 3, (5, len(cases)))
    for task, of_task in matches.items():
        again = read_matches(file, task)
        assert again.image_ids == of_task.image_ids
        assert again.resampled(draws)["AP"].tolist() == of_task.resampled(draws)["AP"].tolist()
    assert file.stat().st_size < 6000


def test_images_without_people_or_detections_have_no_ap(tmp_path):
    nobody = {1: case(0, (0.9, 0.0)), 2: case(0)}
    write_matches(tmp_path / "matches.npz", {"gps": match_surfaces(nobody, "gps")})
    matches = read_matches(tmp_path / "matches.npz", "gps")
    assert np.isnan(matches.resampled(np.array([[1, 1], [2, 0]]))["AP"]).all()
    assert np.isnan(match_surfaces({}, "gps").average_precision()["AP"])
    # By the rules of the reference, detections in an image without people are not false.
    mixed = match_surfaces({1: nobody[1], 2: case(1, (0.5, 1.0))}, "gps")
    assert mixed.average_precision(np.array([3, 1]))["AP"] == pytest.approx(100)


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 cut short", "folder"])
def test_matches_that_are_missing_or_broken_are_named_with_the_cure(tmp_path, content):
    file = tmp_path / "matches.npz"
    if content == "folder":
        file.mkdir()
    elif content is not None:
        file.write_bytes(content)
    with pytest.raises(DataError, match=f"^{re.escape(str(file))} cannot be read .*--eval-only"):
        read_matches(file, "gps")
