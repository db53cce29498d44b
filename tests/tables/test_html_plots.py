"""Plots of the HTML report: what stands in the SVG, held against numbers worked out by hand."""

import re
from types import SimpleNamespace
from xml.etree import ElementTree

import maskrcnn_repro  # noqa: F401
from maskrcnn_repro.errors import OutputError
from maskrcnn_repro.tables.report.curve_files import read_metrics
from maskrcnn_repro.tables.report.html.curves import MOST_POINTS, Line, curves, plot, thin
from maskrcnn_repro.tables.report.html.gaps import WIDTH, Gap, axis, scale, strip
from maskrcnn_repro.tables.report.html.sampling import (
    CELLS,
    PANELS,
    ROI,
    STRIDE,
    bins_of,
    svg_panels,
    write_figure,
)
from maskrcnn_repro.tables.report.words import TEMPLATES, format_with_minus
from maskrcnn_repro.visualization.plotting import COLORS, inline_svg, new_figure, style, whole_axes

import numpy as np
import pytest

from tests.helpers.commands import draw_sampling

MINUS = "\N{MINUS SIGN}"
SVG = "{http://www.w3.org/2000/svg}"
GIVEN = np.array(ROI) / STRIDE


def markers(svg):
    """Return x and y of all markers."""
    nodes = ElementTree.fromstring(svg).iter(f"{SVG}use")
    return [(float(node.attrib["x"]), float(node.attrib["y"])) for node in nodes]


# --- SVG in a page


def drawn(name):
    with style():
        figure = new_figure(100, 50)
        axes = whole_axes(figure)
        axes.plot([0, 1], [0, 1], "o", color=COLORS["ours"])
        axes.plot([0, 2], [0, 1], color=COLORS["ink"])
        axes.set_xlim(0, 1)
        return inline_svg(figure, name, 'a "label" <here>')


def test_several_pictures_share_neither_ids_nor_style_sheets():
    first, second = drawn("one"), drawn("two")
    ids = [re.findall(r' id="([^"]+)"', svg) for svg in (first, second)]
    assert ids[0]
    assert not set(ids[0]) & set(ids[1])
    for svg, own in zip((first, second), ids, strict=True):
        assert set(re.findall(r"url\(#([^)]+)\)", svg)) <= set(own)
        assert set(re.findall(r'href="#([^"]+)"', svg)) <= set(own)
        assert re.search(r"url\(#", svg)
        assert "<style" not in svg
        assert "<metadata" not in svg


def test_a_picture_is_the_same_each_time_but_for_its_name():
    assert drawn("one") == drawn("one")
    assert str(drawn("one")).replace("one-", "two-") == drawn("two")


def test_colours_are_the_pages_own_and_a_label_is_escaped():
    svg = drawn("one")
    assert "var(--ours)" in svg
    assert "var(--ink)" in svg
    assert not re.search(r"#[0-9a-f]{6}\b", svg)
    assert 'aria-label="a &quot;label&quot; &lt;here&gt;"' in svg


def test_the_style_sheet_has_every_colour_in_both_schemes():
    assert len(set(COLORS.values())) == len(COLORS)
    light, dark = (TEMPLATES / "style.css").read_text().split("prefers-color-scheme: dark", 1)
    for role in COLORS:
        assert re.search(rf"--{role}: #[0-9a-f]{{6}};", light), role
        assert re.search(rf"--{role}: #[0-9a-f]{{6}};", dark.split("* {")[0]), role


# --- gaps


def test_a_scale_has_all_gaps_and_zero_on_it():
    assert scale([]) == pytest.approx((-2.16, 2.16))
    low, high = scale([Gap(3.0, (1.0, 8.0), 4.0), Gap(None, None, -5.0)])
    assert (low, high) == pytest.approx((-5.52, 8.52))


def test_ours_and_the_papers_gap_stand_at_their_places_by_hand():
    # 320 pixels for -2 to 6: 40 for each point, zero at 80.
    svg = strip(Gap(3.0, (2.0, 4.5), 1.0), (-2.0, 6.0), "s", "label")
    assert WIDTH == 320
    assert sorted(x for x, _ in markers(svg)) == pytest.approx([120.0, 200.0])
    ends = re.findall(r"M ([\d.]+) [\d.]+\s+L ([\d.]+) [\d.]+", svg)
    assert ("160", "260") in ends


def test_a_claims_band_is_cut_off_at_the_ends_of_the_scale():
    svg = strip(Gap(band=(0.0, float("inf"))), (-2.0, 6.0), "s", "label")
    (band,) = re.findall(r'<path d="M ([^"]+)"[^>]*var\(--band\)', svg)
    xs = {round(float(pair.split()[0])) for pair in band.replace("z", "").split("L")}
    assert xs == {80, 320}


def test_a_strip_of_nothing_is_a_strip():
    assert markers(strip(Gap(), (-2.0, 2.0), "s", "label")) == []


def test_gaps_have_a_sign_and_no_minus_zero():
    assert [format_with_minus(x) for x in (3.44, -3.44, -0.04, 0.0)] == [
        "+3.4",
        f"{MINUS}3.4",
        "+0.0",
        "+0.0",
    ]
    assert f">{MINUS}2<" in axis((-2.5, 6.0), "scale")
    assert ">0<" in axis((-2.5, 6.0), "scale")


def test_an_outlier_does_not_squash_the_scale_by_hand():
    # The quartiles of 1, 2, 3, 4 and 240 are 2 and 4: beyond 4 + 3 * 2 nothing counts.
    gaps = [Gap(number) for number in (1.0, 2.0, 3.0, 4.0, 240.0)]
    low, high = scale(gaps)
    assert (low, high) == pytest.approx((-2.24, 4.24))
    # Its arrow stands at the end of the scale, with its number.
    svg = strip(Gap(240.0, (-99.0, 250.0), -90.0), (low, high), "s", "label")
    assert sorted(x for x, _ in markers(svg)) == pytest.approx([0.02 * WIDTH, 0.98 * WIDTH])
    assert re.findall(r"<text[^>]*>\s*([^<\s]+)\s*</text>", svg) == [f"{MINUS}90.0", "+240.0"]
    ends = re.findall(r"M ([\d.]+) [\d.]+\s+L ([\d.]+) [\d.]+", svg)
    assert ("0", "320") in ends


def test_without_an_outlier_all_gaps_are_on_the_scale():
    numbers = (-8.0, 1.0, 2.0, 9.0)
    low, high = scale([Gap(number) for number in numbers])
    assert low < -8.0
    assert high > 9.0


# --- curves


def loss_lines(*values):
    runs = [({"total_loss": dict(enumerate(each))},) for each in values]
    return [Line(f"row {number}", number, run) for number, run in enumerate(runs)]


def numbers_in(svg):
    words = re.findall(r"<text[^>]*>([^<]*)</text>", svg)
    return [float(word) for word in words if re.fullmatch(r"[\d.]+", word)]


def test_a_loss_that_diverges_leaves_the_plot_and_is_named():
    falling = [4.0 - 0.1 * step for step in range(30)]
    diverged = [4.0] * 5 + [1e6] * 25
    svg = plot(loss_lines(falling, diverged), "Total loss", "total_loss", "p")
    # Four times as high as the first line needs, 3, and iterations to 29.
    assert max(numbers_in(svg)) <= 30
    assert "row 1: up to 1e+06" in svg
    assert "row 1 leaves the plot at its top" in svg
    assert "row 0 leaves" not in svg


def test_losses_that_lie_together_stay_as_they_are():
    falling = [4.0 - 0.1 * step for step in range(30)]
    svg = plot(loss_lines(falling, falling[::-1]), "Total loss", "total_loss", "p")
    assert "leaves" not in svg
    # An AP has a bound: the better row is no outlier of the worse.
    lines = [
        Line(name, number, ({"segm/AP": dict.fromkeys(range(9), value)},))
        for number, (name, value) in enumerate((("bad", 1.0), ("good", 60.0)))
    ]
    svg = plot(lines, "AP", "segm/AP", "p")
    assert "leaves" not in svg
    assert max(numbers_in(svg)) >= 50


def read(tmp_path, text):
    path = tmp_path / "metrics.json"
    path.write_text(text)
    return read_metrics(path)


def test_a_resumed_runs_second_value_of_an_iteration_counts(tmp_path):
    text = '{"iteration": 9, "a": 1}\n{"iteration": 19, "a": 2}\n{"iteration": 9, "a": 3}\n'
    assert read(tmp_path, text) == ({"iteration": {9: 9, 19: 19}, "a": {9: 3, 19: 2}}, "")


def test_what_is_no_number_or_cut_off_is_skipped_and_named(tmp_path):
    values, problem = read(
        tmp_path, '{"iteration": 9, "a": NaN, "b": 1}\n{"iteration": 19, "b\n[]\n'
    )
    assert values == {"iteration": {9: 9}, "b": {9: 1}}
    assert problem == f"{tmp_path / 'metrics.json'}: 2 lines are no metrics and were skipped"


def test_an_unreadable_metrics_file_is_named_but_a_missing_one_is_not(tmp_path):
    (tmp_path / "metrics.json").write_bytes(b"\xff\xfe")
    values, problem = read_metrics(tmp_path / "metrics.json")
    assert values == {}
    assert "metrics.json cannot be read" in problem
    assert read_metrics(tmp_path / "none" / "metrics.json") == ({}, "")


def test_ap_of_several_checkpoints_is_drawn_and_that_of_the_end_alone_is_not():
    row = SimpleNamespace(name="baseline")
    report = SimpleNamespace(
        table="2c",
        columns=[SimpleNamespace(task="segm", key="AP", title="Mask AP")],
        rows=[row],
        runs=lambda row: [SimpleNamespace(results="results.json")],
    )
    levelled_off = {225: 10.0, 450: 30.0, 675: 30.0}
    drawn = curves(report, lambda path: ({"segm/AP": levelled_off}, ""))
    ((title, svg),) = drawn.plots
    assert title == "Mask AP while training"
    assert "Mask AP while training over iterations of baseline." in svg
    # Drawn left to right: up by 20 points, then level.
    path = next(
        node.attrib["d"]
        for node in ElementTree.fromstring(svg).iter(f"{SVG}path")
        if "stroke-width: 1.6" in node.attrib.get("style", "")
    )
    (x0, y0), (x1, y1), (x2, y2) = np.array(re.findall(r"-?[0-9.]+", path), float).reshape(-1, 2)
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.01)
    assert y0 - y1 > 100
    assert y2 == y1
    assert curves(report, lambda path: ({"segm/AP": {675: 30.0}}, "")).plots == ()


def test_long_curves_are_averaged_by_hand():
    steps = np.arange(2.0 * MOST_POINTS)
    x, values = thin(steps, np.stack([steps, steps + 1]))
    assert len(x) == MOST_POINTS
    assert (x[0], values[0, 0], values[1, 0]) == (0.5, 0.5, 1.5)
    few = np.arange(3.0)
    assert thin(few, few[None])[1].tolist() == [[0.0, 1.0, 2.0]]


# --- where the operations read


def panel(title):
    return next(p for p in PANELS if p.title == title)


def edges(points):
    """Return the borders of the bins along x and along y."""
    bins = bins_of(points)
    return bins[0][:, [0, 2]].tolist(), bins[:, 0][:, [1, 3]].tolist()


def test_roi_pools_bins_by_hand():
    # x from 1.4375 to 7.3125 is rounded to cells 1 to 7, seven for three bins; y from 1.625 to 5.6875 to
    # cells 2 to 6, five for three. A cell reaches half a cell to each side of its centre.
    across, down = edges(panel("RoIPool").points())
    assert across == [[0.5, 3.5], [2.5, 5.5], [4.5, 7.5]]
    assert down == [[1.5, 3.5], [2.5, 5.5], [4.5, 6.5]]


def test_roi_warp_divides_the_rounded_roi_by_hand():
    across, down = edges(panel("RoIWarp").points())
    assert np.allclose(across, [[1, 3], [3, 5], [5, 7]])
    assert np.allclose(down, [[2, 2 + 4 / 3], [2 + 4 / 3, 2 + 8 / 3], [2 + 8 / 3, 6]])


def test_roi_align_divides_the_roi_as_it_was_given():
    across, down = edges(panel("RoIAlign").points())
    x1, y1, x2, y2 = GIVEN
    assert np.allclose([across[0][0], across[2][1], down[0][0], down[2][1]], [x1, x2, y1, y2])
    assert np.allclose([across[0][1], down[0][1]], [x1 + (x2 - x1) / 3, y1 + (y2 - y1) / 3])


def test_the_half_pixel_shift_moves_every_point_half_a_cell():
    plain, shifted = (panel(n).points() for n in ("RoIAlign", "RoIAlign, half-pixel shift"))
    assert np.allclose(plain - shifted, 0.5)


def test_a_panel_has_every_point_at_its_place():
    for panel, svg in svg_panels():
        points = panel.points().reshape(-1, 2)
        points = points[~np.isnan(points).any(axis=1)]
        centres = np.array(markers(svg))
        assert len(centres) == len(points) + CELLS[0] * CELLS[1]
        # Cells lie 29.85 pixels apart; the first centre is found, not assumed.
        at = centres[: CELLS[0] * CELLS[1]]
        pitch = np.ptp(at, axis=0) / (np.array(CELLS) - 1)
        cells = (centres[CELLS[0] * CELLS[1] :] - at.min(axis=0)) / pitch
        assert np.abs(np.sort(cells, axis=0) - np.sort(points, axis=0)).max() < 1e-3


def test_the_figure_alone_is_the_same_file_each_time(tmp_path):
    assert draw_sampling([str(tmp_path / "a.svg")]) == 0
    write_figure(tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    for panel in PANELS:
        assert panel.title in (tmp_path / "a.svg").read_text()


def test_a_figure_of_another_kind_is_refused(tmp_path, capsys):
    with pytest.raises(OutputError, match=r"a\.pdf' ends in none of"):
        write_figure(tmp_path / "a.pdf")
    assert draw_sampling([str(tmp_path / "a.pdf")]) == 2
    assert "ends in none of .svg, .png and .html" in capsys.readouterr().err


def test_seeds_without_a_common_iteration_have_no_line():
    runs = ({9: 1.0}, {19: 2.0})
    steps, values = thin(np.array([]), np.zeros((2, 0)))
    assert (len(steps), values.shape) == (0, (2, 0))
    line = Line("a", 0, tuple({"total_loss": run} for run in runs))
    empty = Line("b", 1, ({"total_loss": {9: 1.0, 19: 2.0}},))
    svg = plot([line, empty], "Total loss", "total_loss", "p")
    assert max(numbers_in(svg)) >= 15
