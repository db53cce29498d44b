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
    resolve_num_keypoints,
    resolve_oks_sigmas,
)
from maskrcnn_repro.data.keypoints import COCO_KEYPOINTS, flip_map, oks_sigmas
from maskrcnn_repro.errors import DataError

import numpy as np
import pycocotools.mask as coco_mask
import pytest
from custom_data import VALID, changed, config, with_keypoints, write_entry
from detectron2.data import DatasetCatalog, DatasetMapper, MetadataCatalog
from detectron2.data.datasets import register_coco_instances


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
    with pytest.raises(DataError, match="only the first has 'dog'; only the second 'cow'"):
        prepare_data(cfg)


def test_train_and_val_with_classes_in_another_order(write):
    entries = [write(named(["cat", "dog"])), write(named(["dog", "cat"]), "own_val")]
    with pytest.raises(DataError, match="same classes in another order"):
        prepare_data(config(["own_train"], ["own_val"], entries))


# --- keypoints


def test_flip_map_swaps_left_and_right():
    assert flip_map(["nose", "left_eye", "right_eye"]) == [("left_eye", "right_eye")]
    assert flip_map(["RightEar", "LeftEar"]) == [("LeftEar", "RightEar")]
    assert flip_map(["tail left", "tail right"]) == [("tail left", "tail right")]
    assert flip_map(["earLeft", "earRight"]) == [("earLeft", "earRight")]
    assert flip_map(["LEFT_HIP", "RIGHT_HIP"]) == [("LEFT_HIP", "RIGHT_HIP")]
    assert flip_map(["bright", "copyright", "cleft"]) == []


def test_flip_map_warns_of_a_side_without_counterpart(caplog):
    with caplog.at_level(logging.WARNING, logger="maskrcnn_repro"):
        assert flip_map(["nose", "left_eye"]) == []
    assert "'left_eye'" in caplog.text
    assert "'nose'" not in caplog.text


def test_flip_map_of_coco_is_detectron2s():
    expected = MetadataCatalog.get("keypoints_coco_2017_train").keypoint_flip_map
    assert set(flip_map(list(COCO_KEYPOINTS))) == {tuple(pair) for pair in expected}
    assert tuple(keypoint_names("keypoints_coco_2017_train")) == COCO_KEYPOINTS


def test_oks_sigmas(caplog):
    coco = oks_sigmas(list(COCO_KEYPOINTS))
    np.testing.assert_allclose([coco[0], coco[-1]], [0.026, 0.089])
    assert len(coco) == 17
    assert not caplog.records
    with caplog.at_level(logging.WARNING, logger="maskrcnn_repro"):
        assert oks_sigmas(["tip", "base"]) == [0.05, 0.05]
    assert len(caplog.records) == 1
    assert "TEST.KEYPOINT_OKS_SIGMAS" in caplog.text


def test_keypoints_from_the_json(write):
    cfg = config(["own_train"], [], [write(with_keypoints(["left_tip", "right_tip"]))])
    cfg.MODEL.KEYPOINT_ON = True
    prepare_data(cfg)
    assert cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS == 2
    assert cfg.TEST.KEYPOINT_OKS_SIGMAS == [0.05, 0.05]
    metadata = MetadataCatalog.get("own_train")
    assert metadata.keypoint_names == ["left_tip", "right_tip"]
    assert metadata.keypoint_flip_map == [("left_tip", "right_tip")]


def test_keypoint_keys_that_contradict_the_data(write):
    cfg = config(["own_train"], [], [write(with_keypoints(["a", "b"]))])
    register_custom(cfg.DATASETS.CUSTOM)
    cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS = 3
    with pytest.raises(DataError, match=r"NUM_KEYPOINTS is 3, but 'own_train' has 2 keypoints"):
        resolve_num_keypoints(cfg)
    cfg.TEST.KEYPOINT_OKS_SIGMAS = [0.1]
    with pytest.raises(DataError, match=r"\[0\.1\] has not one positive number for each of the 2"):
        resolve_oks_sigmas(cfg)
    cfg.TEST.KEYPOINT_OKS_SIGMAS = [0.1, 0.2]
    assert resolve_oks_sigmas(cfg) == [0.1, 0.2]


def test_keypoint_head_on_data_without_keypoints(write):
    cfg = config(["own_train"], [], [write()])
    cfg.MODEL.KEYPOINT_ON = True
    with pytest.raises(DataError, match="'own_train' has no keypoint names"):
        prepare_data(cfg)


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
