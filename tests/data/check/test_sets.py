"""What a finding means for a run: by what a set is used for, by the config's sizes, and beside another set."""

import json
import logging
from pathlib import Path

from maskrcnn_repro.config import get_config
from maskrcnn_repro.data import notes_of, prepare_data, sets
from maskrcnn_repro.data.check.findings import Findings
from maskrcnn_repro.data.check.pairs import check_pair
from maskrcnn_repro.data.check.pixels import check_pixels, check_shared_pixels
from maskrcnn_repro.data.check.scan import scan_coco
from maskrcnn_repro.data.check.sizes import anchor_shapes, check_sizes
from maskrcnn_repro.data.check.table import SEVERITIES, USES, defects
from maskrcnn_repro.data.image_file import ImageFiles
from maskrcnn_repro.errors import DataError

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from PIL import Image

from tests.data.check.corpus import CORPUS
from tests.data.check.spoiling import again, drop, put, sound, write


@pytest.fixture
def warned(caplog, catalog):
    """Makes a config ready for a spoilt set, which is trained on, tested on or both; returns what was said."""

    def prepare(folder, spoil=None, uses=("train",), **changes):
        path, images = write(folder, spoil)
        cfg = get_config()
        cfg.DATASETS.CUSTOM = (("own", str(path), str(images)),)
        cfg.DATASETS.TRAIN = ("own",) if "train" in uses else ()
        cfg.DATASETS.TEST = ("own",) if "test" in uses else ()
        cfg.MODEL.MASK_ON = True
        cfg.merge_from_list(
            [part for key, value in changes.items() for part in (key.replace("__", "."), value)]
        )
        with caplog.at_level(logging.WARNING, logger="maskrcnn_repro"):
            prepare_data(cfg)
        return [record.getMessage() for record in caplog.records], notes_of(cfg)

    return prepare


# --- the table


def test_there_are_at_least_fifty_kinds_and_each_row_is_whole():
    assert len(defects()) >= 50
    for code, row in defects().items():
        assert row.train in ("", *SEVERITIES), code
        assert row.test in ("", *SEVERITIES), code
        assert row.train or row.test, code
        assert row.of in ("file", "record", "image", "annotation", "category", "keypoint"), code
        assert not row.cure.endswith("."), code


def test_every_code_that_a_check_names_is_a_row_and_every_row_is_named():
    package = Path(scan_coco.__code__.co_filename).parent
    source = "".join(path.read_text() for path in package.glob("*.py"))
    assert [code for code in defects() if f'"{code}"' not in source] == []


# --- severity by use


@pytest.mark.parametrize(
    ("name", "train", "test"),
    [
        ("no annotations", "error", "note"),
        ("all crowd", "error", "warning"),
        ("crowd without outline", "warning", "error"),
        ("area -1", "note", "warning"),
        ("outline absent", "error", "error"),
        ("iscrowd absent", "note", "note"),
    ],
)
def test_severity_follows_the_use(tmp_path, warned, name, train, test):
    for use, severity in zip(USES, (train, test), strict=True):
        folder = tmp_path / use
        folder.mkdir()
        DatasetCatalog.pop("own", None)
        MetadataCatalog.pop("own", None)
        sentence = f"{folder / 'a.json'}: "
        if severity == "error":
            with pytest.raises(DataError, match=r"a\.json"):
                warned(folder, CORPUS[name][0], [use])
            continue
        warnings, notes = warned(folder, CORPUS[name][0], [use])
        said = {"warning": warnings, "note": notes}[severity]
        row = defects()[CORPUS[name][1]]
        assert any(text.startswith(sentence) and text.endswith(f"{row.cure}.") for text in said)


def test_masks_are_asked_for_by_a_mask_head_alone(tmp_path, warned):
    warnings, _ = warned(tmp_path, CORPUS["outline absent"][0], MODEL__MASK_ON=False)
    assert not any("segmentation" in text for text in warnings)


def test_one_sentence_counts_names_the_first_and_the_cure(tmp_path, warned):
    def two(tree, images):
        tree["annotations"][0]["segmentation"] = tree["annotations"][5]["segmentation"] = [
            [1, 2, 3]
        ]

    with pytest.raises(DataError) as error:
        warned(tmp_path, two)
    assert str(error.value) == (
        f"{tmp_path / 'a.json'}: a polygon of annotation 4 has 3 numbers, which are no pairs of x and y "
        "(2 annotations: 4, 9); give x and y of each point."
    )


def test_other_kinds_of_error_are_counted(tmp_path, warned):
    def two(tree, images):
        tree["annotations"][0]["segmentation"] = 5
        tree["annotations"][1]["iscrowd"] = 7

    with pytest.raises(DataError, match=r"\(1 more kind of error: maskrcnn check lists all\)\.$"):
        warned(tmp_path, two)


def test_a_warning_is_said_once(tmp_path, warned):
    warnings, _ = warned(tmp_path, CORPUS["box outside"][0])
    assert len([text for text in warnings if "lies outside" in text]) == 1


def test_what_is_mended_reaches_the_loader_and_the_file_stays(tmp_path, warned):
    def spoil(tree, images):
        CORPUS["category name twice, one unused"][0](tree, images)
        for annotation, flag in zip(tree["annotations"], (None, False, 0, 0, True, 0), strict=True):
            annotation["iscrowd"] = flag
        del tree["annotations"][5]["iscrowd"]

    warnings, _ = warned(tmp_path, spoil, USES)
    assert "category 0 has the name 'cell' of another one" in warnings[0]
    records = DatasetCatalog.get("own")
    assert MetadataCatalog.get("own").thing_classes == ["person", "cell"]
    assert [a["iscrowd"] for r in records for a in r["annotations"]] == [0, 0, 0, 0, 1, 0]
    truth = json.loads(Path(MetadataCatalog.get("own").json_file).read_text())
    assert [a["iscrowd"] for a in truth["annotations"]] == [0, 0, 0, 0, 1, 0]
    assert "iscrowd" not in json.loads((tmp_path / "a.json").read_text())["annotations"][5]


def test_sets_that_others_registered_are_checked_too(tmp_path, catalog):
    path, images = write(tmp_path, CORPUS["polygon NaN"][0])
    register_coco_instances("theirs", {}, str(path), str(images))
    MetadataCatalog.get("theirs").thing_classes = ["person", "cell"]
    cfg = get_config()
    cfg.DATASETS.TEST, cfg.MODEL.ROI_HEADS.NUM_CLASSES = ("theirs",), 2
    with pytest.raises(DataError, match="annotation 4 has nan among its numbers"):
        prepare_data(cfg)


def test_an_evaluation_asks_nothing_of_the_set_to_train_on(tmp_path, catalog):
    path, images = write(tmp_path, CORPUS["no annotations"][0])
    cfg = get_config()
    cfg.DATASETS.CUSTOM = (("own", str(path), str(images)),)
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = ("own",)
    prepare_data(cfg, training=False)
    assert any("has no 'annotations'" in note for note in notes_of(cfg, training=False))
    with pytest.raises(DataError, match="has no 'annotations'"):
        prepare_data(cfg)


@pytest.mark.parametrize("name", ["file missing", "image a web page"])
def test_broken_images_that_the_loader_leaves_out_are_a_warning(
    tmp_path, warned, monkeypatch, name
):
    spoil = CORPUS[name][0]
    with pytest.raises(DataError, match=r"\(1 of 2 images are broken, more than the 1% that DATA"):
        warned(tmp_path, spoil, DATALOADER__SKIP_BROKEN=True)
    monkeypatch.setattr("maskrcnn_repro.data.check.judge.BROKEN_SHARE", 0.5)
    with pytest.raises(DataError, match=r"im2\.png cannot be read|are missing"):
        warned(tmp_path, spoil)
    warnings, _ = warned(tmp_path, spoil, DATALOADER__SKIP_BROKEN=True)
    assert [text for text in warnings if "im2.png cannot be read" in text or "are missing" in text]


def test_grey_of_16_bits_needs_black_and_white(tmp_path, warned):
    spoil = CORPUS["image of 16 bits"][0]
    with pytest.raises(
        DataError, match=r"im2\.png, is grey of more than 8 bits .*INPUT\.PIXEL_RANGE"
    ):
        warned(tmp_path, spoil)
    warnings, notes = warned(tmp_path, spoil, INPUT__PIXEL_RANGE=(0, 4095))
    assert not any("more than 8 bits" in text for text in warnings)
    assert any("more than 8 bits" in text for text in notes)
    findings = Findings(tmp_path)
    scan = scan_coco(*write(tmp_path, spoil))
    check_pixels(scan, findings, ImageFiles())
    assert findings.places == {}
    check_pixels(scan, findings, ImageFiles((0, 4095)))
    assert findings.places == {"pixels-constant": [2]}


def test_one_set_for_both_uses_is_one_sentence(tmp_path, warned):
    warnings, _ = warned(tmp_path, None, USES)
    (sentence,) = [text for text in warnings if "learnt" in text]
    assert sentence == (
        f"{tmp_path / 'a.json'}: training and evaluation use this same set, so that AP tells what was learnt "
        "by heart; split its images into two sets."
    )


# --- sizes


def test_anchors_have_their_area_and_ratio():
    cfg = get_config()
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[32], [64]]
    cfg.MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS = [[0.25, 1.0]]
    # A ratio of 0.25 is four times as wide as high.
    assert anchor_shapes(cfg) == {(64, 16), (32, 32), (128, 32), (64, 64)}
    # One list of sizes is that of all levels, too.
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[32]]
    cfg.MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS = [[0.25], [1.0], [4.0]]
    assert anchor_shapes(cfg) == {(64, 16), (32, 32), (16, 64)}


def sized(tmp_path, use="train", spoil=None, **changes):
    scan = scan_coco(*write(tmp_path, spoil))
    cfg = get_config()
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST = (80,), 80
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[30]]
    cfg.MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS = [[1.0]]
    cfg.merge_from_list(
        [part for key, value in changes.items() for part in (key.replace("__", "."), value)]
    )
    findings = Findings(scan.file)
    check_sizes(scan, cfg, use, findings)
    return {code: findings.places[code] for code in findings.codes()}


def test_sizes_after_the_resize_are_held_against_the_config(tmp_path):
    # Boxes of 30 x 30 and 20 x 10: IoU of the latter with the anchor 200 / 900.
    assert sized(tmp_path) == {"anchor-none": [5, 6]}
    assert sized(tmp_path, "test") == {}
    assert sized(tmp_path, MODEL__RPN__IOU_THRESHOLDS=[0.2, 0.7]) == {}
    # Of half the size: 15 x 15 and 10 x 5, none with an IoU above 0.25.
    halved = sized(tmp_path, INPUT__MIN_SIZE_TRAIN=(40, 160))
    assert halved == {"anchor-none": [4, 5, 6, 7, 9], "anchor-few": ["a.json"]}
    assert sized(tmp_path, "test", INPUT__MIN_SIZE_TEST=16)["object-tiny"] == [5, 6]
    # The longer side, 96, allows no more than 9.6.
    assert sized(tmp_path, "test", INPUT__MAX_SIZE_TEST=9)["object-tiny"] == [4, 5, 6, 7, 9]


def test_what_is_said_of_sizes(tmp_path):
    # A box of 20 x 10 at a fifth of its size: the root of 4 x 2 is 2.8. The median of three 15 x 15 and two 10 x 5.
    scan, cfg = scan_coco(*write(tmp_path)), get_config()
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST = (40,), 16
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[30]]
    cfg.MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS = [[1.0]]
    findings = Findings(scan.file)
    check_sizes(scan, cfg, "test", findings)
    check_sizes(scan, cfg, "train", findings)
    says = findings.says("object-tiny")
    assert "annotation 5 has an area whose square root is 2.8 px after the resize to 16" in says
    assert "the median of all objects is 15 x 15 (width x height)" in findings.says("anchor-few")


def test_no_text_but_the_first_case_has_values():
    for row in defects().values():
        for text in (row.training, row.evaluation, row.cure):
            assert not set("{}") & set(text), (row.code, text)


def test_more_objects_than_detections(tmp_path):
    assert sized(tmp_path, "test", TEST__DETECTIONS_PER_IMAGE=3) == {"objects-above-kept": [2]}
    assert sized(tmp_path, "test", TEST__DETECTIONS_PER_IMAGE=4) == {}

    def crowded(classes):
        def spoil(tree, images):
            for place in range(100, 200):
                again("annotations", id=place, category_id=1 + place % classes)(tree, images)

        return spoil

    # COCO's limit is one of a class: two of 52 objects each are within it, one of 102 is not.
    changes = {"TEST__DETECTIONS_PER_IMAGE": 200}
    assert sized(tmp_path, "test", crowded(2), **changes) == {}
    assert sized(tmp_path, "test", crowded(1), **changes) == {"objects-above-coco": [2]}


def test_flip_pairs_that_part_left_from_right(tmp_path, warned):
    keys = {"MODEL__KEYPOINT_ON": True, "INPUT__KEYPOINT_FLIP_PAIRS": [["left_eye", "nose"]]}
    warnings, _ = warned(tmp_path, **keys)
    assert any("swaps 'left_eye' and 'nose'" in text for text in warnings)


# --- two sets


def pair(tmp_path, spoil, **options):
    train = scan_coco(*write(tmp_path))
    test = scan_coco(*write(tmp_path, spoil, name="b.json"))
    findings = Findings(train.file)
    check_pair(train, test, findings)
    return findings


def test_val_equal_to_train(tmp_path):
    findings = pair(tmp_path, None)
    assert findings.codes() == ["sets-same-file"]
    assert "2 of 2 images are those of" in findings.says("sets-same-file")
    (tmp_path / "images" / "sub").mkdir()
    renamed = put("images", 0, "file_name", to="sub/../im2.png")
    assert pair(tmp_path, renamed).places["sets-same-file"] == [2, 3]


@pytest.mark.parametrize(
    ("spoil", "code", "says"),
    [
        (put("categories", 1, "name", to="worm"), "sets-classes-differ", "only the first has 'cell'; only the second 'worm'"),
        (lambda t, i: [c.update(id=3 - c["id"]) for c in t["categories"]] and None, "sets-classes-order", "in another order"),
    ],
)  # fmt: skip
def test_other_classes_in_val(tmp_path, spoil, code, says):
    assert says in pair(tmp_path, spoil).says(code)


def test_a_class_that_only_val_has_objects_of(tmp_path):
    def without_people(tree, images):
        tree["annotations"] = [a for a in tree["annotations"] if a["category_id"] == 2]

    train = scan_coco(*write(tmp_path, without_people))
    test = scan_coco(*write(tmp_path, name="b.json"))
    findings = Findings(train.file)
    check_pair(train, test, findings)
    assert findings.places["sets-class-untrained"] == ["person"]


def test_the_same_pixels_under_another_name(tmp_path):
    train = scan_coco(*write(tmp_path))
    (tmp_path / "val").mkdir()

    def renamed(tree, images):
        Image.open(images / "im2.png").save(images / "other.bmp")
        tree["images"][0]["file_name"] = "other.bmp"
        Image.fromarray(np.zeros((80, 96, 3), np.uint8)).save(images / "im3.png")

    test = scan_coco(*write(tmp_path / "val", renamed))
    findings = Findings(train.file)
    digests = [check_pixels(scan, findings, ImageFiles()) for scan in (train, test)]
    check_shared_pixels(*digests, test, findings)
    assert {code: findings.places[code] for code in findings.codes()} == {
        "pixels-constant": [3],
        "sets-same-pixels": [2],
    }
    assert "1 of 2 images have the pixels of an image of" in findings.says("sets-same-pixels")


def test_images_that_cannot_be_decoded_or_are_there_twice(tmp_path):
    def cut(tree, images):
        content = (images / "im2.png").read_bytes()
        (images / "im2.png").write_bytes(content[: len(content) // 2])

    findings = Findings(tmp_path)
    scan = scan_coco(*write(tmp_path, cut))
    # Its header is whole.
    assert not scan.findings.of_severity("error", "train")
    check_pixels(scan, findings, ImageFiles())
    assert findings.places == {"pixels-broken": [2]}

    def copied(tree, images):
        (images / "im3.png").write_bytes((images / "im2.png").read_bytes())

    findings = Findings(tmp_path)
    check_pixels(scan_coco(*write(tmp_path, copied)), findings, ImageFiles())
    assert findings.places == {"pixels-twice": [3]}


def test_an_empty_file_of_a_sound_form(tmp_path):
    scan = scan_coco(*write(tmp_path, drop("annotations", 0)))
    assert scan.complete
    assert len(scan.objects.ids) == len(sound()["annotations"]) - 1


@pytest.mark.parametrize("name", ["mini_coco_train", "mini_people_val", "mini_coco_seed1_train"])
def test_generated_sets_are_not_scanned(name, tmp_path, monkeypatch):
    file, _ = write(tmp_path, None)
    places = {"json_file": str(file), "image_root": str(tmp_path)}
    monkeypatch.setattr(sets.MetadataCatalog, "get", lambda name: places)
    assert sets._scan_of(name) is None
    assert sets._scan_of("own") is not None
