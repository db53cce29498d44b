"""Data sets by name: catalogs, COCO files to records and back, and the records of several names."""

import copy
import json

import maskrcnn_repro  # noqa: F401

import numpy as np
import pycocotools.mask as mask_util
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog, get_detection_dataset_dicts
from detectron2.data import detection_utils as utils
from detectron2.data.build import (
    filter_images_with_few_keypoints,
    filter_images_with_only_crowd_annotations,
)
from detectron2.data.datasets import convert_to_coco_json, load_coco_json, register_coco_instances
from detectron2.data.datasets.coco import convert_to_coco_dict
from detectron2.structures import BoxMode

from tests.helpers.data_cases import MISTAKE, TRIANGLE


@pytest.fixture
def name():
    """A data set name that is free, and free again afterwards."""
    yield "made_up_by_test"
    for catalog in (DatasetCatalog, MetadataCatalog):
        catalog.pop("made_up_by_test", None)


@pytest.fixture
def coco_file(tmp_path):
    """Two images out of order, classes 3 and 7, and every kind of annotation."""
    rle = {"size": [10, 20], "counts": [5, 10, 185]}
    annotations = [
        {
            "id": 1,
            "image_id": 9,
            "category_id": 7,
            "bbox": [2, 2, 4, 6],
            "segmentation": [TRIANGLE],
        },
        {"id": 2, "image_id": 4, "category_id": 3, "bbox": [0, 0, 2, 10], "segmentation": rle},
        {
            "id": 3,
            "image_id": 4,
            "category_id": 7,
            "bbox": [0, 0, 5, 5],
            "segmentation": [[1, 1, 2]],
        },
        {"id": 4, "image_id": 4, "category_id": 3, "bbox": [1, 1, 3, 3], "keypoints": [4, 5, 2]},
    ]
    content = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 20, "height": 10} for i in (9, 4)],
        "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}],
        "annotations": [{"iscrowd": 0, "area": 1, **annotation} for annotation in annotations],
    }

    def write(**changes):
        path = tmp_path / "annotations.json"
        path.write_text(json.dumps(content | changes))
        return str(path)

    write.annotations = content["annotations"]
    return write


# Catalogs


def test_catalog_refuses_unknown_and_double_names(name):
    DatasetCatalog.register(name, lambda: [1, 2])
    assert DatasetCatalog.get(name) == [1, 2]
    assert name in DatasetCatalog.list()
    with pytest.raises(AssertionError, match="already registered"):
        DatasetCatalog.register(name, list)
    with pytest.raises(KeyError, match=r"coco_2017_trian.*not registered"):
        DatasetCatalog.get("coco_2017_trian")
    DatasetCatalog.remove(name)
    assert name not in DatasetCatalog


@pytest.mark.embedded_only
def test_messages_suggest_what_was_meant(name):
    with pytest.raises(KeyError, match="Did you mean 'coco_2017_train'"):
        DatasetCatalog.get("coco_2017_trian")
    MetadataCatalog.get(name).thing_classes = ["cat"]
    with pytest.raises(AttributeError, match="Did you mean 'thing_classes'"):
        _ = MetadataCatalog.get(name).thing_class


def test_metadata_can_be_set_once(name):
    metadata = MetadataCatalog.get(name).set(thing_classes=["cat"])
    assert MetadataCatalog.get(name) is metadata
    metadata.thing_classes = ["cat"]
    with pytest.raises(AssertionError, match="dog"):
        metadata.thing_classes = ["dog"]
    with pytest.raises(AttributeError, match=name):
        _ = metadata.keypoint_names
    assert metadata.get("keypoint_names", 5) == 5
    assert metadata.as_dict() == {"name": name, "thing_classes": ["cat"]}
    with pytest.raises(MISTAKE):
        MetadataCatalog.get("")


def test_coco_is_built_in():
    metadata = MetadataCatalog.get("coco_2017_val")
    assert metadata.json_file.endswith("coco/annotations/instances_val2017.json")
    assert metadata.image_root.endswith("coco/val2017")
    ids = metadata.thing_dataset_id_to_contiguous_id
    assert (len(ids), ids[1], ids[11], ids[13], ids[90]) == (80, 0, 10, 11, 79)
    assert metadata.thing_classes[:2] + metadata.thing_classes[-1:] == [
        "person",
        "bicycle",
        "toothbrush",
    ]
    assert metadata.thing_colors[0] == [220, 20, 60]
    minival = MetadataCatalog.get("keypoints_coco_2014_minival")
    assert minival.json_file.endswith("person_keypoints_minival2014.json")
    assert minival.image_root.endswith("coco/val2014")
    assert MetadataCatalog.get("coco_2017_test-dev").json_file.endswith(
        "image_info_test-dev2017.json"
    )


def test_coco_keypoints_change_sides():
    indices = utils.create_keypoint_hflip_indices("keypoints_coco_2017_train")
    assert indices == [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]
    rules = MetadataCatalog.get("keypoints_coco_2017_train").keypoint_connection_rules
    assert rules[0] == ("left_ear", "left_eye", (102, 204, 255))
    with pytest.raises(AttributeError):
        utils.create_keypoint_hflip_indices("coco_2017_train")


def test_metadata_must_agree(name):
    MetadataCatalog.get(name).thing_classes = ["cat"]
    utils.check_metadata_consistency("thing_classes", ["coco_2017_val", "coco_2014_val"])
    with pytest.raises(ValueError, match="thing_classes"):
        utils.check_metadata_consistency("thing_classes", ["coco_2017_val", name])


# COCO files


def test_load_coco_json(coco_file, name):
    first, second = load_coco_json(coco_file(), "images", name)
    assert first["image_id"] == 4  # sorted by id
    assert second == {
        "file_name": "images/9.png",
        "width": 20,
        "height": 10,
        "image_id": 9,
        "annotations": [
            {
                "iscrowd": 0,
                "bbox": [2, 2, 4, 6],
                "bbox_mode": BoxMode.XYWH_ABS,
                "category_id": 1,
                "segmentation": [TRIANGLE],
            }
        ],
    }
    rle, keypoints = first["annotations"]  # a polygon of less than three points is no instance
    mask = mask_util.decode(rle["segmentation"])
    assert (mask.sum(), mask[5:, 0].sum(), mask[:5, 1].sum()) == (10, 5, 5)
    # A pixel's index is the place of its centre less one half.
    assert keypoints["keypoints"] == [4.5, 5.5, 2]
    assert keypoints["category_id"] == 0
    metadata = MetadataCatalog.get(name)
    assert metadata.thing_classes == ["cat", "dog"]
    assert metadata.thing_dataset_id_to_contiguous_id == {3: 0, 7: 1}


def test_load_coco_json_without_a_name_keeps_ids(coco_file):
    records = load_coco_json(coco_file(), "", extra_annotation_keys=["area"])
    assert [a["category_id"] for r in records for a in r["annotations"]] == [3, 3, 7]
    assert records[1]["annotations"][0]["area"] == 1


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"id": 2}, MISTAKE, "not unique"),
        ({"category_id": 5}, KeyError, "category_id.*5"),
        ({"bbox": []}, ValueError, "bbox"),
        ({"ignore": 1}, MISTAKE, "ignore"),
    ],
)
def test_defects_of_a_coco_file(coco_file, name, change, error, message):
    defect = [coco_file.annotations[0] | change, *coco_file.annotations[1:]]
    with pytest.raises(error, match=message):
        load_coco_json(coco_file(annotations=defect), "", name)


def test_coco_file_without_annotations(coco_file, name):
    records = load_coco_json(coco_file(annotations=[]), "", name)
    assert [record["annotations"] for record in records] == [[], []]


@pytest.mark.embedded_only
def test_a_file_of_results_is_no_annotation_file(tmp_path):
    (tmp_path / "results.json").write_text("[]")
    with pytest.raises(ValueError, match=r"results\.json is not a COCO annotation file"):
        load_coco_json(str(tmp_path / "results.json"), "")


def test_conversion_is_the_inverse_of_loading(coco_file, name, tmp_path):
    register_coco_instances(name, {}, coco_file(), "images")
    records = DatasetCatalog.get(name)
    converted = convert_to_coco_dict(name)
    assert converted["categories"] == [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}]
    by_box = {tuple(a["bbox"]): a for a in converted["annotations"]}
    assert by_box[2, 2, 4, 6]["area"] == 12  # a triangle of 4 x 6
    assert by_box[0, 0, 2, 10]["area"] == 10  # pixels of the RLE
    assert by_box[1, 1, 3, 3]["area"] == 9  # the box
    assert by_box[1, 1, 3, 3]["keypoints"] == [4, 5, 2]
    assert by_box[1, 1, 3, 3]["num_keypoints"] == 1
    (tmp_path / "back.json").write_text(json.dumps(converted))
    back = load_coco_json(str(tmp_path / "back.json"), "")
    for old, new in zip(records, back, strict=True):
        assert old["file_name"] == new["file_name"]
        for a, b in zip(old["annotations"], new["annotations"], strict=True):
            assert a["bbox"] == b["bbox"]
            assert a.get("keypoints") == b.get("keypoints")


def test_conversion_to_a_file_happens_once(name, tmp_path):
    record = {"file_name": "a", "height": 5, "width": 5, "image_id": 3, "annotations": []}
    DatasetCatalog.register(name, lambda: [record])
    MetadataCatalog.get(name).thing_classes = ["cat"]
    path = tmp_path / "new" / "coco.json"
    convert_to_coco_json(name, str(path))
    assert json.loads(path.read_text())["images"][0]["id"] == 3
    path.write_text("{}")
    convert_to_coco_json(name, str(path))
    assert path.read_text() == "{}"
    convert_to_coco_json(name, str(path), allow_cached=False)
    assert "images" in json.loads(path.read_text())


@pytest.mark.embedded_only
def test_conversion_leaves_the_data_set_as_it_is(name):
    annotation = {
        "bbox": [0, 0, 4, 4],
        "bbox_mode": BoxMode.XYXY_ABS,
        "category_id": 0,
        "keypoints": [1.5, 1.5, 2],
        "segmentation": mask_util.encode(np.ones((4, 4), dtype=np.uint8, order="F")),
    }
    record = {"file_name": "a", "height": 5, "width": 5, "annotations": [annotation]}
    before = copy.deepcopy(record)
    DatasetCatalog.register(name, lambda: [record])
    MetadataCatalog.get(name).thing_classes = ["cat"]
    convert_to_coco_dict(name)
    assert record == before


# Records of the data sets of a config


def test_loading_by_name(coco_file, name):
    register_coco_instances(name, {}, coco_file(), "images")
    assert len(get_detection_dataset_dicts(name)) == 2
    with pytest.raises(KeyError, match="nowhere"):
        get_detection_dataset_dicts(["nowhere"])
    with pytest.raises(MISTAKE):
        get_detection_dataset_dicts([])
    with pytest.raises(MISTAKE):
        get_detection_dataset_dicts(name, min_keypoints=2)


@pytest.mark.embedded_only
def test_category_ids_beyond_the_classes_are_named(name):
    DatasetCatalog.register(name, lambda: [{"annotations": [{"category_id": 4}]}])
    MetadataCatalog.get(name).thing_classes = ["cat"]
    with pytest.raises(ValueError, match=r"category_id 4.*1 classes"):
        get_detection_dataset_dicts(name)


def test_filters():
    def record(*annotations):
        return {"annotations": list(annotations)}

    crowd, plain = {"iscrowd": 1}, {"keypoints": [1, 1, 2, 3, 3, 0, 2, 2, 1]}
    records = [record(), record(crowd), record(crowd, plain), record(plain, plain)]
    assert filter_images_with_only_crowd_annotations(records) == records[2:]
    assert filter_images_with_few_keypoints(records, 3) == records[3:]
    assert filter_images_with_few_keypoints(records, 2) == records[2:]
