"""The user's own COCO data: what a configuration derives from it, and where the two disagree."""

import copy
import logging
from functools import partial

from maskrcnn_repro.config import get_config
from maskrcnn_repro.data import (
    class_names,
    keypoint_names,
    prepare_data,
    register_custom,
    resolve_mask_format,
    resolve_num_classes,
    resolve_oks_sigmas,
)
from maskrcnn_repro.errors import DataError

import numpy as np
import pycocotools.mask as coco_mask
import pytest
from detectron2.data import DatasetCatalog, DatasetMapper, MetadataCatalog
from detectron2.data.datasets import register_coco_instances

from tests.helpers.custom_data import VALID, changed, config, write_entry


@pytest.fixture
def write(tmp_path, catalog):
    return partial(write_entry, tmp_path)


def named(names):
    """Return VALID with these classes, ids from 1."""
    tree = copy.deepcopy(VALID)
    tree["categories"] = [{"id": i, "name": n} for i, n in enumerate(names, start=1)]
    tree["annotations"][0]["category_id"] = 1
    return tree


# --- what is derived


def test_classes_stand_in_the_order_of_their_ids(write):
    register_custom([write()])
    assert class_names("own_train") == ["ant", "zebra"]
    assert keypoint_names("own_train") == []
    metadata = MetadataCatalog.get("own_train")
    assert metadata.evaluator_type == "coco"
    records = DatasetCatalog.get("own_train")
    assert [len(r["annotations"]) for r in records] == [1, 0]
    assert records[0]["annotations"][0]["category_id"] == 1  # zebra
    assert class_names("own_train") == ["ant", "zebra"]  # loading sets the same


def test_class_names_of_a_data_set_that_must_be_loaded(write):
    name, path, folder = write()
    register_coco_instances(name, {}, path, folder)
    assert class_names(name) == ["ant", "zebra"]


def test_data_set_without_classes_is_named(catalog):
    catalog.register("no_classes", list)
    with pytest.raises(DataError, match="'no_classes' has no 'thing_classes'"):
        class_names("no_classes")


def test_whole_config_from_one_entry(write):
    cfg = config(["own_train"], ["own_train"], [write()])
    prepare_data(cfg)
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 2
    prepare_data(cfg)  # the same entry and its own result again are fine
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 2


def test_entry_from_the_command_line(write):
    cfg = get_config()
    cfg.merge_from_list(["DATASETS.CUSTOM", repr([write()]), "DATASETS.TRAIN", "('own_train',)"])
    prepare_data(cfg)
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 2


def test_config_without_data_keeps_its_numbers():
    cfg = config()
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 5
    assert resolve_num_classes(cfg) == 5
    assert resolve_oks_sigmas(cfg) == []


@pytest.mark.parametrize(("configured", "ok"), [(80, True), (2, True), (3, False), (1, False)])
def test_number_of_classes_of_own_data(write, configured, ok):
    cfg = config(["own_train"], [], [write()])
    register_custom(cfg.DATASETS.CUSTOM)
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = configured
    if ok:
        assert resolve_num_classes(cfg) == 2
    else:
        with pytest.raises(DataError, match=f"NUM_CLASSES is {configured}, but 'own_train' has 2"):
            resolve_num_classes(cfg)


def test_registered_data_may_have_fewer_classes_than_the_model():
    cfg = config(["mini_coco_train"], ["mini_coco_val"])
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 20
    assert resolve_num_classes(cfg) == 20
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 7
    with pytest.raises(DataError, match="is 7, but 'mini_coco_train' has 8 classes"):
        resolve_num_classes(cfg)


def test_train_and_val_with_different_classes(write):
    entries = [write(named(["cat", "dog"])), write(named(["cat", "cow"]), "own_val")]
    cfg = config(["own_train"], ["own_val"], entries)
    with pytest.raises(DataError, match="only the first has 'dog'; only the second has 'cow'"):
        prepare_data(cfg)


def test_val_with_a_class_more(write):
    entries = [write(named(["cat"])), write(named(["cat", "cow"]), "own_val")]
    with pytest.raises(DataError, match=r"classes: only the second has 'cow'\. Give both files"):
        prepare_data(config(["own_train"], ["own_val"], entries))


def test_train_and_val_with_classes_in_another_order(write):
    entries = [write(named(["cat", "dog"])), write(named(["dog", "cat"]), "own_val")]
    with pytest.raises(DataError, match="same classes in another order"):
        prepare_data(config(["own_train"], ["own_val"], entries))


# --- masks


def with_rle(iscrowd=0):
    rle = coco_mask.encode(np.asfortranarray(np.eye(30, 40, dtype=np.uint8)))
    tree = copy.deepcopy(VALID)
    tree["annotations"].append(
        {
            "id": 2,
            "image_id": 1,
            "category_id": 3,
            "bbox": [0, 0, 30, 30],
            "area": 30,
            "iscrowd": iscrowd,
            "segmentation": {"size": [30, 40], "counts": rle["counts"].decode()},
        }
    )
    return tree


def test_polygons_and_rle_together_train_as_bitmasks(write, caplog):
    cfg = config(["own_train"], [], [write(with_rle())])
    cfg.MODEL.MASK_ON = True
    cfg.INPUT.MIN_SIZE_TRAIN = (0,)
    cfg.INPUT.RANDOM_FLIP = "none"
    assert cfg.INPUT.MASK_FORMAT == "polygon"
    with caplog.at_level(logging.WARNING, logger="maskrcnn_repro"):
        prepare_data(cfg)
    assert "'own_train' has RLE masks: INPUT.MASK_FORMAT becomes bitmask" in caplog.text
    mapped = DatasetMapper(cfg, True)(DatasetCatalog.get("own_train")[0])
    masks = mapped["instances"].gt_masks.tensor.numpy()
    assert masks[0, 2:10, 2:10].all()
    assert masks[0].sum() == 64
    np.testing.assert_array_equal(masks[1], np.eye(30, 40, dtype=bool))


@pytest.mark.parametrize("tree", [VALID, with_rle(iscrowd=1)])
def test_polygons_stay_polygons_beside_a_crowd(write, tree):
    cfg = config(["own_train"], [], [write(tree)])
    register_custom(cfg.DATASETS.CUSTOM)
    assert resolve_mask_format(cfg) == "polygon"


def test_generated_data_has_rle():
    assert resolve_mask_format(config(["mini_coco_train"])) == "bitmask"


def test_mask_head_on_boxes_alone(write):
    cfg = config(["own_train"], [], [write(changed(annotations={"segmentation": None}))])
    cfg.MODEL.MASK_ON = True
    with pytest.raises(DataError, match=r"annotation 1 has no 'segmentation'.*MASK_ON False"):
        prepare_data(cfg)
    cfg.MODEL.MASK_ON = False
    prepare_data(cfg)
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 2
