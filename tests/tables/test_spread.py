"""The spread between seeds of a level: pooled by hand, without trainings that vary more."""

from types import SimpleNamespace

from maskrcnn_repro.tables.report.evidence import Evidence
from maskrcnn_repro.tables.report.spread import pool

import numpy as np
import pytest


def test_two_trainings_of_two_and_three_seeds_by_hand():
    # Squares around the means: 2 * 1 ** 2 with 1 degree of freedom, 2 ** 2 + 2 ** 2 with 2: 10 / 3.
    spread = pool("AP", {"a": [30.0, 32.0], "b": [20.0, 22.0, 24.0], "alone": [50.0]})
    assert spread.deviation**2 == pytest.approx(10 / 3)
    assert (spread.freedom, spread.trainings, spread.wider) == (3, 2, ())


def test_without_a_second_seed_there_is_no_spread():
    assert pool("AP", {"a": [30.0], "b": [20.0]}) is None
    assert pool("AP", {}) is None


def test_a_training_whose_seeds_lie_far_apart_is_left_out():
    alike = {name: [0.0, 1.0, 2.0] for name in "abcdef"}
    spread = pool("AP", {**alike, "joint": [0.0, 20.0, 40.0]})
    assert (spread.wider, spread.trainings, spread.freedom) == (("joint",), 6, 12)
    assert spread.deviation == pytest.approx(1.0)
    # Its variance is 9 times theirs: with 2 and 12 degrees of freedom a chance of 0.4 %, below 5 % / 7; 5 times is 2.6 %.
    assert pool("AP", {**alike, "j": [0.0, 3.0, 6.0]}).wider == ("j",)
    assert pool("AP", {**alike, "j": [0.0, 5**0.5, 2 * 5**0.5]}).wider == ()


def test_two_trainings_stay_together_however_they_vary():
    assert pool("AP", {"a": [0.0, 1.0], "b": [0.0, 100.0]}).wider == ()


def test_trainings_whose_seeds_agree_to_the_last_digit():
    same = {name: [5.0, 5.0] for name in "abc"}
    assert pool("AP", same).deviation == 0.0
    assert pool("AP", {**same, "other": [5.0, 6.0]}).wider == ("other",)


def test_trainings_that_vary_alike_seldom_leave_the_pool():
    random = np.random.default_rng(0)
    left = [
        len(pool("AP", dict(enumerate(random.normal(size=(12, 3))))).wider) > 0 for _ in range(200)
    ]
    assert np.mean(left) == pytest.approx(0.05, abs=0.045)


def test_unpooled_trainings_and_evaluations_add_nothing(monkeypatch):
    monkeypatch.setattr(
        "maskrcnn_repro.tables.report.evidence.value_of", lambda record, column: record
    )
    records = {"a": {1: 10.0, 2: 12.0}, "again": {1: 0.0, 2: 9.0}, "short": {1: 0.0, 2: 9.0}}
    evidence = Evidence(
        SimpleNamespace(records=records), {"AP": "AP"}, None, {"again": "a"}, unpooled={"short"}
    )
    spread = evidence.spread(["AP"])
    # The variance of 10 and 12 is 2, of one degree of freedom.
    assert (spread.deviation, spread.freedom) == (pytest.approx(2**0.5), 1)
