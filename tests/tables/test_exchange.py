"""The three operations on the same boxes: what is measured, when it counts, and the part of the page that shows it."""

import json
from dataclasses import replace

import maskrcnn_repro  # noqa: F401
from maskrcnn_repro.commands import table_reports as cli
from maskrcnn_repro.data.loader import inference_mapper
from maskrcnn_repro.errors import TableError
from maskrcnn_repro.modeling.rle import encode_masks
from maskrcnn_repro.tables.report.exchange import files
from maskrcnn_repro.tables.report.exchange.files import find_stored, keep, measure_missing
from maskrcnn_repro.tables.report.exchange.masks import Compared, centroid
from maskrcnn_repro.tables.report.exchange.measure import detection_of, measure
from maskrcnn_repro.tables.report.exchange.model import Exchange, Outline, runs_of
from maskrcnn_repro.tables.report.exchange.sizes import by_size
from maskrcnn_repro.tables.report.exchange.weights import load_model
from maskrcnn_repro.tables.report.html import Shown, write_page
from maskrcnn_repro.tables.report.html.exchange import outline_path
from maskrcnn_repro.tables.report.model import ReportRow
from maskrcnn_repro.tables.report.places import table_command
from maskrcnn_repro.tables.report.plain import from_json, to_json
from maskrcnn_repro.visualization.draw import Objects

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog
from pycocotools import mask as coco_mask

from tests.helpers.html_runs import DATASET, Page, register_tiny, report_of, write_record
from tests.helpers.operation_runs import operation_report, tiny_keys
from tests.helpers.tiny_models import tiny_model

NAMES = ("RoIPool", "RoIWarp", "RoIAlign")


def rle(left, width, rows=4):
    """Return the mask of a rectangle in an image of 4 x 20 pixels."""
    mask = torch.zeros(4, 20, dtype=torch.bool)
    mask[:rows, left : left + width] = True
    return encode_masks([mask])[0]


def compared(cells, lefts, width=10):
    """Return an object 10 pixels wide, and masks of the operations that begin at ``lefts``."""
    masks = {name: rle(left, width) for name, left in zip(NAMES, lefts, strict=True)}
    shifts = dict.fromkeys(NAMES, 4.0)
    return Compared(
        record={}, category=0, scale=(2.0, 2.0), cells=cells, roi=np.zeros(4), corners=shifts, bins=shifts,
        truth=rle(0, 10), exchanged=masks, trained=masks,
    )  # fmt: skip


# --- measured, by hand


def test_ious_and_centroids_by_hand():
    shown = compared(5.0, (5, 2, 0))
    assert shown.exchanged_iou == pytest.approx(
        {"RoIPool": 5 / 15, "RoIWarp": 8 / 12, "RoIAlign": 1.0}
    )
    # Five and two pixels of the file, two of the input each.
    assert shown.centroids == pytest.approx({"RoIPool": 10.0, "RoIWarp": 4.0, "RoIAlign": 0.0})
    assert shown.difference == pytest.approx(2 / 3)
    assert centroid(rle(3, 2)).tolist() == [3.5, 1.5]


def test_means_by_size_by_hand():
    objects = [compared(5.0, (5, 2, 0)), compared(5.9, (0, 0, 0)), compared(40.0, (10, 0, 0))]
    every, few, most = by_size(objects)
    assert [(each.low, each.high, each.objects) for each in (every, few, most)] == [
        (0.0, None, 3),
        (4.0, 6.0, 2),
        (32.0, None, 1),
    ]
    assert few.exchanged["RoIPool"] == pytest.approx((1 / 3 + 1) / 2, abs=1e-4)
    assert few.centroids["RoIPool"] == 5.0
    assert most.trained["RoIPool"] == 0.0
    assert by_size([]) == []


def test_an_empty_mask_has_no_centroid_and_does_not_count_in_the_mean_of_shifts():
    lost = compared(5.0, (0, 0, 0), width=0)
    assert np.isnan(lost.centroids["RoIPool"])
    assert by_size([lost, compared(5.0, (5, 0, 0))])[0].centroids["RoIPool"] == 10.0
    assert by_size([lost])[0].centroids["RoIPool"] is None


def objects(*rows):
    boxes = np.array([row[1:] for row in rows], float).reshape(-1, 4)
    return Objects(boxes, np.array([row[0] for row in rows], int))


def test_an_object_is_detected_by_a_box_of_its_class_that_fits():
    truth = objects((0, 0, 0, 10, 10), (1, 20, 0, 30, 10), (0, 40, 0, 50, 10))
    detections = objects(
        (0, 0, 0, 10, 9),  # the first, IoU 0.9
        (0, 20, 0, 30, 10),  # another class
        (0, 46, 0, 56, 10),  # IoU 0.25
    )
    assert detection_of(truth, detections).tolist() == [0, -1, -1]
    assert detection_of(truth, objects()).tolist() == [-1, -1, -1]
    assert detection_of(objects(), detections).tolist() == []


def test_a_detection_is_one_objects_alone():
    truth = objects((0, 0, 0, 10, 10), (0, 1, 0, 11, 10))
    assert detection_of(truth, objects((0, 1, 0, 11, 10))).tolist() == [-1, 0]


# --- by models


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("exchange")


@pytest.fixture(scope="module")
def truth(folder):
    return register_tiny(folder)


@pytest.fixture(scope="module")
def report(folder, truth):
    return operation_report(folder, truth)


@pytest.fixture(scope="module")
def measured(report):
    return measure(runs_of(report))


@pytest.mark.slow
def test_the_exchange_is_the_model_with_the_other_operation(report):
    run = runs_of(report)["RoIAlign"]
    record = DatasetCatalog.get(DATASET)[0]
    trained = load_model(run)
    image = inference_mapper(trained.cfg, DATASET)(record)
    boxes, classes = torch.tensor([[10.3, 12.1, 33.4, 40.7]]), np.array([1])
    other = tiny_model("c4", **tiny_keys("RoIPool"))
    other.load_state_dict(trained.module.state_dict())
    masks = [
        load_model(run, "RoIPool").masks(image, boxes, classes),
        type(trained)(other, trained.cfg).masks(image, boxes, classes),
    ]
    assert masks[0] == masks[1]
    assert masks[0] != trained.masks(image, boxes, classes)
    assert load_model(run, "RoIAlignAve").masks(image, boxes, classes) == trained.masks(
        image, boxes, classes
    )


@pytest.mark.slow
def test_all_detected_objects_are_compared_in_the_same_boxes(measured):
    exchange, png = measured
    every = exchange.sizes[0]
    assert (exchange.images, exchange.objects, every.objects) == (4, 8, 8)
    assert exchange.stride == 16
    assert every.corners["RoIAlign"] == every.centroids["RoIAlign"] == 0.0
    assert every.corners["RoIPool"] == every.corners["RoIWarp"] > 0
    assert every.exchanged["RoIAlign"] == every.trained["RoIAlign"]
    assert every.exchanged["RoIPool"] != every.trained["RoIPool"]
    assert exchange.operations == {
        "RoIPool": "RoIPool",
        "RoIWarp": "RoIWarpAve",
        "RoIAlign": "RoIAlignAve",
    }
    assert png.startswith(b"\x89PNG")
    left, top, right, bottom = exchange.pictured.crop
    assert exchange.pictured.truth.size == (bottom - top, right - left)
    spread = [mask.iou for mask in exchange.pictured.exchanged.values()]
    assert max(spread) - min(spread) > 0


@pytest.mark.slow
def test_it_is_measured_once_for_a_run_and_again_for_another(folder, report, monkeypatch):
    said = []
    measure_missing(report, said.append)
    assert said == [f"Comparing RoI operations on the same boxes: 4 images of {DATASET}."]
    assert find_stored(report).exchange.sizes[0].objects == 8
    measure_missing(report, said.append)
    assert len(said) == 1
    # A picture of another measurement, as a killed run may leave it.
    png = folder / "output/mini/r50_c4/seed1/exchange.png"
    there = png.read_bytes()
    png.write_bytes(b"other")
    assert find_stored(report) is None
    png.write_bytes(there)
    # Kept, only outlines stay of a picture that was not generated.
    kept = folder / "results"
    kept.mkdir()
    keep(report, kept)
    assert find_stored(report, kept).png == b""
    assert (
        find_stored(report, kept).exchange.pictured.truth
        == find_stored(report).exchange.pictured.truth
    )
    monkeypatch.setattr(files, "is_generated", lambda name: name == DATASET)
    keep(report, kept)
    assert find_stored(report, kept) == find_stored(report)
    # The run was made anew: what is there is of another.
    results = folder / "output/mini/r50_c4/seed1/results.json"
    text = results.read_text()
    results.write_text(text + " ")
    assert find_stored(report) is None
    keep(report, kept)
    assert list(kept.iterdir()) == []
    results.write_text(text)


@pytest.mark.slow
def test_a_page_shows_the_object_before_the_table_and_the_findings_after_it(folder, report):
    measure_missing(report, str)
    page, text = page_of(folder, Shown(report, operations=find_stored(report)))
    assert sections(page) == ["operations", "sampling", "table-2c", "claims", "origin"]
    assert text.count('class="exchange-mask"') == 7
    assert text.count('class="exchange-rounded"') == 5
    assert text.count("data:image/png;base64,") == 1
    about = next(p for p in page.text_of("p", class_="about") if "not chosen by hand" in p)
    assert "of the 8 objects that all three trained models detect" in about
    assert "in 4 test images with 8 objects" in about
    origin = page.text_of("p", class_="about exchange-origin")[0]
    assert "RoIWarp: r50_c4_roiwarp_ave (RoIWarpAve) seed 1, code eeeeeeeeeeee-dirty;" in origin
    # To be kept, it has the same lines over no photograph.
    shown = Shown(report, operations=find_stored(report))
    write_page(folder / "kept.html", [shown], generated_only=True)
    kept = (folder / "kept.html").read_text()
    assert "data:image" not in kept
    assert kept.count('class="exchange-mask"') == 7
    assert "Its photograph is not kept with the code." in kept


@pytest.mark.slow
def test_where_no_object_is_detected_by_all_the_page_says_so(folder, truth, tmp_path):
    report = operation_report(folder, truth, count=0, level="paper")
    measure_missing(report, str)
    what = find_stored(report)
    assert (what.exchange.sizes, what.exchange.pictured, what.png) == ((), None, b"")
    _, text = page_of(tmp_path, Shown(report, operations=what))
    assert "No object of 4 test images of html_tiny is detected by all three trained models" in text


# --- without models


def page_of(folder, *shown):
    write_page(folder / "report.html", shown)
    text = (folder / "report.html").read_text()
    page = Page(text)
    assert page.unbalanced == []
    return page, text


def sections(page):
    return [attrs["id"] for attrs in page.attributes("section")]


def test_without_weights_the_page_says_in_one_sentence_how_to_get_them(tmp_path):
    report = report_of(table="2c", level="mini-own", overlays=("own.yaml",))
    page, text = page_of(tmp_path, Shown(report), Shown(report_of(table="7")))
    assert sections(page) == ["operations", "sampling", "table-2c", "claims", "table-7", "origin"]
    assert (
        "Not measured: <code>maskrcnn table 2c --level mini --overlay FOLDER/own.yaml</code> trains"
        in text
    )
    trial = replace(report, overlays=(), overrides=("DATASETS.TEST", "('a b',)"))
    assert table_command([trial, report_of(table="7")], "--report") == (
        "maskrcnn table 2c 7 --level mini --report -- DATASETS.TEST '('\"'\"'a b'\"'\"',)'"
    )


def test_a_page_without_table_2c_begins_with_the_findings(tmp_path):
    page, _ = page_of(tmp_path, Shown(report_of(table="7")))
    assert sections(page) == ["claims", "sampling", "table-7", "origin"]


def test_runs_are_those_of_the_lowest_common_seed(tmp_path):
    rows = [("T2c.pool", "a"), ("T2c.warpave", "b"), ("T2c.warpmax", "c"), ("T2c.alignave", "d")]
    report = report_of(*(files_row(*row) for row in rows), table="2c")
    origin = [
        write_record(tmp_path / f"{name}{seed}", seed, 1.0, 1.0, experiment=name)
        for name, seeds in (("a", (1, 2, 3)), ("c", (3, 2)), ("d", (2, 3)))
        for seed in seeds
    ]
    runs = runs_of(replace(report, origin=tuple(origin)))
    # RoIWarp (ave) was not run: RoIWarp (max) stands in.
    assert {name: (run.experiment, run.seed) for name, run in runs.items()} == {
        "RoIPool": ("a", 2),
        "RoIWarp": ("c", 2),
        "RoIAlign": ("d", 2),
    }
    assert runs_of(replace(report, origin=tuple(origin[:5]))) == {}
    assert find_stored(report) is None


def files_row(name, experiment):
    return ReportRow(name, name, experiment, cells={})


def test_missing_weights_are_named(tmp_path):
    run = write_record(tmp_path / "seed1", 1, 1.0, 1.0)
    with pytest.raises(TableError, match=r"There are no weights .*seed1/model_final\.pth\."):
        load_model(run)


def test_what_keeps_the_operations_from_being_compared_is_told(tmp_path, capsys):
    rows = [("T2c.pool", "a"), ("T2c.warpave", "b"), ("T2c.alignave", "c")]
    origin = [write_record(tmp_path / e, 1, 1.0, 1.0, experiment=e) for _, e in rows]
    report = report_of(*(files_row(*row) for row in rows), table="2c", origin=tuple(origin))
    cli.compare_operations([report, report_of(table="7")])
    told = (
        f"The RoI operations are not compared: There are no weights {tmp_path}/a/model_final.pth.\n"
    )
    assert capsys.readouterr().err == told


@pytest.mark.parametrize("text", ["{", "{}", '{"method": 1}', "[]"])
def test_a_file_that_is_no_comparison_is_none(tmp_path, text):
    rows = [("T2c.pool", "a"), ("T2c.warpave", "b"), ("T2c.alignave", "c")]
    origin = [write_record(tmp_path / e, 1, 1.0, 1.0, experiment=e) for _, e in rows]
    report = replace(
        report_of(*(files_row(*row) for row in rows), table="2c"), origin=tuple(origin)
    )
    (tmp_path / "c/exchange.json").write_text(text)
    assert find_stored(report) is None


def test_where_every_mask_is_empty_the_page_shows_no_shift(tmp_path):
    report = report_of(table="2c")
    sizes = tuple(by_size([compared(5.0, (0, 0, 0), width=0)]))
    exchange = Exchange(
        1, DATASET, 4, 8, 0.5, 0.5, 16, "embedded", "c" * 40, "2026-01-01", {}, {}, sizes, None
    )
    assert from_json(Exchange, to_json(exchange)) == exchange
    page, _ = page_of(tmp_path, Shown(report, operations=files.Stored(exchange)))
    assert page.text_of("td").count("\N{EN DASH} no mask") == 3


def test_a_comparison_that_lacks_an_operation_is_refused():
    (size,) = by_size([compared(5.0, (0, 0, 0))])[:1]
    with pytest.raises(ValueError, match="not every value is there for RoIPool, RoIWarp, RoIAlign"):
        replace(size, bins={"RoIPool": 1.0})


def test_an_outline_runs_along_the_edges_of_its_pixels():
    mask = np.zeros((10, 12), np.uint8)
    mask[2:6, 3:9] = 1
    encoding = coco_mask.encode(np.asfortranarray(mask))
    path = outline_path(Outline((10, 12), encoding["counts"].decode(), 1.0), (100, 200, 112, 210))
    numbers = np.array(json.loads(f"[{path[1:-1].replace('L', ' ').replace(' ', ', ')}]")).reshape(
        -1, 2
    )
    assert np.abs(numbers.min(axis=0) - [103, 202]).max() <= 0.25
    assert np.abs(numbers.max(axis=0) - [109, 206]).max() <= 0.25
    empty = coco_mask.encode(np.zeros((10, 12), np.uint8, order="F"))
    assert outline_path(Outline((10, 12), empty["counts"].decode(), 0.0), (0, 0, 12, 10)) == ""


@pytest.mark.slow
def test_masks_are_as_large_as_the_picture(measured):
    shown = measured[0].pictured
    with pytest.raises(ValueError, match="a mask is not as large as the picture"):
        replace(shown, truth=replace(shown.truth, size=(10**8, 10**6)))
    wide = {name: replace(mask, size=(4000, 4000)) for name, mask in shown.trained.items()}
    masks = {"truth": wide["RoIPool"], "exchanged": wide, "trained": wide}
    with pytest.raises(ValueError, match="a picture of more than 10,000,000 pixels"):
        replace(shown, crop=(0, 0, 4000, 4000), **masks)
