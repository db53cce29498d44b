"""Polygons and run-length encodings without pycocotools, held against it where they are sound."""

import math
import subprocess
import sys

from maskrcnn_repro.data.check import outlines
from maskrcnn_repro.data.check.outlines import Defective, bounds_of, run_bounds, runs_of

import numpy as np
import pycocotools.mask as coco_mask
import pytest


def test_bounds_by_hand():
    assert bounds_of([[1, 2, 5, 2, 5, 7], [0.5, 3, 2, 3, 2, 4]], 10, 10) == (0.5, 2, 5, 7)
    # Column 1: rows 2 and 3; the mask is 4 high.
    assert run_bounds([6, 2, 4], 4) == (1, 2, 2, 4)
    # From the last row of column 0 to the first of column 1.
    assert run_bounds([3, 2, 7], 4) == (0, 0, 2, 4)
    assert run_bounds([12], 4) is None


def test_the_length_of_an_outline_by_hand(monkeypatch):
    # Edges of 4, 5 and 5 px by the larger of width and height, and 3 + 3 + 3 + 3.
    outline = [[1, 2, 5, 2, 5, 7], [0, 0, 3, 0, 3, 3, 0, 3]]
    monkeypatch.setattr(outlines, "MAX_LENGTH", 26)
    assert bounds_of(outline, 1333, 10) == (0, 0, 5, 7)
    monkeypatch.setattr(outlines, "MAX_LENGTH", 25)
    with pytest.raises(Defective) as caught:
        bounds_of(outline, 1333, 10)
    assert caught.value.code == "outline-too-long"
    assert caught.value.values == {"value": "26", "limit": 25}


@pytest.mark.parametrize("side", [13, 1333, 4000])
def test_an_outline_of_a_small_image_stays_within_the_limit_when_training_enlarges_it(side):
    # Edges of `side` px, as many as the limit has when the image is 1,333 px wide: the outline grows with it.
    edges = outlines.MAX_LENGTH // max(1333, side) // 2 * 2
    zigzag = [v for row in range(edges // 2) for v in (0, row / edges, side, row / edges)]
    assert bounds_of([zigzag], side, side)[2] == side
    with pytest.raises(Defective, match="outline-too-long"):
        bounds_of([zigzag, zigzag[:40]], side, side)


def test_a_zigzag_of_60000_points_is_refused():
    # 60,000 edges of 8,000 px, for which pycocotools would take 38 GB.
    zigzag = [value for row in range(30_000) for value in (0, row / 4, 8000, row / 4)]
    with pytest.raises(Defective, match="outline-too-long") as caught:
        bounds_of([zigzag], 8000, 8000)
    assert int(caught.value.values["value"]) == 480_000_000


@pytest.mark.slow
def test_the_longest_outline_is_decoded_within_its_limit_of_memory():
    code = """
import resource, sys
from pathlib import Path
from maskrcnn_repro.data.check.outlines import MAX_LENGTH, bounds_of
from maskrcnn_repro.data.thin_parts import outline_mask
edges = MAX_LENGTH // 2000 // 2 * 2
zigzag = [v for row in range(edges // 2) for v in (0, row / 3, 2000, row / 3)]
assert bounds_of([zigzag], 2000, 2000)
size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 90 * MAX_LENGTH, -1))
assert outline_mask([zigzag], 2000, 2000).any()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": ":".join(sys.path)}, check=False
    )
    assert done.returncode == 0


ODD = (
    0,
    1,
    5,
    35,
    -3,
    2**32,
    10**400,
    2.5,
    math.nan,
    math.inf,
    1e308,
    True,
    None,
    "7",
    [],
    {},
    "dP1",
)


def test_runs_and_bounds_are_those_of_pycocotools():
    random = np.random.default_rng(0)
    for _ in range(60):
        height, width = random.integers(1, 40, 2).tolist()
        mask = (random.random((height, width)) < random.choice([0, 0.01, 0.5, 1])).astype(np.uint8)
        counts = coco_mask.encode(np.asfortranarray(mask))["counts"].decode()
        runs = runs_of(counts)
        assert np.array_equal(np.repeat(np.arange(len(runs)) % 2, runs), mask.T.ravel())
        bounds = bounds_of({"size": [height, width], "counts": counts}, width, height)
        left, top, wide, high = coco_mask.toBbox({"size": [height, width], "counts": counts})
        # pycocotools has a box of zeros for an empty mask.
        assert bounds == ((left, top, left + wide, top + high) if mask.any() else None)
        listed = {"size": [height, width], "counts": runs.tolist()}
        assert bounds_of(listed, width, height) == bounds


def drawn(random, depth):
    """A random piece of JSON."""
    if depth and random.random() < 0.7:
        return [drawn(random, depth - 1) for _ in range(random.integers(0, 9))]
    return ODD[random.integers(len(ODD))] if random.random() < 0.5 else float(random.random() * 9)


def test_any_outline_gives_bounds_about_the_image_or_a_code():
    random = np.random.default_rng(0)
    codes = set()
    for round_ in range(2000):
        counts = "".join(chr(random.integers(40, 115)) for _ in range(random.integers(1, 9)))
        rle = {"size": [5, 7], "counts": counts if round_ % 4 else drawn(random, 1)}
        outline = rle if round_ % 2 else drawn(random, 2)
        try:
            bounds = bounds_of(outline, 7, 5)
        except Defective as defect:
            codes.add(defect.code)
        else:
            left, top, right, bottom = bounds or (0, 0, 1, 1)
            assert -7 <= left < right <= 14
            assert -7 <= top < bottom <= 12
    assert len(codes) > 10
