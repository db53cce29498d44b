"""Registering the user's own COCO data: names, and one clear sentence for each mistake in a file."""

import copy
import logging
from functools import partial

from maskrcnn_repro.data import check_registered, prepare_data, register_custom
from maskrcnn_repro.errors import DataError

import pytest
from detectron2.data import DatasetCatalog

from tests.helpers.custom_data import VALID, changed, config, with_keypoints, write_entry


@pytest.fixture
def write(tmp_path, catalog):
    return partial(write_entry, tmp_path)


# --- names


def test_unknown_name_gets_a_suggestion():
    with pytest.raises(
        DataError, match=r"DATASETS\.TEST: 'mini_coco_vall' is not a registered.*'mini_coco_val'"
    ):
        check_registered(config(["mini_coco_train"], ["mini_coco_vall"]))


def test_seeds_are_registered_by_name(catalog):
    assert "mini_coco_seed31_val" not in catalog
    check_registered(config([], ["mini_coco_seed31_val"]))
    assert "mini_coco_seed31_val" in catalog


def test_same_entry_again_is_fine_and_other_paths_are_not(write):
    first = write()
    register_custom([first, first])
    other = write(name="other")
    with pytest.raises(DataError, match=r"name 'own_train' is taken by .*own_train\.json"):
        register_custom([["own_train", *other[1:]]])
    with pytest.raises(DataError, match="name 'coco_2017_train' is taken"):
        register_custom([["coco_2017_train", *other[1:]]])


@pytest.mark.parametrize("entries", [["own", "a.json", "images"], "own"])
def test_entry_without_its_own_brackets(entries):
    with pytest.raises(DataError, match=r"also for one data set: \[\['name'"):
        register_custom(entries)


@pytest.mark.parametrize("entry", [["own", "a.json"], ["own", "a.json", 3], ["", "a", "b"], 5])
def test_entry_not_of_three_strings(entry):
    with pytest.raises(DataError, match="three strings each, but one is"):
        register_custom([entry])


# --- files


@pytest.mark.parametrize("name", ["..", "a/b", "../b", "/own", "a\\b", "é" * 101])
def test_a_name_that_cannot_be_a_folder(name):
    with pytest.raises(DataError, match="cannot be the name of a folder in OUTPUT_DIR"):
        register_custom([[name, "a.json", "images"]])


def test_missing_json_and_missing_folder(write, tmp_path):
    name, path, folder = write()
    with pytest.raises(DataError, match=r"gone\.json: the COCO file cannot be read: No such file"):
        register_custom([[name, str(tmp_path / "gone.json"), folder]])
    with pytest.raises(DataError, match=r"Image folder .*gone \(for .*\) does not exist"):
        register_custom([[name, path, str(tmp_path / "gone")]])


def test_missing_images_are_counted(write):
    cfg = config(["own_train"], [])
    cfg.DATASETS.CUSTOM = (write(changed(images={"file_name": "deep/c.png"})),)
    with pytest.raises(DataError, match=r"1 of 2 images are missing, first .*deep/c\.png"):
        prepare_data(cfg)


def without(key):
    return {k: v for k, v in VALID.items() if k != key}


def repeated(key, **fields):
    tree = copy.deepcopy(VALID)
    tree[key].append({**tree[key][0], **fields})
    return tree


def with_both_zebras():
    tree = repeated("categories", id=8)
    tree["annotations"].append({**tree["annotations"][0], "id": 2, "category_id": 8})
    return tree


def with_two_keypoint_sets():
    tree = with_keypoints(["a", "b"])
    tree["categories"].append({"id": 8, "name": "hand", "keypoints": ["c"]})
    return tree


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ("{", r"own_train\.json: it is no JSON: "),
        ("[]", r"no COCO file: its top level is of type list"),
        (without("images"), r"no COCO file: it has no 'images'; add"),
        (
            {**without("categories"), "categorys": []},
            r"it has no 'categories' \(did you mean 'categorys'\?\)",
        ),
        ({**VALID, "annotations": {}}, r"'annotations' is of type dict, not a list"),
        ({**VALID, "images": [3]}, r"images\[0\] is of type int, not an object"),
        ({**without("annotations"), "annotations": [], "categories": []}, r"'categories' is empty"),
        (changed(annotations={"bbox": None}), r"annotations\[0\] has no 'bbox'; add"),
        (
            changed(images={"file_name": None, "filename": "a.png"}),
            r"images\[0\] has no 'file_name' \(did you mean 'filename'\?\)",
        ),
        (changed(images={"id": "1"}), r"images\[0\]: 'id' is '1' of type str, not int"),
        (changed(images={"id": True}), r"images\[0\]: 'id' is True of type bool, not int"),
        (changed(annotations={"area": True}), r"'area' is True of type bool, not number"),
        (changed(annotations={"area": "9"}), r"'area' is '9' of type str, not number"),
        (changed(annotations={"image_id": 9}), r"annotation 1 names image 9, which"),
        (changed(annotations={"category_id": 9}), r"annotation 1 names category 9, which"),
        (repeated("images"), r"two records have the image id 1"),
        (repeated("annotations"), r"two records have the annotation id 1"),
        (repeated("categories"), r"two records have the category id 7"),
        (with_both_zebras(), r"two records have the category name 'zebra'"),
        (changed(annotations={"bbox": [2, 2, 8, -1]}), r"bbox \[2, 2, 8, -1\] of annotation 1 .*negative"),
        (changed(annotations={"bbox": [2, 2, 8]}), r"is not four finite numbers"),
        (changed(annotations={"bbox": [2, 2, 8, float("nan")]}), r"is not four finite numbers"),
        (changed(annotations={"bbox": [2, 2, 8, float("inf")]}), r"is not four finite numbers"),
        (changed(annotations={"bbox": [2, 2, 8, "8"]}), r"is not four finite numbers"),
        (with_two_keypoint_sets(), r"'person' and 'hand' have different keypoints"),
        (with_keypoints(["a", "a"]), r"two keypoints of category 'person' have the same name"),
        (changed(categories={"keypoints": "nose"}), r"'keypoints' of category 'zebra' is not a list"),
        (changed(categories={"keypoints": ["nose"]}, annotations={"keypoints": [1, 2]}), r"annotation 1 has not 1 keypoints"),
    ],
)  # fmt: skip
def test_wrong_file_is_refused_with_one_sentence(write, tree, message):
    entry = write(tree)
    with pytest.raises(DataError, match=message) as caught:
        register_custom([entry])
    assert "own_train.json" in str(caught.value)
    assert "own_train" not in DatasetCatalog


def test_id_zero_is_warned_of(write, caplog):
    with caplog.at_level(logging.WARNING, logger="maskrcnn_repro"):
        register_custom([write(changed(annotations={"id": 0}))])
    assert "an annotation has the id 0" in caplog.text


def test_box_of_no_area_is_mentioned_as_coco_has_some(write, caplog):
    with caplog.at_level(logging.WARNING, logger="maskrcnn_repro"):
        register_custom([write(changed(annotations={"bbox": [2, 2, 0, 8]}))])
    assert "the bbox [2, 2, 0, 8] of annotation 1 has no area" in caplog.text
    assert "own_train" in DatasetCatalog


def test_data_set_without_any_object_is_valid(write):
    register_custom([write({**VALID, "annotations": []})])
    assert [r["annotations"] for r in DatasetCatalog.get("own_train")] == [[], []]
