"""The first iterations of the main job against stored curves.

A wanted change is recorded with ``scripts/record_loss_curve.py``, once with each backend.
"""

import maskrcnn_repro

import pytest

from tests.helpers.loss_curve import (
    ITERATIONS,
    TOLERANCE,
    TOTAL,
    deviation,
    loss_curve,
    read_curve,
    write_curve,
)
from tests.helpers.paths import STORED

FOLDER = STORED


def stored(backend):
    return read_curve(FOLDER / f"loss_curve_{backend}.txt")


def test_backends_agree():
    seed, curve = stored("embedded")
    other_seed, other = stored("installed")
    assert seed == other_seed
    assert deviation(curve, other) < 1e-4


# The first iterations are followed more closely than all: weights that are moved by 1e-6 of their size move a loss
# by up to 3e-5 of the total (12 tries), a half-pixel shift by 5e-4, a learning rate that is 10 % higher by 1e-2.
@pytest.mark.parametrize(
    ("iterations", "tolerance"),
    [(3, 2e-4), pytest.param(ITERATIONS, TOLERANCE, marks=pytest.mark.slow)],
)
def test_training_follows_the_stored_curve(tmp_path, iterations, tolerance):
    seed, expected = stored(maskrcnn_repro.BACKEND.name)
    assert len(expected[TOTAL]) == ITERATIONS
    curve = loss_curve(tmp_path, seed, iterations=iterations)
    begin = {name: values[:iterations] for name, values in expected.items()}
    assert deviation(curve, begin) < tolerance


def test_stored_training_learns_and_adds_up():
    _, curve = stored("installed")
    assert curve[TOTAL][-1] < 0.8 * curve[TOTAL][0]
    parts = [values for name, values in curve.items() if name != TOTAL]
    assert [sum(row) for row in zip(*parts, strict=True)] == pytest.approx(curve[TOTAL], rel=1e-5)


def test_deviation_is_relative_to_the_total():
    reference = {"loss_a": [1.0, 1.0], TOTAL: [4.0, 2.0]}
    moved = {"loss_a": [1.2, 1.0], TOTAL: [4.0, 2.2]}
    assert deviation(moved, reference) == pytest.approx(0.1)
    with pytest.raises(ValueError, match="loss_b"):
        deviation({"loss_b": [1.0]}, reference)


def test_a_file_holds_the_curve(tmp_path):
    curve = {"loss_a": [1.5, 0.25], TOTAL: [2.0, 1e-5]}
    write_curve(tmp_path / "curve.txt", 3, curve, "two steps")
    assert read_curve(tmp_path / "curve.txt") == (3, curve)
