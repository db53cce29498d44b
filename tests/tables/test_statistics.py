"""Intervals over seeds and images: by hand, what cancels, and how often they hold the truth."""

import math

from maskrcnn_repro.tables.report.statistics import interval, shared_variance, student_quantile

import numpy as np
import pytest


def drawn(images, draws, seed=0):
    """Return how often each image counts in each draw, (draws, images)."""
    chances = np.full(images, 1 / images)
    return np.random.default_rng(seed).multinomial(images, chances, size=draws)


def ends(values, resampled, level=95.0):
    bounds = interval(values, resampled, level=level, images=10)
    return bounds.low, bounds.high


@pytest.mark.parametrize(
    ("level", "freedom", "quantile"),
    [
        # From any printed table of Student's distribution.
        (95, 1, 12.706),
        (95, 2, 4.303),
        (90, 2, 2.920),
        (95, 10, 2.228),
        (95, math.inf, 1.960),
        (90, math.inf, 1.645),
    ],
)
def test_students_quantiles(level, freedom, quantile):
    assert student_quantile(level, freedom) == pytest.approx(quantile, abs=6e-4)


def test_students_quantiles_fall_to_the_normal_one_without_a_jump():
    quantiles = [student_quantile(95, freedom) for freedom in (1.5, 100, 9_999, 10_001)]
    assert quantiles == sorted(quantiles, reverse=True)
    assert quantiles[2] - quantiles[3] < 3e-4


def test_a_difference_that_is_the_same_in_all_images_and_seeds_has_no_width():
    same = {seed: np.full(50, 3.0) for seed in (1, 2, 3)}
    assert ends(dict.fromkeys((1, 2, 3), 3.0), same) == (3.0, 3.0)


def test_two_seeds_by_hand():
    # Each draw takes one of the two seeds: 1 or 3, a standard deviation of 1 around 2. One degree of freedom.
    low, high = ends({1: 1.0, 2: 3.0}, {1: np.full(4000, 1.0), 2: np.full(4000, 3.0)})
    assert (low + high) / 2 == pytest.approx(2.0)
    assert (high - low) / 2 == pytest.approx(12.706, rel=0.01)


def test_seeds_and_images_by_hand():
    # Seeds: 12.706 ** 2 * 50 / 2. Images: both seeds share draws of +-3, a variance of 9; what each has alone cancels.
    shared = np.tile([3.0, -3.0, 3.0, -3.0], 1000)
    alone = np.tile([5.0, 5.0, -5.0, -5.0], 1000)
    low, high = ends({1: 0.0, 2: 10.0}, {1: shared + alone, 2: 10 + shared})
    expected = math.sqrt(12.706**2 * 25 + 1.95996**2 * 9)
    assert (high - low) / 2 == pytest.approx(expected, rel=1e-3)


def test_seeds_whose_images_disagree_share_nothing():
    drawn = np.array([[1.0, -1.0, 1.0, -1.0], [-1.0, 1.0, -1.0, 1.0]])
    assert shared_variance(drawn) == 0.0
    assert shared_variance(drawn[:1]) == pytest.approx(4 / 3)


def test_one_seed_by_hand_rests_on_images_alone():
    # 400 images, half of them 0 and half 8: their mean has a standard error of 4 / 20.
    values = np.repeat([0.0, 8.0], 200)
    resampled = drawn(400, 4000) @ values / 400
    low, high = ends({7: 4.0}, {7: resampled})
    assert (low + high) / 2 == pytest.approx(4.0)
    assert (high - low) / 2 == pytest.approx(1.96 * 0.2, rel=0.05)
    assert ends({7: 4.0}, {7: resampled}, level=90.0)[1] < high


def test_the_other_difference_has_the_other_interval():
    random = np.random.default_rng(0)
    values = {seed: float(random.normal()) for seed in (1, 2, 3)}
    resampled = {seed: value + random.normal(size=200) for seed, value in values.items()}
    low, high = ends(values, resampled)
    other = ends({s: -v for s, v in values.items()}, {s: -v for s, v in resampled.items()})
    assert other == pytest.approx((-high, -low))


def test_variation_shared_by_two_models_cancels_in_their_difference():
    random = np.random.default_rng(0)
    luck = {seed: random.normal(0, 5, 200) for seed in (1, 2, 3)}
    first = {seed: 40 + shift for seed, shift in luck.items()}
    second = {seed: 38 + shift for seed, shift in luck.items()}
    low, high = ends(dict.fromkeys(luck, 2.0), {seed: first[seed] - second[seed] for seed in luck})
    assert (low, high) == pytest.approx((2.0, 2.0))


def test_draws_without_any_object_are_left_out():
    resampled = np.array([1.0, np.nan, 3.0, 1.0, 3.0])
    bounds = interval({1: 2.0}, {1: resampled}, level=95.0, images=5)
    assert (bounds.high - 2.0) == pytest.approx(1.96 * np.std([1, 3, 1, 3], ddof=1), rel=1e-3)


PARTS = {
    # What the mean over images varies by, from seed to seed, image sample to image sample, and both together.
    "seeds": (1.0, 0.1, 0.1),
    "images": (0.1, 1.0, 0.1),
    "interaction": (0.1, 0.1, 1.0),
    "equal": (1.0, 1.0, 1.0),
}


def coverage(seeds, parts, level, trials, images=100):
    """Return the share, per cent, of simulated experiments whose interval holds the true difference of 0."""
    random = np.random.default_rng(seeds)
    counts = drawn(images, 200)
    of_seed, of_image, of_both = parts[0], *(part * math.sqrt(images) for part in parts[1:])
    held = 0
    for _ in range(trials):
        values = of_seed * random.normal(size=(seeds, 1)) + of_image * random.normal(size=images)
        values = values + of_both * random.normal(size=(seeds, images))
        means = dict(enumerate(values.mean(axis=1).tolist()))
        low, high = ends(means, dict(enumerate((counts @ values.T / images).T)), level)
        held += low <= 0 <= high
    return 100 * held / trials


@pytest.mark.parametrize("name", PARTS)
def test_intervals_hold_the_truth_as_often_as_they_say(name):
    # Three standard errors of 300 trials are 4 %.
    assert coverage(3, PARTS[name], 95.0, 300) > 91


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("name", PARTS)
def test_coverage_is_neither_too_low_nor_too_high(name, seeds):
    # 4,000 trials: a standard error of 0.3 %.
    high = 99.0 if (name, seeds) == ("equal", 2) else 98.0
    assert 93.0 <= coverage(seeds, PARTS[name], 95.0, 4000) <= high


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("name", PARTS)
def test_coverage_of_the_interval_that_says_alike(name, seeds):
    assert 88.0 <= coverage(seeds, PARTS[name], 90.0, 4000) <= 97.0
