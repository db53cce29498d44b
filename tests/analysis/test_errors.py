"""Kinds of error and what they cost, each worked out by hand on one image."""

import maskrcnn_repro  # noqa: F401
from maskrcnn_repro.analysis.analysis import analyze
from maskrcnn_repro.analysis.error_kinds import KINDS, NO_ERROR
from maskrcnn_repro.analysis.evaluation_set import read_set

import numpy as np
import pytest

from tests.helpers.detections import write_pair

HERE, THERE = (10, 10, 20, 20), (60, 60, 20, 20)
HALF = (10, 10, 20, 8)
"""IoU with HERE: 160 / 400 = 0.4."""


def analysis(folder, objects, detections, **options):
    task = options.pop("task", "bbox")
    return analyze(read_set(*write_pair(folder, objects, detections), None, task), **options)


def kinds(result):
    return [list(KINDS)[kind] if kind != NO_ERROR else "" for kind in result.errors.kinds]


@pytest.mark.parametrize("task", ["bbox", "segm"])
@pytest.mark.parametrize(
    ("detection", "kind"),
    [
        ((0, 0, HERE, 0.9), ""),
        ((0, 1, HERE, 0.9), "class"),
        ((0, 0, HALF, 0.9), "place"),
        ((0, 1, HALF, 0.9), "both"),
        ((0, 0, THERE, 0.9), "background"),
        ((0, 1, THERE, 0.9), "background"),
    ],
)
def test_the_kind_of_an_error(tmp_path, detection, kind, task):
    result = analysis(tmp_path, [(0, 0, HERE)], [detection], task=task)
    assert kinds(result) == [kind]
    # An object that an error of class or place is about is not missed as well.
    assert result.errors.count("missed") == (kind in ("both", "background"))


def test_of_two_detections_on_an_object_the_second_is_a_duplicate(tmp_path):
    result = analysis(tmp_path, [(0, 0, HERE)], [(0, 0, HERE, 0.8), (0, 0, HERE, 0.9)])
    assert kinds(result) == ["", "duplicate"]
    assert result.matching.hits.tolist() == [[True, False]]


def test_the_threshold_decides_between_hit_and_place(tmp_path):
    for iou, kind in ((0.4, ""), (0.41, "place")):
        assert kinds(analysis(tmp_path, [(0, 0, HERE)], [(0, 0, HALF, 0.9)], iou=iou)) == [kind]


def test_a_place_is_tested_before_a_class(tmp_path):
    """A detection that is on an object of another class, too."""
    objects = [(0, 0, HERE), (0, 1, HALF)]
    assert kinds(analysis(tmp_path, objects, [(0, 0, HALF, 0.9)])) == ["place"]


def costs(result):
    return {kind: round(value, 3) for kind, value in result.costs.items() if abs(value) > 1e-9}


def test_what_an_error_of_class_costs(tmp_path):
    """AP of class 0 is 0; mended, its detection is a hit: 100. Class 1 has no object."""
    result = analysis(tmp_path, [(0, 0, HERE)], [(0, 1, HERE, 0.9)])
    assert costs(result) == {"class": 100.0}


def test_what_an_error_of_place_costs(tmp_path):
    """Two objects, one found: recalls 0 to 0.5 of COCO's 101 have precision 1, 51 / 101; mended 100.

    The error has the higher score: before, precision at the hit is 1 / 2, so 51 / 202. Without the error alone it is
    51 / 101, with one object instead of two, 1 / 2.
    """
    objects = [(0, 0, HERE), (0, 0, THERE)]
    result = analysis(tmp_path, objects, [(0, 0, HALF, 0.9), (0, 0, THERE, 0.8)])
    before = 100 * 51 / 202
    assert costs(result) == {
        "place": round(100 - before, 3),
        "all false alarms": round(100 * 51 / 101 - before, 3),
        "all misses": round(50 - before, 3),
    }


@pytest.mark.parametrize(
    ("kind", "detection"),
    [
        ("both", (0, 0, (60, 60, 20, 8), 0.95)),
        ("duplicate", (0, 0, HERE, 0.8)),
        ("background", (0, 0, (80, 5, 9, 9), 0.95)),
    ],
)
def test_what_an_error_costs_that_goes(tmp_path, kind, detection):
    """Classes 0 and 1 with two objects and one: 0 has a hit of score 0.9, the error, and another hit of 0.7.

    For an error before the first hit the precision is 2 / 3 at all recalls; for the duplicate between the two hits it
    is 1 up to recall 0.5 (51 of 101) and 2 / 3 above.
    """
    objects = [(0, 0, HERE), (0, 0, (5, 60, 20, 20)), (0, 1, THERE)]
    found = [(0, 0, HERE, 0.9), (0, 0, (5, 60, 20, 20), 0.7), (0, 1, THERE, 0.9)]
    result = analysis(tmp_path, objects, [*found, detection])
    before = (51 + 50 * 2 / 3) / 101 if kind == "duplicate" else 2 / 3
    gained = round(100 * (1 - before) / 2, 3)
    assert costs(result) == {kind: gained, "all false alarms": gained}


def test_what_a_missed_object_costs(tmp_path):
    result = analysis(tmp_path, [(0, 0, HERE), (0, 0, THERE)], [(0, 0, HERE, 0.9)])
    gained = round(100 - 100 * 51 / 101, 3)
    assert costs(result) == {"missed": gained, "all misses": gained}


def test_of_several_errors_on_an_object_one_becomes_the_hit(tmp_path):
    """Without the others: precision 1, as their removal is part of the mending; a found object wins nothing."""
    near = [(0, 0, HALF, 0.9), (0, 0, (10, 10, 20, 7), 0.8)]
    assert analysis(tmp_path, [(0, 0, HERE)], near).costs["place"] == pytest.approx(100)
    found = [(0, 0, HERE, 0.5), *near]
    assert analysis(tmp_path, [(0, 0, HERE)], found).costs["place"] == pytest.approx(100 - 100 / 3)


def test_a_crowd_is_no_object_and_what_lies_in_it_no_error(tmp_path):
    objects = [(0, 0, (0, 0, 90, 90), {"iscrowd": 1}), (0, 0, (92, 92, 6, 6))]
    detections = [(0, 0, HERE, 0.9), (0, 0, THERE, 0.8), (0, 1, HERE, 0.7)]
    result = analysis(tmp_path, objects, detections)
    assert kinds(result) == ["", "", "background"]
    assert result.matching.hits.sum() == 0
    assert result.matching.false_alarms.tolist() == [[False, False, True]]
    assert result.errors.missed.tolist() == [False, True]


def test_nothing_is_nothing(tmp_path):
    result = analysis(tmp_path, [], [])
    assert result.errors.kinds.shape == (0,)
    assert all(np.isnan(cost) for cost in result.costs.values())
    result = analysis(tmp_path, [], [(0, 0, HERE, 0.9)])
    assert kinds(result) == ["background"]
    assert result.calibration.error == pytest.approx(0.9)
    result = analysis(tmp_path, [(0, 0, HERE)], [])
    assert result.costs["background"] == 0
    assert np.isnan(result.calibration.error)
