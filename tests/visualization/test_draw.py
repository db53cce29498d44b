"""Drawing and the contact sheet, by single pixels and by hand-made objects."""

import json

import maskrcnn_repro  # noqa: F401
from maskrcnn_repro.evaluation.table import metrics_table, summary
from maskrcnn_repro.tables.report.html import predictions as page
from maskrcnn_repro.tables.report.pictured import Scene
from maskrcnn_repro.visualization import sheet
from maskrcnn_repro.visualization.coco_objects import by_image, decode, ground_truth, read_objects
from maskrcnn_repro.visualization.draw import (
    PALETTE,
    TINT,
    Objects,
    Style,
    _label,
    class_color,
    colored_as,
    draw,
    number_objects,
)
from maskrcnn_repro.visualization.panoptic import draw_panoptic
from maskrcnn_repro.visualization.sheet import pick, shorten, write_sheet

import cv2
import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode
from pycocotools import mask as coco_mask

from tests.helpers.traced_memory import peak_of

STYLE = Style(names=["disc", "bar"], edges=[(0, 1, (1, 2, 3))])
GREY = np.full((40, 60, 3), 100, np.uint8)


def one_object(**fields):
    mask = np.zeros((40, 60), bool)
    mask[20:36, 10:40] = True
    return Objects(
        boxes=np.array([[10.0, 20.0, 40.0, 36.0]]), classes=np.array([0]), masks=[mask], **fields
    )


def test_colours_are_stable_and_differ():
    assert class_color(0) == PALETTE[0]
    assert class_color(12) == tuple(round(0.72 * v) for v in PALETTE[0])
    assert len({class_color(i) for i in range(36)}) == 36


def test_a_mask_is_tinted_inside_and_nothing_is_changed_outside():
    out = draw(GREY, one_object(), STYLE, 1.0)
    inside = np.array([(1 - TINT) * 100 + TINT * c for c in class_color(0)]).astype(np.uint8)
    assert out[30, 30].tolist() == inside.tolist()
    assert out[5, 50].tolist() == [100, 100, 100]
    assert out[21, 10].tolist() == list(class_color(0))  # the box's left edge
    assert (GREY == 100).all()


def test_magnification_scales_the_picture_and_the_places():
    out = draw(GREY, one_object(), STYLE, 3.0)
    assert out.shape == (120, 180, 3)
    assert out[90, 90].tolist() == draw(GREY, one_object(), STYLE, 1.0)[30, 30].tolist()


def test_no_objects_leave_the_image_as_it_is():
    nothing = Objects(boxes=np.zeros((0, 4)), classes=np.zeros(0, int))
    assert (draw(GREY, nothing, STYLE, 1.0) == GREY).all()


def test_a_score_makes_the_label_longer():
    def label_width(objects):
        row = draw(np.zeros((40, 120, 3), np.uint8), objects, STYLE, 1.0)[7]
        return (row == class_color(0)).all(axis=1).sum()

    bare = Objects(boxes=np.array([[0.0, 17.0, 90.0, 30.0]]), classes=np.array([0]))
    scored = Objects(bare.boxes, bare.classes, scores=np.array([0.5]))
    assert label_width(scored) > label_width(bare) + 10


def test_unlabelled_keypoints_and_their_limbs_are_not_drawn():
    def limb(visibility):
        points = np.array([[[55.0, 2.0, 2.0], [55.0, 38.0, visibility]]])
        out = draw(GREY, one_object(keypoints=points), STYLE, 1.0)
        return out[20, 55].tolist()

    assert limb(2.0) == [1, 2, 3]
    assert limb(0.0) == [100, 100, 100]


def test_a_keypoint_of_low_score_counts_for_ap_and_is_drawn_finer():
    def ink(score):
        points = np.array([[[55.0, 2.0, score], [55.0, 38.0, score]]])
        out = draw(GREY, one_object(keypoints=points), STYLE, 1.0)
        return (out[20, 50:61] != 100).any(axis=1).sum(), (out[2, 50:61] != 100).any(axis=1).sum()

    limb, dot = ink(0.04)
    assert 0 < limb < ink(0.06)[0]
    assert 0 < dot < ink(0.06)[1]


def test_masks_are_read_from_polygons_and_both_kinds_of_rle():
    square = np.zeros((8, 10), np.uint8)
    square[2:6, 3:7] = 1
    packed = coco_mask.encode(np.asfortranarray(square))
    runs = {"size": [8, 10], "counts": [26, 4, 4, 4, 4, 4, 4, 4, 26]}
    for segmentation in ([[3, 2, 7, 2, 7, 6, 3, 6]], packed, runs):
        assert (decode(segmentation, (8, 10)) == square.astype(bool)).all()


def test_ground_truth_leaves_crowds_out():
    thing = {"bbox": [1, 2, 3, 4], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 1}
    record = {"height": 8, "width": 8, "annotations": [thing, {**thing, "iscrowd": 1}]}
    objects = ground_truth(record)
    assert objects.boxes.tolist() == [[1, 2, 4, 6]]
    assert objects.classes.tolist() == [1]
    assert len(objects.masks) == 0


def test_predictions_get_the_models_classes_and_pixel_centres():
    entry = {"bbox": [1, 2, 3, 4], "category_id": 90, "score": 0.75, "keypoints": [4, 5, 0.9]}
    objects = read_objects([entry], {90: 3})
    assert objects.classes.tolist() == [3]
    assert objects.keypoints.tolist() == [[[4.5, 5.5, 0.9]]]
    assert len(read_objects([], {90: 3})) == 0


def test_weak_predictions_are_left_out(tmp_path):
    entries = [{"image_id": 1, "score": s} for s in (0.49, 0.5, 0.9)]
    (tmp_path / "p.json").write_text(json.dumps(entries))
    assert [e["score"] for e in by_image(tmp_path / "p.json", 0.5)[1]] == [0.5, 0.9]
    assert by_image(tmp_path / "missing.json", 0.5) == {}


def test_images_are_picked_evenly_among_those_with_objects():
    records = [{"number": i, "annotations": [1] if i % 2 else []} for i in range(20)]
    assert [r["number"] for r in pick(records, 5)] == [1, 5, 9, 13, 17]
    assert len(pick(records, 50)) == 10
    assert pick([{"annotations": []}], 3) == [{"annotations": []}]


@pytest.fixture
def dataset(tmp_path):
    name = f"drawn_{tmp_path.name}"
    cv2.imwrite(str(tmp_path / "a.png"), GREY)
    record = {"file_name": str(tmp_path / "a.png"), "image_id": 1, "height": 40, "width": 60}
    DatasetCatalog.register(name, lambda: [record, dict(record)])
    MetadataCatalog.get(name).thing_classes = ["disc"]
    yield name
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


def test_the_sheet_holds_both_sides_of_every_image(dataset, tmp_path):
    path = tmp_path / "out" / "sheet.png"
    write_sheet(
        path,
        dataset=dataset,
        predictions=tmp_path / "none.json",
        images=2,
        threshold=0.5,
        metrics={"bbox": {"AP": 12.34}},
        caption="7 iterations",
    )
    picture = cv2.imread(str(path))
    grey = (picture == 100).all(axis=2).sum()
    assert grey >= 4 * 320 * 213 * 0.99  # two pairs of 60 by 40 pixels, magnified to 320
    assert not list(path.parent.glob(".part-*"))


def test_the_table_has_a_dash_where_nothing_was_measured():
    tasks = {"bbox": {"AP": 31.549, "AP50": 50.0, "APl": float("nan"), "AP-disc": 3.0}}
    header, _, row = metrics_table(tasks).splitlines()
    assert header.split() == ["AP", "AP50", "AP75", "APs", "APm", "APl"]
    assert row.split() == ["box", "31.5", "50.0", "-", "-", "-", "-"]
    assert summary({**tasks, "segm": {"AP": 25.8}}) == "box AP 31.5 · mask AP 25.8"


def test_objects_of_a_single_class_differ_in_colour():
    left, right = np.zeros((2, 40, 60), bool)
    left[5:35, 5:25], right[5:35, 35:50] = True, True
    boxes = np.array([[5.0, 5.0, 25.0, 35.0], [35.0, 5.0, 50.0, 35.0]])
    both = Objects(boxes=boxes, classes=np.array([0, 0]), masks=[left, right])
    out = draw(GREY, both, Style(names=["cell"]), 1.0)
    assert out[20, 15].tolist() != out[20, 42].tolist()


def test_a_crowded_image_shows_masks_without_boxes():
    many = 13
    masks = np.zeros((many, 40, 60), bool)
    for index in range(many):
        masks[index, 10:14, 4 * index + 1 : 4 * index + 4] = True
    boxes = np.tile([1.0, 2.0, 59.0, 38.0], (many, 1))
    crowd = Objects(boxes=boxes, classes=np.zeros(many, int), masks=list(masks))
    out = draw(GREY, crowd, Style(names=["cell"]), 1.0)
    assert (out[2, 1:59] == 100).all()
    assert (out[12, 1:50] != 100).any()


def test_a_prediction_has_the_colour_of_the_object_that_it_fits():
    """The small object is found too large, so that by size the two change places."""
    truth = Objects(np.array([[0.0, 0, 20, 20], [30.0, 0, 50, 19]]), np.array([0, 0]))
    boxes = np.array([[30.0, 0, 51, 21], [100.0, 0, 110, 10], [1.0, 0, 20, 20], [0.0, 50, 9, 60]])
    matched = colored_as(Objects(boxes, np.zeros(4, int)), truth)
    assert matched.colors.tolist() == [1, 2, 0, 3]
    assert _label(matched, Style(["cell"]), 3) == "4"
    nothing = Objects(np.zeros((0, 4)), np.zeros(0, int))
    assert colored_as(nothing, truth).colors.tolist() == []
    assert colored_as(truth, nothing).colors.tolist() == [0, 1]
    assert colored_as(truth, truth).colors.tolist() == [0, 1]


def test_a_crowd_and_a_single_class_have_labels_of_number_and_score():
    boxes = np.tile([1.0, 2.0, 59.0, 38.0], (13, 1))
    for names, colors, scores in (
        (["disc", "bar"], None, None),
        (["cell"], np.arange(13), None),
        (["cell"], None, np.full(13, 0.5)),
    ):
        objects = Objects(boxes, np.zeros(13, int), (), scores, colors=colors, numbered=True)
        assert (draw(GREY, objects, Style(names=names), 1.0).min(axis=2) > 200).sum() > 10
    assert _label(Objects(boxes, np.zeros(13, int)), Style(["cell"]), 3) == ""
    colored = Objects(boxes, np.zeros(13, int), (), np.full(13, 0.5), colors=np.arange(13))
    assert _label(colored, Style(["cell"]), 3) == "0.50"
    matched = number_objects(colored)
    assert _label(matched, Style(["cell"]), 3) == "4: 0.50"
    assert _label(matched, STYLE, 3) == "disc 0.50"


def test_each_object_of_several_classes_has_a_colour_of_its_own_where_it_is_numbered():
    boxes = np.array([[5.0, 5.0, 25.0, 35.0], [35.0, 5.0, 55.0, 34.0]])
    both = Objects(boxes, np.array([1, 1]))
    by_class, by_object = (
        draw(GREY, each, STYLE, 1.0)[30] for each in (both, number_objects(both))
    )
    assert by_class[5].tolist() == by_class[35].tolist() == list(PALETTE[1])
    assert [by_object[5].tolist(), by_object[35].tolist()] == [list(c) for c in PALETTE[:2]]


@pytest.mark.parametrize(("objects", "detections"), [(13, 1), (1, 13), (12, 12)])
def test_both_sides_of_a_sheet_are_crowded_or_neither(
    dataset, tmp_path, monkeypatch, objects, detections
):
    MetadataCatalog.get(dataset).set(thing_dataset_id_to_contiguous_id={1: 0})
    shape = {"bbox": [5, 20, 8, 8], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0}
    record = {**DatasetCatalog.get(dataset)[0], "annotations": [shape] * objects}
    monkeypatch.setattr(sheet.DatasetCatalog, "get", lambda name: [record])
    entry = {"image_id": 1, "bbox": [5, 20, 8, 8], "category_id": 1, "score": 0.9}
    (tmp_path / "p.json").write_text(json.dumps([entry] * detections))
    sides = []
    monkeypatch.setattr(
        sheet, "draw", lambda *_, crowded: sides.append(crowded) or np.zeros((9, 9, 3), np.uint8)
    )
    write_sheet(
        tmp_path / "sheet.png",
        dataset=dataset,
        predictions=tmp_path / "p.json",
        images=1,
        threshold=0.5,
        metrics={},
        caption="",
    )
    assert sides == [max(objects, detections) > 12] * 2


@pytest.mark.parametrize("objects", [12, 13])
def test_all_columns_of_a_page_are_drawn_as_the_ground_truth_is(monkeypatch, objects):
    truth = Objects(np.tile([1.0, 2, 9, 9], (objects, 1)), np.zeros(objects, int))
    scene = Scene(("a.png",), (truth,), (GREY,), STYLE, ids=(1,))
    columns = []
    monkeypatch.setattr(
        page, "draw", lambda image, *_, crowded: columns.append(crowded) or image.copy()
    )
    for count in (objects, 1, 30):
        shown = Objects(np.tile([1.0, 2, 9, 9], (count, 1)), np.zeros(count, int))
        page._pictures(scene, [shown], has_close_ups=False)
    assert columns == [objects > 12] * 3


def test_segments_are_tinted_and_those_without_a_name_or_a_pixel_are_not():
    ids = np.zeros((40, 60), np.int32)
    ids[2:30, 3:20], ids[5:30, 40:58] = 7, 300
    drawn = draw_panoptic(GREY, ids, {300: "sky", 8: "sea"}, {300: 1, 8: 2})
    tint = np.array([(1 - TINT) * 100 + TINT * c for c in class_color(1)]).astype(np.uint8)
    assert drawn[27, 50].tolist() == tint.tolist()
    assert (drawn[:, :38] == 100).all()
    assert (draw_panoptic(GREY, ids, {}, {}) == 100).all()


def test_masks_of_segments_are_made_one_after_the_other():
    ids = np.arange(1000 * 1000, dtype=np.int32).reshape(1000, 1000) // 25_000
    image, names = np.zeros((1000, 1000, 3), np.uint8), dict.fromkeys(range(40), "field")
    assert peak_of(lambda: draw_panoptic(image, ids, names, dict.fromkeys(names, 0), 0.1)) < 15e6


def test_long_names_are_shortened_in_the_middle():
    assert shorten("cat.png", "   3 objects", 400) == "cat.png   3 objects"
    short = shorten("a" * 50 + "b" * 50 + ".png", "   3 objects", 400)
    assert short.startswith("aaa")
    assert "…" in short
    assert short.endswith("b.png   3 objects")
