"""Panoptic quality: values by hand, the reference evaluator's numbers, void and crowds, files, mistakes."""

import json
import math

from maskrcnn_repro.data import register_panoptic
from maskrcnn_repro.data.panoptic.files import read_ids, write_ids
from maskrcnn_repro.data.panoptic.labels import stuff_names, with_labels
from maskrcnn_repro.data.panoptic.truth import PanopticTruth
from maskrcnn_repro.errors import ConfigError, DataError
from maskrcnn_repro.evaluation.panoptic import FOLDER, RESULTS, PanopticEvaluator
from maskrcnn_repro.evaluation.panoptic_quality import PanopticQuality
from maskrcnn_repro.evaluation.panoptic_resampling import count_images
from maskrcnn_repro.evaluation.table import metrics_table, summary
from maskrcnn_repro.visualization.panoptic import write_panoptic_sheet
from maskrcnn_repro.visualization.sheet import CAPTION, CELL, GAP, HEADER, SEAM

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from tests.evaluation import panoptic_cases as cases

STORED = json.loads(cases.FILE.read_text())


def segment(number, category, area=0, crowd=0):
    return {"id": number, "category_id": category, "area": area, "iscrowd": crowd}


def quality(truth, segments, ids, predicted, categories=cases.CATEGORIES):
    counted = PanopticQuality(categories)
    counted.add(np.array(truth), segments, np.array(ids), predicted)
    return counted


def test_a_match_counts_its_iou_and_the_rest_halves():
    # Thing 1: 3 of 4 pixels, IoU 3/4. Stuff 7: 4 pixels are called 9, a false one and a miss.
    truth, ids = [[1, 1, 1, 1], [2, 2, 2, 2]], [[5, 5, 5, 0], [6, 6, 6, 6]]
    counted = quality(
        truth, [segment(1, 1, 4), segment(2, 7, 4)], ids, [segment(5, 1), segment(6, 9)]
    )
    assert counted.of_category(1) == (0.75, 0.75, 1.0)
    assert counted.of_category(7) == counted.of_category(9) == (0.0, 0.0, 0.0)
    assert counted.of_category(2) is None
    metrics = counted.metrics({1: "dog", 2: "cat"})
    assert metrics["PQ"] == metrics["SQ"] == 25.0
    assert (metrics["PQ_th"], metrics["SQ_th"], metrics["RQ_th"]) == (75.0, 75.0, 100.0)
    assert metrics["PQ_st"] == 0.0
    assert metrics["PQ-dog"] == 75.0
    assert math.isnan(metrics["RQ-cat"])


def test_half_a_false_segment_and_half_a_miss_count_as_one():
    # One match of IoU 1, one false, one missed: 1 / (1 + 1/2 + 1/2).
    counted = quality(
        [[1, 2, 4, 4]],
        [segment(1, 1, 1), segment(2, 1, 1), segment(4, 7, 2)],
        [[1, 0, 3, 3]],
        [segment(1, 1), segment(3, 1)],
    )
    assert counted.of_category(1) == (0.5, 1.0, 0.5)


def test_an_iou_of_a_half_is_no_match():
    counted = quality([[1, 1, 7, 7]], [segment(1, 1, 2)], [[1, 0, 0, 0]], [segment(1, 1)])
    assert counted.of_category(1) == (0.0, 0.0, 0.0)


def test_void_is_left_out_of_the_union_and_of_false_segments():
    # Of 5 predicted pixels 2 are void: IoU 3 / (5 + 3 - 3 - 2) = 1.
    counted = quality([[1, 1, 1, 0, 0]], [segment(1, 1, 3)], [[4] * 5], [segment(4, 1)])
    assert counted.of_category(1) == (1.0, 1.0, 1.0)
    # Three of four pixels void: ignored; two of four: false.
    for void, expected in ((3, None), (2, (0.0, 0.0, 0.0))):
        row = [[0] * void + [9] * (4 - void)]
        counted = quality(row, [segment(9, 7, 4 - void, 0)], [[4] * 4], [segment(4, 1)])
        assert counted.of_category(1) == expected


def test_a_crowd_is_no_miss_and_forgives_its_own_class():
    for category, expected in ((1, None), (2, (0.0, 0.0, 0.0))):
        counted = quality([[3] * 4], [segment(3, 1, 4, 1)], [[6] * 4], [segment(6, category)])
        assert counted.of_category(1) is None
        assert counted.of_category(category) == expected


@pytest.mark.parametrize("seed", cases.SEEDS)
def test_an_image_counts_as_in_the_reference(seed):
    counted = PanopticQuality(cases.CATEGORIES)
    counted.add(*cases.case(seed))
    for category, sums in STORED["images"][str(seed)].items():
        assert counted.sums[int(category)].tolist() == pytest.approx(sums, rel=1e-12)


def test_means_over_images_are_those_of_the_reference():
    halves = [PanopticQuality(cases.CATEGORIES) for _ in range(2)]
    for seed in cases.SEEDS:
        halves[seed % 2].add(*cases.case(seed))
    total = PanopticQuality(cases.CATEGORIES)
    total.merge(halves)
    metrics = total.metrics()
    for ending, means in STORED["means"].items():
        for key in ("pq", "sq", "rq"):
            assert metrics[f"{key.upper()}{ending}"] == pytest.approx(100 * means[key])


@pytest.mark.parametrize(
    ("ids", "predicted", "words"),
    [
        ([[4, 0]], [], "segment 4 is in the map of an image alone"),
        ([[0, 0]], [segment(4, 1)], "segment 4 is in the list of an image alone"),
        ([[4, 0]], [segment(4, 3)], "has category 3; there are 1, 2, 5, 7, 9, 11"),
        ([[4]], [segment(4, 1)], r"\(1, 1\) pixels cannot be held against one of \(1, 2\)"),
    ],
)
def test_maps_that_contradict_their_lists_are_told(ids, predicted, words):
    with pytest.raises(DataError, match=words):
        quality([[1, 1]], [segment(1, 1, 2)], ids, predicted)


def test_without_images_there_are_no_numbers():
    assert all(map(math.isnan, PanopticQuality(cases.CATEGORIES).metrics({1: "dog"}).values()))


# --- data sets and the evaluator

CITY = "stadt_000000_000019"
NAMES = {
    "coco": ("a.jpg", "a.png", "a.jpg"),
    "cityscapes": (
        f"{CITY}_leftImg8bit.png",
        f"{CITY}_gtFine_panoptic.png",
        f"{CITY}_gtFine_leftImg8bit.png",
    ),
}
"""Name of the image, of its PNG of segments, and of the image in the panoptic JSON."""


def write_files(folder, kind="coco"):
    """A data set of one image: a car of 4 pixels, a road of 3 and one that is void."""
    image, file, listed = NAMES[kind]
    (folder / "png").mkdir()
    write_ids(folder / "png" / file, np.array([[26001] * 4, [7, 7, 7, 0]]))
    segments = [segment(26001, 26, 4), segment(7, 7, 3)]
    tree = {
        "images": [{"id": "x", "file_name": listed}],
        "annotations": [{"image_id": "x", "file_name": file, "segments_info": segments}],
        "categories": [
            {"id": 26, "name": "car", "isthing": 1},
            {"id": 7, "name": "road", "isthing": 0},
            {"id": 8, "name": "sidewalk", "isthing": 0},
        ],
    }
    (folder / "panoptic.json").write_text(json.dumps(tree))
    return folder / image


@pytest.fixture(params=NAMES)
def labelled(request, tmp_path, monkeypatch):
    """Name of a registered data set with panoptic files, and its image."""
    monkeypatch.setenv("MASKRCNN_REPRO_CACHE", str(tmp_path / "cache"))
    image, name = write_files(tmp_path, request.param), "own_panoptic"
    DatasetCatalog.register(name, list)
    MetadataCatalog.get(name).set(thing_classes=["car"])
    register_panoptic(name, tmp_path / "panoptic.json", tmp_path / "png")
    yield name, image
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


def prediction(rows, *segments):
    infos = [{"id": n, "isthing": thing, "category_id": c} for n, thing, c in segments]
    return {"panoptic_seg": (torch.tensor(rows, dtype=torch.int32), infos)}


def test_predictions_are_measured_and_written_in_coco_s_format(labelled, tmp_path):
    name, image = labelled
    evaluator = PanopticEvaluator(name, tmp_path / "out")
    # Car exact; the road is called sidewalk (semantic label 2).
    output = prediction([[1] * 4, [2] * 4], (1, True, 0), (2, False, 2))
    evaluator.process([{"file_name": str(image)}], [output])
    metrics = evaluator.evaluate()["panoptic"]
    assert (metrics["PQ-car"], metrics["PQ-road"], metrics["PQ-sidewalk"]) == (100.0, 0.0, 0.0)
    assert metrics["PQ"] == pytest.approx(100 / 3)
    tree = json.loads((tmp_path / "out" / RESULTS).read_text())
    (entry,) = tree["annotations"]
    assert entry["image_id"] == "x"
    assert [s["category_id"] for s in entry["segments_info"]] == [26, 8]
    ids = read_ids(tmp_path / "out" / FOLDER / entry["file_name"])
    assert ids.tolist() == [[1] * 4, [2] * 4]


def test_images_drawn_again_weigh_what_each_adds(tmp_path):
    # The first image has its thing (IoU 1) and misses its stuff, the second misses its thing and has 3/4 of its stuff.
    (tmp_path / "png").mkdir()
    (tmp_path / "out").mkdir()
    truth = {"a": [[1, 1, 2, 2]], "b": [[1, 2, 2, 2, 2]]}
    found = {"a": [[1, 1, 0, 0]], "b": [[0, 2, 2, 2, 0]]}
    categories = [{"id": 1, "name": "dog", "isthing": 1}, {"id": 7, "name": "sky", "isthing": 0}]
    files = {}
    for folder, maps in (("png", truth), ("out", found)):
        entries = []
        for name, ids in reversed(maps.items()) if folder == "out" else maps.items():
            write_ids(tmp_path / folder / f"{name}.png", np.array(ids))
            there = [(n, c, np.sum(np.array(ids) == n)) for n, c in ((1, 1), (2, 7))]
            segments = [segment(n, c, int(area)) for n, c, area in there if area]
            entries.append(
                {"image_id": name, "file_name": f"{name}.png", "segments_info": segments}
            )
        file = tmp_path / f"{folder}.json"
        file.write_text(json.dumps({"annotations": entries, "categories": categories}))
        files[folder] = PanopticTruth.read(file, tmp_path / folder, results=folder == "out")
    counted = count_images(files["png"], files["out"])
    assert counted.image_ids == ("a", "b")
    values = counted.resampled(np.array([[1, 1], [2, 0], [0, 2], [3, 1], [0, 0]]))
    np.testing.assert_allclose(values["PQ_th"], [200 / 3, 100, 0, 100 * 3 / 3.5, math.nan])
    np.testing.assert_allclose(values["PQ_st"], [50, 0, 75, 100 * 0.75 / 2.5, math.nan])
    np.testing.assert_allclose(values["PQ"], (values["PQ_th"] + values["PQ_st"]) / 2)


def test_truth_and_predictions_are_drawn_beside_each_other(labelled, tmp_path, monkeypatch):
    name, image = labelled
    Image.new("RGB", (4, 2), (90, 90, 90)).save(image)
    record = {"file_name": str(image), "height": 2, "width": 4}
    monkeypatch.setattr(DatasetCatalog, "get", lambda _: [record])
    evaluator = PanopticEvaluator(name, tmp_path / "out")
    output = prediction([[0] * 4, [2] * 4], (2, False, 1))
    evaluator.process([{"file_name": str(image)}], [output])
    evaluator.evaluate()
    write_panoptic_sheet(
        tmp_path / "sheet.png",
        dataset=name,
        results=tmp_path / "out" / RESULTS,
        images=3,
        title="PQ 50.0",
        caption="",
    )
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    # The car is tinted in the left picture alone, the upper half of it.
    left, right = (sheet[HEADER + CAPTION + 40, GAP + x + 300] for x in (0, CELL[0] + SEAM))
    assert left.tolist() != [90] * 3
    assert right.tolist() == [90] * 3


def test_the_table_has_a_line_for_things_stuff_and_each_class():
    counted = quality([[1, 1, 7]], [segment(1, 1, 2)], [[4, 4, 0]], [segment(4, 1)])
    text = metrics_table({"panoptic": counted.metrics({1: "dog", 7: "sky"})})
    lines = [line.split() for line in text.splitlines()]
    assert lines[0] == ["PQ", "SQ", "RQ"]
    assert [line[0] for line in lines[2:]] == ["panoptic", "things", "stuff", "dog", "sky"]
    assert lines[5] == ["dog", "100.0", "100.0", "100.0"]
    assert lines[6] == ["sky", "-", "-", "-"]
    assert summary({"panoptic": {"PQ": 41.3}}) == "PQ 41.3"


def test_semantic_labels_are_made_of_panoptic_ones(labelled):
    name, image = labelled
    assert stuff_names(name) == ["things", "road", "sidewalk"]
    (record,) = with_labels([{"file_name": str(image), "height": 2, "width": 4}], name)
    assert np.asarray(Image.open(record["sem_seg_file_name"])).tolist() == [[0] * 4, [1, 1, 1, 255]]


def test_mistakes_of_an_evaluation_are_told(labelled, tmp_path):
    name, image = labelled
    evaluator = PanopticEvaluator(name, tmp_path / "out")
    with pytest.raises(ConfigError, match="the model makes no panoptic maps; set it to False"):
        evaluator.process([{"file_name": str(image)}], [{"instances": None}])
    with pytest.raises(DataError, match=r"Image other.jpg has no panoptic labels: .* knows"):
        evaluator.process([{"file_name": "other.jpg"}], [prediction([[0]])])
    with pytest.raises(DataError, match=r"Image .*: Panoptic segment 5 is in the list"):
        evaluator.process([{"file_name": str(image)}], [prediction([[0] * 4] * 2, (5, True, 0))])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not in COCO's panoptic format"),
        ('{"annotations": []}', "format .*: KeyError: 'categories'"),
        ('{"annotations": [], "categories": []}', "it is no COCO panoptic file"),
        (None, r"panoptic.json does not exist"),
    ],
)
def test_wrong_files_are_told(labelled, tmp_path, text, words):
    file = tmp_path / "panoptic.json"
    file.unlink()
    if text is not None:
        file.write_text(text)
    with pytest.raises(DataError, match=words):
        PanopticEvaluator(labelled[0], tmp_path)


def test_other_things_than_those_of_the_data_set_are_told(labelled, tmp_path):
    file = tmp_path / "panoptic.json"
    file.write_text(file.read_text().replace('"car"', '"tram"'))
    with pytest.raises(DataError, match=r"has the classes 'car', but the things .* are 'tram'"):
        PanopticEvaluator(labelled[0], tmp_path)


def test_other_panoptic_files_take_the_place_of_the_first(labelled, tmp_path):
    name, _ = labelled
    assert stuff_names(name) == ["things", "road", "sidewalk"]
    other = tmp_path / "other.json"
    other.write_text((tmp_path / "panoptic.json").read_text().replace("sidewalk", "pavement"))
    register_panoptic(name, other, tmp_path / "png")
    assert stuff_names(name) == ["things", "road", "pavement"]


def test_cityscapes_and_coco_are_looked_for_where_their_archives_put_them():
    for name, end in (
        ("cityscapes_fine_val", "cityscapes/gtFine/cityscapes_panoptic_val.json"),
        ("coco_2017_train", "coco/annotations/panoptic_train2017.json"),
    ):
        assert MetadataCatalog.get(name).panoptic_json.endswith(end)
        with pytest.raises(DataError, match=rf"'{name}' has no semantic labels: .*{end} does not"):
            stuff_names(name)
