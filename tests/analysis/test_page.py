"""The page: what it says of a run, of a pair of files, and of what is missing."""

import json
import re
from dataclasses import replace

import maskrcnn_repro  # noqa: F401
from maskrcnn_cli import run_command
from maskrcnn_repro.analysis import pictures as pictures_module
from maskrcnn_repro.analysis.analysis import analyze
from maskrcnn_repro.analysis.evaluation_set import read_set
from maskrcnn_repro.analysis.page import Options, write_page, write_page_of
from maskrcnn_repro.analysis.pictures import worst_pictures
from maskrcnn_repro.analysis.source import Source, run_source
from maskrcnn_repro.data.image_file import ImageFiles
from maskrcnn_repro.errors import ConfigError, DataError

import cv2
import numpy as np
import pytest

from tests.helpers.detections import SIDE, random_pair, write_pair

HERE, THERE = (10, 10, 20, 20), (60, 60, 20, 20)


def pictures(folder, count):
    for number in range(count):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((SIDE, SIDE, 3), 90, np.uint8))
    return folder


@pytest.fixture
def run(tmp_path):
    """A run folder of 3 images, of which the last has no file."""
    folder = tmp_path / "run"
    (folder / "inference/mine").mkdir(parents=True)
    objects = [(0, 0, HERE), (1, 1, HERE), (2, 0, HERE), (2, 0, THERE)]
    detections = [(0, 0, HERE, 0.9), (1, 0, HERE, 0.8), (1, 2, THERE, 0.7)]
    truth, results = write_pair(
        tmp_path, objects, detections, images=3, classes=("disc", "<b>&bar", "star")
    )
    results.rename(folder / "inference/mine/coco_instances_results.json")
    images = pictures(tmp_path, 2)
    custom = json.dumps([["mine", str(truth), str(images)]])
    (folder / "config.yaml").write_text(f"DATASETS:\n  CUSTOM: {custom}\n  TEST: [mine]\n")
    record = {"metrics": {"mine": {"bbox": {"AP": 12.34}}}, "iterations": 77, "seed": 5}
    (folder / "results.json").write_text(json.dumps(record))
    return folder


def evaluate_later(run, metrics):
    """Write what an evaluation alone writes: a newer record of the run, of its own data sets."""
    record = {"metrics": metrics, "iterations": 0, "weights": "other.pkl", "written": "2100-01-01"}
    (run / "inference/results.json").write_text(json.dumps(record))


def text_of(page):
    return page.read_text(encoding="utf-8")


def test_the_page_of_a_run(run, caplog):
    page = write_page(run)
    assert page == run / "evaluation.html"
    text = text_of(page)
    # Of four objects one is found; classes disc, bar and star have APs of 34 / 101, 0 and none.
    assert "<b>16.8</b>mask AP</li>" in text
    assert "<b>1 · 3 · 2</b>hits · misses · false alarms at score 0.5" in text
    assert "&lt;b&gt;&amp;bar" in text
    assert "<b>&bar" not in text
    assert "12.3" in text
    assert ">77</dd>" in text
    assert len(re.findall("data:image/webp;base64,", text)) == 1
    # The third image has two misses and no file.
    assert "1 of the worst images cannot be shown: Image" in text
    assert "1 of the worst images cannot be shown: Image" in caplog.text
    assert not re.search(r'(src|href)="(?!data:|#)', text)


@pytest.mark.parametrize("metrics", [{"other": {"bbox": {"AP": 1.0}}}, {"mine": None}, [], None])
def test_an_evaluation_of_another_data_set_is_no_origin_of_this_one(run, metrics):
    evaluate_later(run, metrics)
    assert run_source(run).record["iterations"] == 77
    text = text_of(write_page(run))
    assert "other.pkl" not in text
    assert "<td>12.3</td>" in text
    (run / "results.json").unlink()
    assert run_source(run).record == {}


def test_the_newest_evaluation_of_the_data_set_is_its_origin(run):
    evaluate_later(run, {"mine": {"bbox": {"AP": 43.21}}})
    text = text_of(write_page(run))
    assert "<td>43.2</td>" in text
    assert ">other.pkl</dd>" in text


def test_the_command_writes_the_page_of_a_pair(tmp_path, capsys):
    truth, results = random_pair(tmp_path)
    out = tmp_path / "out/boxes.html"
    words = ["--truth", str(truth), "--results", str(results), "--task", "bbox", "--out", str(out)]
    assert run_command("analyze", words) == 0
    assert capsys.readouterr().out.startswith(f"Page: {out} (")
    text = text_of(out)
    assert "box AP</li>" in text
    assert "No folder of images was named" in text
    assert "SHA-256" in text


def test_the_pictures_are_bounded(tmp_path, monkeypatch):
    evaluated = read_set(*random_pair(tmp_path), pictures(tmp_path, 12))
    analysis = analyze(evaluated)
    wrong = int(analysis.marks.counts[:, 1:].any(axis=1).sum())
    shown = worst_pictures(evaluated, analysis, ImageFiles(), 3)
    assert (len(shown.shown), shown.left_out) == (3, wrong - 3)
    two = sum(len(p.source) + sum(len(m.path) for m in p.marks) for p in shown.shown[:2])
    monkeypatch.setattr(pictures_module, "MOST_BYTES", two)
    fewer = worst_pictures(evaluated, analysis, ImageFiles(), 12)
    assert (len(fewer.shown), fewer.left_out) == (2, wrong - 2)
    assert worst_pictures(evaluated, analysis, ImageFiles(), 0).left_out == wrong


@pytest.mark.parametrize(
    ("objects", "detections", "said"),
    [
        ([(0, 0, HERE)], [], "The results hold no detection: every object is missed."),
        ([], [], "The results hold no detection."),
        ([], [(0, 0, HERE, 0.9)], "The data set has no object to be found"),
        ([(0, 0, HERE)], [(0, 0, HERE, 0.9)], "No image has an error at this score and IoU."),
    ],
)
def test_what_is_empty_is_said(tmp_path, objects, detections, said):
    truth, results = write_pair(tmp_path, objects, detections)
    source = Source("mine", truth, results, pictures(tmp_path, 1))
    assert said in text_of(write_page_of(source, tmp_path / "page.html"))


@pytest.mark.parametrize("boxes", [{}, {"bbox": {"AP": 12.34, "AP50": 1.0, "AP75": 1.0}}])
def test_keypoints_have_their_ap_and_each_row_its_origin(tmp_path, boxes):
    truth, results = write_pair(tmp_path, [(0, 0, HERE)], [(0, 0, HERE, 0.9)], classes=("person",))
    tree, entries = json.loads(truth.read_text()), json.loads(results.read_text())
    tree["categories"][0] |= {"keypoints": ["head", "foot"], "skeleton": []}
    tree["annotations"][0] |= {"keypoints": [12, 12, 2, 15, 28, 2], "num_keypoints": 2}
    entries[0]["keypoints"] = [12, 12, 0.9, 15, 28, 0.8]
    truth.write_text(json.dumps(tree))
    results.write_text(json.dumps(entries))
    source = Source("mine", truth, results, None, oks_sigmas=(0.05, 0.05))
    source = replace(source, record={"metrics": {"mine": boxes}})
    text = text_of(write_page_of(source, tmp_path / "page.html"))
    row = "<tr><th>keypoints</th>(<td>100.0</td>){3}<td [^>]*>computed from the predictions</td>"
    assert re.search(row, text)
    recorded = r"<tr><th>box</th><td>12\.3</td>.*<td [^>]*>results\.json of the run</td>"
    assert bool(re.search(recorded, text)) == bool(boxes)


def test_without_predictions_the_command_that_makes_them_is_named(run):
    (run / "inference/mine/coco_instances_results.json").unlink()
    with pytest.raises(DataError, match=r"has no predictions .*`maskrcnn eval --config-file"):
        write_page(run)
    with pytest.raises(DataError, match="is no folder of a run"):
        write_page(run / "nowhere")


def test_a_data_set_without_predictions_is_named(run):
    with pytest.raises(DataError, match=r"data set 'mime'\. Did you mean 'mine'\?"):
        run_source(run, "mime")
    (run / "config.yaml").write_text("DATASETS:\n  TEST: [mine]\n")
    with pytest.raises(DataError, match="'mine' is not registered here; name the files themselves"):
        run_source(run)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (Options(iou=0.1), "--iou 0.1 must lie above 0.1"),
        (Options(score=1.5), "--score 1.5 must lie between 0 and 1"),
        (Options(images=-1), "--worst -1 must be 0 or more"),
    ],
)
def test_options_out_of_range(run, options, message):
    with pytest.raises(ConfigError, match=message):
        write_page(run, options=options)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Name a run folder, or a pair of files"),
        (["RUN", "--truth", "a.json"], "Name a run folder, or a pair of files"),
        (["--truth", "a.json"], "Name a run folder, or a pair of files"),
        (["RUN", "--images", "a"], "--images belongs to --results and --truth"),
        (["RUN", "--out", "a.png"], "let its name end in .html"),
        (["--truth", "a", "--results", "b", "--dataset", "c"], "--dataset belongs to a run folder"),
    ],
)
def test_wrong_arguments_are_one_sentence(capsys, words, message):
    assert run_command("analyze", words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
