"""The HTML report, read as a document: all of it is there, none of it comes from elsewhere."""

import re
from dataclasses import replace

from maskrcnn_repro import _location
from maskrcnn_repro.commands import table_reports as cli
from maskrcnn_repro.commands.table_views import View
from maskrcnn_repro.data.image_file import ImageFiles
from maskrcnn_repro.data.synthetic.families import is_generated
from maskrcnn_repro.tables.report import pictured
from maskrcnn_repro.tables.report.html import Shown, write_page
from maskrcnn_repro.tables.report.kept_reading import kept_report
from maskrcnn_repro.tables.report.model import Cell
from maskrcnn_repro.visualization.draw import Style

import pytest

from tests.helpers.html_runs import (
    DATASET,
    NASTY,
    Page,
    register_tiny,
    report_of,
    row_of,
    whole_report,
    write_detections,
    write_record,
)
from tests.helpers.paths import ROOT

MINUS, DASH = "\N{MINUS SIGN}", "\N{EN DASH}"
HOLDS, FAILS = "\N{CHECK MARK}", "\N{MULTIPLICATION X}"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Runs that no test changes."""
    return tmp_path_factory.mktemp("html")


@pytest.fixture(scope="module")
def truth(base):
    return register_tiny(base)


@pytest.fixture(scope="module")
def shown(base, truth):
    """The page of these runs, parsed, and its text."""
    page, text, problems = written(base / "output", whole_report(base / "output", truth))
    assert problems == ()
    return page, text


@pytest.fixture
def page(shown):
    return shown[0]


@pytest.fixture
def text(shown):
    return shown[1]


@pytest.fixture
def runs(tmp_path):
    """Where a test has runs of its own."""
    return tmp_path / "output"


def written(runs, *reports):
    """Write a page of these tables; return it parsed, its text, and what was left out."""
    shown = [report if isinstance(report, Shown) else Shown(report) for report in reports]
    problems = write_page(runs / "report.html", shown)
    text = (runs / "report.html").read_text()
    page = Page(text)
    assert page.unbalanced == []
    assert page.open == []
    return page, text, problems


def test_numbers_gaps_and_intervals_stand_in_their_cells_by_hand(page):
    ours, paper = page.text_of("td", class_="ours"), page.text_of("td", class_="paper")
    assert paper[:4] == ["30.0", "38.0", "33.5+3.5", f"{DASH} not in the paper"]
    assert ours[:4] == [
        "41.5 ± 0.7",
        "50.0 ± 0.0",
        "45.5 ± 0.7+4.0 [+3.0, +6.0]",
        "54.0 ± 0.0+4.0 [+3.0, +6.0]",
    ]


def test_missing_cells_say_why(page, text):
    ours = page.text_of("td", class_="ours")
    assert ours[4:] == ["unfinished", "unfinished", "cannot be run", "cannot be run"]
    notes = " ".join(page.text_of("li"))
    assert "cannot be run: Weights were not published." in notes
    assert "unfinished: seed 1 at model_0000004.pth." in notes
    assert "Left out: output/b/seed3: SOLVER.MAX_ITER is 9, planned 10." in notes
    assert "not run yet" not in text


def test_every_claim_has_an_outcome_in_a_word_and_a_mark_its_gap_and_a_strip(page):
    assert page.text_of("td", class_="outcome") == [
        f"{HOLDS}holds",
        f"{FAILS}fails",
        "?undecided",
        f"{DASH}missing",
    ]
    numbers = page.text_of("td", class_="num")
    assert numbers[0] == "ours +4.095 %: +3.0 to +6.0"
    assert numbers[1] == "paper +3.5"
    assert numbers[4] == f"ours +0.590 %: {MINUS}1.0 to +2.0"
    assert numbers[6] == "ours not measured"
    labels = [svg.get("aria-label", "") for svg in page.attributes("svg")]
    assert (
        f"Gap in AP points: ours {MINUS}4.0, 95 %: {MINUS}5.0 to {MINUS}3.0; paper +3.5." in labels
    )
    text = " ".join(page.text_of("th", scope="row"))
    assert "first <i>holds</i> AP: Model" in text
    assert "alike within ±1.5" in text
    assert "one seed: images alone" in text
    assert page.text_of("ul", class_="score") == [
        f"{HOLDS}1 holds {FAILS}1 fails ?1 undecided {DASH}1 missing"
    ]


def test_all_figures_are_there(page):
    labels = " ".join(svg.get("aria-label", "") for svg in page.attributes("svg"))
    for wanted in ("RoIPool:", "RoIWarp:", "RoIAlign:", "RoIAlign, half-pixel shift:"):
        assert wanted in labels
    assert "Total loss over iterations of Model a, Model <script>" in labels
    assert f"Gap of Model {NASTY} in AP points: ours +4.0, paper +3.5." in labels
    assert "Gap of Model late in AP points: paper +5.0." in labels


def test_pictures_show_the_same_images_under_each_row(page):
    said = [image["alt"] for image in page.attributes("img")]
    assert len(said) == 4 * 3
    for i in range(4):
        assert said[3 * i : 3 * i + 3] == [
            f"Ground truth, {i}.png: 2 objects",
            f"Model a, {i}.png: 2 objects found",
            f"Model {NASTY}, {i}.png: 1 object found",
        ]
    assert all(
        image["src"].startswith("data:image/webp;base64,") for image in page.attributes("img")
    )


def test_the_origin_of_every_run_is_said(page):
    assert page.text_of("summary")[1:] == ["aseeds 1, 24 min", "bseeds 1, 24 min"]
    facts = dict(zip(page.text_of("dt"), page.text_of("dd"), strict=True))
    assert facts["Commit"] == "e" * 40 + "-dirty"
    assert facts["Config, SHA-256"] == "ab" * 32
    assert facts["Data, SHA-256"] == f"{DATASET} {'cd' * 32}"
    assert facts["Machine"] == "a <fast> processor; Linux"
    assert facts["Training"] == "1 min 35 s"
    assert facts["Iterations"] == "1,200"
    assert facts["Backend"] == "embedded 0.6+embedded"
    assert facts["Versions"] == "torch 2.15.0"
    assert facts["Plug-ins"] == "mine"
    assert facts["File"].startswith("b/seed")
    # What two seeds share is said once.
    assert page.text_of("dt").count("Commit") == 2
    assert page.text_of("dt").count("File") == 4


def test_the_page_is_whole_in_itself(page, text):
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(set(ids)) == len(ids)
    for tag, attrs in page.tags:
        for key in ("src", "href", "xlink:href", "action", "data", "poster", "srcset"):
            value = attrs.get(key) or ""
            assert value.startswith(("#", "data:")) or not value, (tag, value)
            assert not value.startswith("#") or value[1:] in ids
    assert page.attributes("script") == [{}]  # the figure's
    assert "@import" not in text
    assert "{%" not in text
    assert all(name in ids for name in re.findall(r"url\(#([^)]+)\)", text))
    assert re.search(r'<meta name="viewport" content="width=device-width', text)
    assert page.attributes("html") == [{"lang": "en"}]


def test_tables_have_captions_and_headers_and_pictures_words(page):
    (numbers,) = page.attributes("table")[1:2]
    assert numbers["aria-describedby"] == "table-fake-about"
    assert page.text_of("caption") == ["fake: Two models"]
    assert page.text_of("th", scope="colgroup") == ["AP", "AP bb"]
    for svg in page.attributes("svg"):
        assert svg.get("aria-hidden") == "true" or (svg["role"] == "img" and svg["aria-label"])
    assert next(tag for tag, _ in page.tags if re.fullmatch("h[1-4]", tag)) == "h1"


def test_names_are_escaped(text):
    assert text.count("<script") == 1
    assert "alert(" in text
    assert "<b>note" not in text
    assert "<i>holds" not in text
    assert "<fast>" not in text


def test_the_same_runs_give_the_same_file(base, truth, text):
    assert written(base / "output", whole_report(base / "output", truth))[1] == text


def test_a_page_of_one_table_is_small(text):
    assert len(text) < 400_000


def test_a_page_of_nothing_is_a_page(runs):
    page, _, problems = written(runs)
    assert page.text_of("h1") == ["The paper\N{RIGHT SINGLE QUOTATION MARK}s tables, beside ours"]
    assert "No table was chosen." in page.text_of("p")
    assert problems == ()


def test_a_page_without_published_numbers_does_not_call_its_tables_the_papers(runs):
    page, _, _ = written(runs, report_of())
    assert page.text_of("h1") == ["Heads beside their baselines"]
    assert "Findings" in page.text_of("h2")


def test_a_table_without_a_run_is_all_dashes(runs):
    cells = {name: {"AP": Cell(30.0), "bbAP": Cell()} for name in "ax"}
    rows = row_of("a", "a", cells), row_of("x", None, cells, ours=False)
    page, _, problems = written(runs, report_of(*rows, overrides=("SEED", "3")))
    assert page.text_of("td", class_="ours")[::2] == ["not run yet", f"{DASH} not measured"]
    assert page.attributes("img") == []
    assert "There is no finished run yet" in " ".join(page.text_of("p"))
    assert "A trial, not a result." in " ".join(page.text_of("p", class_="warning"))
    assert problems == ()


def test_an_overlay_is_named_and_what_claims_were_judged_on(runs, truth):
    whole = replace(whole_report(runs, truth), overlays=("own.yaml",))
    page, _, _ = written(runs, whole)
    assert "Laid over the level: own.yaml." in " ".join(page.text_of("p"))
    said = f"Claims judged on {DATASET} (1,000 images) under own.yaml: "
    assert f"{said}not the paper's data and recipe." in page.text_of("b")


# --- reports that are kept with the code


@pytest.mark.embedded_only
def test_a_kept_report_says_where_and_that_nothing_is_kept_to_draw(runs):
    report, folder = kept_report("2c", "mini", ROOT / "results")
    page, text, problems = written(runs, Shown(report, "results/mini/embedded"))
    assert problems == (
        "what the RoI operations make of one object, which maskrcnn table 2c --level mini measures",
        "curves and pictures of table 2c, which are not kept in results/mini/embedded",
    )
    assert folder == ROOT / "results/mini/embedded"
    (said,) = page.text_of("p", class_="kept")
    assert said == (
        "The numbers are those kept in results/mini/embedded. Curves and pictures: not kept."
    )
    assert page.attributes("img") == []
    assert "Left out" not in text
    assert "r50_c4_roipool" in " ".join(page.text_of("summary"))


def test_curves_and_pictures_of_other_runs_are_said_to_be_theirs(runs, truth):
    own = whole_report(runs, truth)
    other = replace(own, rows=(own.rows[0], *own.rows[2:]), origin=own.origin[:2])
    page, _, _ = written(runs, Shown(own, "results/mini/embedded", other))
    (said,) = page.text_of("p", class_="kept")
    assert (
        "Curves and pictures are of other runs of these rows: seeds 1, 2, 2 records of a <fast>"
        in said
    )
    assert "code eeeeeeeeeeee-dirty. On them the rows have AP 41.5 ± 0.7 (Model a)." in said
    # Numbers are those of the kept report, pictures those of the runs.
    assert page.text_of("td", class_="ours")[2] == "45.5 ± 0.7+4.0 [+3.0, +6.0]"
    assert len(page.attributes("img")) == 4 * 2


@pytest.mark.parametrize(("place", "pictures"), [("output/own.html", 8), ("results/mini.html", 0)])
def test_a_page_kept_with_the_code_shows_no_photograph(
    runs, truth, place, pictures, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(_location, "RESULTS", tmp_path / "results")
    own = whole_report(runs, truth)
    assert cli.write_report_page([View(own, {"a"})], tmp_path / "results/.." / place) == 0
    text = (tmp_path / place).read_text()
    assert text.count("data:image") == len(Page(text).attributes("img")) == pictures + pictures // 2
    left_out = f"images of {DATASET}: generated ones alone are kept with the code."
    assert (f"Not in it: {left_out}" in capsys.readouterr().out) is not bool(pictures)
    assert (f"Not shown: {left_out}" in text) is not bool(pictures)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("small_coco_seed1_val", True), ("small_coco_val", True), ("my_small_coco_val", False)],
)
def test_generated_sets_are_told_by_their_whole_name(name, expected):
    assert is_generated(name) is expected


# --- what cannot be read


def test_unreadable_curves_and_detections_are_named_and_the_rest_is_shown(runs, truth):
    report = whole_report(runs, truth)
    (runs / "a/seed1/metrics.json").write_bytes(b"\xff\xfe")
    for seed in (1, 2):
        (runs / f"b/seed{seed}/inference/{DATASET}/coco_instances_results.json").write_text("{")
    page, _, problems = written(runs, report)
    assert [p.split(": ")[0] for p in problems] == [
        f"{runs / 'a/seed1/metrics.json'} cannot be read",
        f"Model {NASTY}",
    ]
    assert "coco_instances_results.json cannot be read: Expecting" in problems[1]
    notes = page.text_of("li")
    assert all(f"Not shown: {text}." in notes for text in problems)
    assert len(page.attributes("img")) == 4 * 2
    assert any("Total loss" in svg.get("aria-label", "") for svg in page.attributes("svg"))


@pytest.mark.parametrize(
    "broken",
    [
        '[{"score": 0.9, "image_id": 10, "category_id": 1, "bbox": [1, 1, 5, 5], "segmentation": [[1]]}]',
        "[3]",
        '[{"score": 0.9}]',
        '{"a": 1}',
        '[{"score": 0.9, "image_id": 10, "bbox": 3}]',
    ],
)
def test_detections_of_another_kind_are_named(runs, truth, broken):
    report = whole_report(runs, truth)
    for seed in (1, 2):
        (runs / f"b/seed{seed}/inference/{DATASET}/coco_instances_results.json").write_text(broken)
    page, _, (problem,) = written(runs, report)
    assert "coco_instances_results.json cannot be read" in problem
    assert len(page.attributes("img")) == 4 * 2


def test_the_next_seed_stands_in_for_detections_that_are_gone(runs, truth):
    report = whole_report(runs, truth)
    (runs / f"b/seed1/inference/{DATASET}/coco_instances_results.json").unlink()
    page, _, problems = written(runs, report)
    assert problems == ()
    assert len(page.attributes("img")) == 4 * 3
    assert "seed 2" in " ".join(page.text_of("th", scope="col"))


def test_finer_keypoints_are_explained_where_there_are_any(runs, truth, text, monkeypatch):
    assert "drawn finer" not in text
    limbs = Style(("person", "dog"), edges=((0, 1, (9, 9, 9)),))
    monkeypatch.setattr(pictured, "style_of", lambda metadata: limbs)
    _, keypoints, problems = written(runs, whole_report(runs, truth))
    assert problems == ()
    assert "keypoints that a model is less sure of are drawn finer</figcaption>" in keypoints


def test_images_that_are_not_here_are_named(runs, truth):
    report = whole_report(runs, truth)
    elsewhere = write_record(runs / "a/seed1", 1, 41.0, 50.0, dataset="far_away")
    page, _, problems = written(runs, replace(report, origin=(elsewhere,)))
    assert problems == ("the images of far_away are not on this machine",)
    assert page.attributes("img") == []


def test_images_are_read_with_the_black_and_white_of_the_first_run(runs, truth, monkeypatch):
    seen = []
    monkeypatch.setattr(pictured, "ImageFiles", lambda grey: seen.append(grey) or ImageFiles())
    report = whole_report(runs, truth)
    written(runs, report)
    (runs / "a/seed1/config.yaml").write_text("INPUT:\n  PIXEL_RANGE: [0, 4095]\n")
    _, _, problems = written(runs, report)
    assert problems == ()
    assert seen == [(), (0, 4095)]


def test_rows_of_other_images_are_left_out_of_the_pictures(runs, truth):
    report = whole_report(runs, truth)
    other = write_record(runs / "b/seed1", 1, 41.0, 50.0, dataset="far_away", experiment="b")
    page, _, problems = written(runs, replace(report, origin=(*report.origin[:2], other)))
    assert problems == (f"Model {NASTY}: measured on far_away",)
    assert len(page.attributes("img")) == 4 * 2


def test_an_evaluation_alone_has_its_detections_in_its_own_folder(runs, truth):
    report = whole_report(runs, truth)
    folder = runs / "nms/seed1"
    write_detections(folder, truth, count=1)
    (folder / "inference/results.json").write_text((runs / "a/seed1/results.json").read_text())
    again = replace(report.origin[2], results=str(folder / "inference/results.json"))
    page, _, problems = written(runs, replace(report, origin=(*report.origin[:2], again)))
    assert problems == ()
    assert len(page.attributes("img")) == 4 * 3


def test_a_record_that_is_gone_since_leaves_what_was_read(runs, truth):
    report = whole_report(runs, truth)
    (runs / "a/seed1/results.json").unlink()
    page, _, _ = written(runs, report)
    assert page.text_of("dd").count("e" * 40 + "-dirty") == 2
