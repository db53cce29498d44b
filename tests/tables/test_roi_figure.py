"""The figure with an RoI to drag, as Python draws it: readings worked out by hand, and the page in itself."""

import re

import maskrcnn_repro  # noqa: F401
from maskrcnn_repro.tables.report.html.roi_figure import (
    BINS,
    MARKED,
    PANELS,
    ROI,
    SIDE,
    STRIDE,
    feature_map,
    figure,
    outline,
    page,
    read,
    weight_text,
)

import numpy as np
import pytest

from tests.helpers.commands import draw_sampling

POOL, WARP, ALIGN = PANELS[:3]
RAMP = np.tile(np.arange(SIDE), (SIDE, 1))
"""A map on which the value of each cell is its column."""
CELLS_2_TO_9 = (28.0, 28.0, 150.0, 150.0)
"""1.75 to 9.375 cells, which round to 2 and 9."""


def columns(panel):
    return read(panel, CELLS_2_TO_9, RAMP).output.reshape(BINS, BINS)[3]


def test_on_a_ramp_an_average_is_the_centre_of_its_bin():
    numbers = np.arange(BINS) + 0.5
    assert np.allclose(columns(WARP), 2 + numbers)
    assert np.allclose(columns(ALIGN), 1.75 + numbers * 7.625 / BINS)


def test_on_a_ramp_roi_pool_gives_the_last_cell_of_each_bin():
    # Eight cells in seven bins of 8/7 cells: each ends within the next cell, the last with the RoI.
    assert columns(POOL).tolist() == [3, 4, 5, 6, 7, 8, 9]


def test_weights_of_the_marked_bin():
    """Row 2, column 1 of RoIWarp's bins of one cell: cells 3 and 4 of columns, 4 and 5 of rows."""
    assert (MARKED // BINS, MARKED % BINS) == (2, 1)
    reading = read(WARP, CELLS_2_TO_9, RAMP)
    # Points at a quarter and three quarters of a cell: each of the two cells has half of the weight.
    assert [tuple(entry) for entry in reading.weights] == [
        (row, column, 0.25, float(column)) for row in (4, 5) for column in (3, 4)
    ]
    assert reading.marked_points.tolist() == [
        [x, y] for y in (4.25, 4.75) for x in (3.25, 3.75)
    ]  # fmt: skip
    assert [weight for *_, weight, _ in read(POOL, CELLS_2_TO_9, RAMP).weights] == [1.0]
    assert [weight_text(weight) for weight in (0.25, 1.0, 0.004)] == [".25", "1", ""]


def test_numbers_of_the_first_roi():
    """70, 73, 183, 153 pixels are 4.4, 4.6, 11.4 and 9.6 cells, which round to 64, 80, 176 and 160 pixels."""
    (_, pool, in_words), _, (_, aligned, nothing) = figure()["panels"]
    assert in_words["moved"] == "\N{MINUS SIGN}6.0, +7.0, \N{MINUS SIGN}7.0, +7.0"
    assert in_words["shift"] == "6.8"
    assert in_words["difference"] == f"{np.abs(pool.output - aligned.output).mean():.1f}"
    assert set(nothing.values()) - {nothing["sum"]} == {"0, 0, 0, 0", "0.0"}
    assert sum(weight * value for *_, weight, value in aligned.weights) == pytest.approx(
        aligned.output[MARKED], abs=1e-4
    )


def test_the_map_shows_the_object_within_the_roi():
    cells = feature_map()
    assert cells.shape == (SIDE, SIDE)
    assert cells.min() >= 0
    assert 90 <= cells.max() <= 99
    points = outline()
    assert (points >= ROI[:2]).all()
    assert (points <= ROI[2:]).all()
    around = (np.array(ROI) / STRIDE).astype(int)
    outside = np.ones_like(cells, bool)
    outside[around[1] : around[3] + 2, around[0] : around[2] + 2] = False
    assert cells[outside].max() < 20


def test_the_page_needs_no_other_file(tmp_path):
    assert draw_sampling([str(tmp_path / "roi.html")]) == 0
    text = (tmp_path / "roi.html").read_text(encoding="utf-8")
    assert text == page()
    assert set(re.findall(r'(?:href|src)="([^"]*)"', text)) == {"data:,", "#roi-cells"}
    assert re.findall(r"https?://[^\s\"']+", text) == ["http://www.w3.org/2000/svg"]
    assert text.count("<script>") == 1
    outputs = re.findall(r'<svg class="roi-output".*?</svg>', text, re.DOTALL)
    assert [svg.count("<text") for svg in outputs] == [BINS * BINS] * 3
