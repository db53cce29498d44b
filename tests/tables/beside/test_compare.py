"""Runs beside each other: gaps of known size, what differs, and what cannot be compared."""

import json

from maskrcnn_cli.dispatch import main
from maskrcnn_repro.config import get_config
from maskrcnn_repro.evaluation.panoptic_resampling import PanopticSums
from maskrcnn_repro.evaluation.resampling import CategoryMatches, Matches, match
from maskrcnn_repro.evaluation.surface_resampling import write_matches
from maskrcnn_repro.tables.beside import gaps
from maskrcnn_repro.tables.beside.gaps import rows
from maskrcnn_repro.tables.beside.run import differences, read_runs, short_names
from maskrcnn_repro.tables.beside.text import gap_text, lines, warn_of_single_runs
from maskrcnn_repro.utils.hashes import sha256_of

import numpy as np
import pytest

from tests.helpers.fake_detections import EXACT, FAR, IMAGES, MISSED, NEAR, shape, write_truth
from tests.helpers.html_runs import write_curve, write_record

DATASET = "cells_val"


@pytest.fixture
def truth(tmp_path):
    return write_truth(tmp_path)


def write_run(folder, truth, offsets, opts=(), seed=1):
    """A finished run whose detections are off by so many pixels, see ``fake_detections``."""
    write_record(folder, seed, 0.0, 0.0, DATASET)
    detections = [
        {"image_id": i, "category_id": 1, "score": 0.9 - 0.01 * i} | shape(offset)
        for i, offset in enumerate(offsets)
        if offset is not MISSED
    ]
    file = folder / "inference" / DATASET / "coco_instances_results.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(detections))
    tree = json.loads((folder / "results.json").read_text())
    own = {task: match(truth, file, task).average_precision() for task in ("bbox", "segm")}
    own["segm"] |= {"APl": None, "AP-thing": own["segm"]["AP"]}
    tree["metrics"] = {DATASET: own}
    origin = {"name": DATASET, "json": str(truth), "sha256": sha256_of(truth)}
    tree["datasets"] = {"TRAIN": [], "TEST": [origin]}
    (folder / "results.json").write_text(json.dumps(tree))
    cfg = get_config()
    cfg.merge_from_list(["OUTPUT_DIR", str(folder), "SEED", seed, *opts])
    (folder / "config.yaml").write_text(cfg.dump())
    return folder


def row_of(folders, metric="AP", task="segm"):
    (row,) = [r for r in rows(read_runs(folders)) if (r.task, r.metric) == (task, metric)]
    return row


def test_a_gap_that_is_the_same_in_every_image_has_no_width(tmp_path, truth):
    # IoU 14/26 against 18/22: AP 10 and 70 on every draw of the images.
    folders = [
        write_run(tmp_path / name, truth, [offset] * IMAGES)
        for name, offset in zip("ab", (FAR, NEAR), strict=True)
    ]
    gap = row_of(folders).gaps[1]
    assert gap.gap == pytest.approx(60.0)
    assert (gap.interval.low, gap.interval.high) == pytest.approx((60.0, 60.0))
    assert gap.interval.images == IMAGES


def test_a_gap_that_rests_on_some_images_is_as_wide_as_their_draws(tmp_path, truth):
    # Half of the images are missed: AP is the share of hits, in steps of 1/101 of recall.
    half = write_run(tmp_path / "half", truth, [EXACT, MISSED] * (IMAGES // 2))
    gap = row_of([half, write_run(tmp_path / "all", truth, [EXACT] * IMAGES)]).gaps[1]
    assert gap.gap == pytest.approx(100 - 100 * 51 / 101)
    # A binomial share of 12 images: 1.96 * sqrt(0.25 / 12) = 28 points.
    assert gap.interval.high - gap.gap == pytest.approx(28.3, abs=2.0)
    assert gap_text(gap).startswith("100.0 (+49.5 [+")


def test_gps_has_an_interval_from_the_matches_that_its_evaluation_kept(tmp_path, truth):
    folders = []
    for name, count in (("none", 0), ("all", 10)):
        folders.append(write_run(tmp_path / name, truth, [EXACT] * IMAGES))
        hits = np.arange(10)[:, None] < np.full(IMAGES, count)
        people = CategoryMatches(np.arange(IMAGES), hits, ~hits, np.ones(IMAGES, int))
        matches = Matches(tuple(range(IMAGES)), (people,))
        write_matches(
            folders[-1] / "inference" / DATASET / "densepose_matches.npz",
            {"densepose_gps": matches},
        )
        results = folders[-1] / "results.json"
        tree = json.loads(results.read_text())
        tree["metrics"][DATASET]["densepose_gps"] = {"AP": 10.0 * count}
        results.write_text(json.dumps(tree))
    row = row_of(folders, task="densepose_gps")
    assert row.title == "GPS AP"
    interval = row.gaps[1].interval
    assert (interval.low, interval.high) == pytest.approx((100.0, 100.0))
    (folders[0] / "inference" / DATASET / "densepose_matches.npz").unlink()
    assert "--eval-only" in row_of(folders, task="densepose_gps").gaps[1].reason


def test_pq_has_an_interval_from_what_its_images_add(tmp_path, truth, monkeypatch):
    iou = {"half": 0.5, "whole": 1.0}  # of the one segment of each image

    def sums_of(record, task):
        sums = np.array([[[iou[record.path.parent.name], 1.0, 0.0, 0.0]]] * IMAGES)
        return PanopticSums(tuple(range(IMAGES)), sums, np.array([True]))

    monkeypatch.setattr(gaps, "matches_of", sums_of)
    folders = []
    for name, quality in iou.items():
        folders.append(write_run(tmp_path / name, truth, [EXACT] * IMAGES))
        results = folders[-1] / "results.json"
        tree = json.loads(results.read_text())
        tree["metrics"][DATASET]["panoptic"] = {"PQ": 100 * quality, "RQ": 100.0}
        results.write_text(json.dumps(tree))
    interval = row_of(folders, "PQ", "panoptic").gaps[1].interval
    assert (interval.low, interval.high) == pytest.approx((50.0, 50.0))
    assert row_of(folders, "RQ", "panoptic").gaps[1].interval is None


def test_a_run_beside_a_copy_of_itself_differs_in_nothing(tmp_path, truth):
    folders = [write_run(tmp_path / name, truth, [NEAR] * IMAGES) for name in "ab"]
    runs = read_runs(folders)
    assert differences(runs) == {}
    gaps = {(row.task, row.metric): row.gaps[1].gap for row in rows(runs)}
    assert gaps[("segm", "AP")] == gaps[("bbox", "AP50")] == 0.0
    assert set(gaps.values()) <= {0.0, None}


def test_runs_of_different_data_are_not_compared_and_that_is_said(tmp_path, truth):
    a, b = (write_run(tmp_path / name, truth, [NEAR] * IMAGES) for name in "ab")
    results = b / "results.json"
    results.write_text(results.read_text().replace(f'"{DATASET}"', '"other"'))
    runs = read_runs([a, b])
    text = "\n".join(lines(runs, list(rows(runs))))
    assert f"Note: only a was tested on {DATASET}, so that nothing is compared there." in text
    assert "Note: only b was tested on other, so" in text
    both = read_runs([a, write_run(tmp_path / "c", truth, [NEAR] * IMAGES)])
    assert not list(warn_of_single_runs(both, list(rows(both))))


def test_what_differs_is_named_with_both_values(tmp_path, truth):
    opts = ["SOLVER.MAX_ITER", 77]
    folders = [
        write_run(tmp_path / "a", truth, [NEAR] * IMAGES),
        write_run(tmp_path / "b", truth, [NEAR] * IMAGES, opts, seed=2),
    ]
    differing = differences(read_runs(folders))
    assert set(differing) == {"SOLVER.MAX_ITER", "SEED"}
    assert differing["SOLVER.MAX_ITER"][1] == 77


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["x/a", "x/b"], ["a", "b"]),
        (["a/seed1", "b/seed1"], ["a/seed1", "b/seed1"]),
        (["a/seed1", "b/seed1", "b/seed2"], ["a/seed1", "b/seed1", "b/seed2"]),
    ],
)
def test_names_are_the_shortest_ends_that_differ(tmp_path, paths, names):
    assert short_names([tmp_path / path for path in paths]) == names


def test_runs_on_other_images_or_changed_files_have_gaps_without_intervals(tmp_path, truth):
    a, b = (write_run(tmp_path / name, truth, [NEAR] * IMAGES) for name in "ab")
    truth.write_text(truth.read_text() + " ")
    gap = row_of([a, b]).gaps[1]
    assert (gap.gap, gap.interval) == (0.0, None)
    assert "was changed since b was tested on it" in gap.reason
    truth.unlink()
    assert "are not at" in row_of([a, b]).gaps[1].reason


def test_predictions_of_another_evaluation_have_no_interval(tmp_path, truth):
    a, b = (write_run(tmp_path / name, truth, [NEAR] * IMAGES) for name in "ab")
    (b / "inference" / DATASET / "coco_instances_results.json").write_text("[]")
    assert "is of another evaluation" in row_of([a, b]).gaps[1].reason


def test_text_page_and_json_say_the_same(tmp_path, truth, capsys):
    a = write_run(tmp_path / "a", truth, [FAR] * IMAGES)
    b = write_run(tmp_path / "b<b>", truth, [NEAR] * IMAGES, ["SOLVER.BASE_LR", 0.5])
    write_curve(a, [3.0, 2.0, 1.0])
    page, file = tmp_path / "page.html", tmp_path / "all.json"
    words = ["compare", str(a), str(b), "--classes", "--html", str(page), "--json", str(file)]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "70.0 (+60.0 [+60.0, +60.0])" in text
    assert "mask AP-thing" in text
    assert "SOLVER.BASE_LR" in text
    html = page.read_text()
    assert "b&lt;b&gt;" in html
    assert "b<b>" not in html
    assert "+60.0" in html
    assert "<svg" in html
    tree = json.loads(file.read_text())
    (metric,) = [m for m in tree["metrics"] if (m["task"], m["metric"]) == ("segm", "AP")]
    assert metric["runs"][1]["gap"] == pytest.approx(60.0)
    assert tree["config"]["SOLVER.BASE_LR"][1] == 0.5


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["a"], "the following arguments are required: RUN"),
        (["a", "nothing"], "nothing is no folder: name the OUTPUT_DIR"),
        (["a", "empty"], "empty holds no results.json"),
        (["a", "./a"], "is given twice"),
        (["a", "loop"], "loop is no folder"),
        (["a", "damaged"], "damaged/results.json is no result of this project"),
        (["a", "b", "--html", "page.txt"], "--html 'page.txt': let its name end in .html"),
    ],
)
def test_mistakes_are_one_sentence(tmp_path, truth, monkeypatch, capsys, words, sentence):
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        write_run(tmp_path / name, truth, [NEAR] * IMAGES)
    (tmp_path / "empty").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    write_run(tmp_path / "damaged", truth, [NEAR] * IMAGES)
    file = tmp_path / "damaged/results.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "datasets": []}))
    assert main(["compare", *words]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
