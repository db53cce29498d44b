"""Data with keypoints: which images are trained on, which keypoints a mirror swaps, what is refused."""

import copy
import itertools
import logging
from functools import partial

from maskrcnn_repro.data import (
    keypoint_names,
    prepare_data,
    register_custom,
    resolve_num_keypoints,
    resolve_oks_sigmas,
)
from maskrcnn_repro.data.keypoints import (
    COCO_KEYPOINTS,
    LIMB_COLORS,
    check_flip_pairs,
    flip_map,
    oks_sigmas,
)
from maskrcnn_repro.data.loader import build_test_loader, build_train_loader
from maskrcnn_repro.errors import ConfigError, DataError
from maskrcnn_repro.visualization.coco_objects import style_of

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, DatasetMapper, MetadataCatalog

from tests.helpers.custom_data import VALID, config, with_keypoints, write_entry


@pytest.fixture
def write(tmp_path, catalog):
    return partial(write_entry, tmp_path)


def unposed():
    tree = with_keypoints(["a", "b"])
    tree["annotations"][0].update(keypoints=[0] * 6, num_keypoints=0)
    return tree


def posed_crowd():
    """An object without annotated keypoints beside a crowd that has some."""
    tree = unposed()
    crowd = {"id": 2, "iscrowd": 1, "keypoints": [5, 5, 2] * 2, "num_keypoints": 2}
    tree["annotations"].append({**tree["annotations"][0], **crowd})
    return tree


def one_posed_of_two():
    """Two images with an object each; only that of the first has an annotated keypoint."""
    tree = with_keypoints(["left_tip", "right_tip"])
    first = tree["annotations"][0]
    unposed = {"id": 2, "image_id": 2, "keypoints": [0] * 6, "num_keypoints": 0}
    tree["annotations"].append({**first, **unposed})
    return tree


# --- what follows from names


def test_flip_map_swaps_left_and_right():
    assert flip_map(["nose", "left_eye", "right_eye"]) == (("left_eye", "right_eye"),)
    assert flip_map(["RightEar", "LeftEar"]) == (("LeftEar", "RightEar"),)
    assert flip_map(["tail left", "tail right"]) == (("tail left", "tail right"),)
    assert flip_map(["earLeft", "earRight"]) == (("earLeft", "earRight"),)
    assert flip_map(["LEFT_HIP", "RIGHT_HIP"]) == (("LEFT_HIP", "RIGHT_HIP"),)
    assert flip_map(["bright", "copyright", "cleft"]) == ()


def test_flip_map_warns_of_a_side_without_counterpart(caplog):
    with caplog.at_level(logging.WARNING, logger="maskrcnn_repro"):
        assert flip_map(["nose", "left_eye"]) == ()
    assert "'left_eye'" in caplog.text
    assert "'nose'" not in caplog.text


def test_flip_map_of_coco_is_detectron2s():
    expected = MetadataCatalog.get("keypoints_coco_2017_train").keypoint_flip_map
    assert flip_map(COCO_KEYPOINTS) == tuple(expected)
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


# --- images with keypoints


@pytest.mark.parametrize("cache", [False, True])
@pytest.mark.parametrize(
    ("keypoint_head", "only", "images"),
    [(False, False, {1, 2}), (False, True, {1}), (True, False, {1}), (True, True, {1})],
)
def test_images_that_are_trained_on(write, cache, keypoint_head, only, images):
    cfg = config(["own_train"], [], [write(one_posed_of_two())])
    cfg.MODEL.KEYPOINT_ON = keypoint_head
    cfg.DATASETS.ONLY_WITH_KEYPOINTS = only
    cfg.DATALOADER.CACHE_IMAGES, cfg.DATALOADER.NUM_WORKERS = cache, 0
    cfg.SOLVER.IMS_PER_BATCH, cfg.INPUT.MIN_SIZE_TRAIN = 2, (0,)
    prepare_data(cfg)
    seen = itertools.chain(*itertools.islice(build_train_loader(cfg), 4))
    assert {record["image_id"] for record in seen} == images


def test_a_keypoint_model_is_evaluated_without_training_sets(write):
    cfg = config([], ["own_val"], [write(one_posed_of_two(), name="own_val")])
    cfg.MODEL.KEYPOINT_ON, cfg.DATALOADER.NUM_WORKERS = True, 0
    prepare_data(cfg)
    cfg.freeze()
    batches = build_test_loader(cfg, "own_val")
    assert [record["image_id"] for record in itertools.chain(*batches)] == [1, 2]
    assert cfg.DATASETS.TRAIN == ()


# --- mirrored images


def mirrored_keypoints(cfg):
    """Return (K, 2) x and visibility of the only object of own_train, its image of 40 pixels mirrored."""
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.RANDOM_FLIP = (0,), "horizontal"
    prepare_data(cfg)
    mapper = DatasetMapper(cfg, True)
    record = DatasetCatalog.get("own_train")[0]
    for _ in range(50):  # a mirror comes every other time
        points = mapper(copy.deepcopy(record))["instances"].gt_keypoints.tensor[0]
        if points[0, 0] > 20:
            return points[:, ::2].tolist()
    raise AssertionError("no image was mirrored")


def test_mapper_swaps_the_pairs_of_the_config_else_those_of_the_names(write):
    tree = with_keypoints(["left_tip", "right_tip", "port", "starboard"])
    # x = 5, 6, 7, 8 pixels, of which the centre counts: 34.5, 33.5 ... when mirrored
    tree["annotations"][0]["keypoints"] = [5, 5, 2, 6, 5, 2, 7, 5, 2, 8, 5, 1]
    cfg = config(["own_train"], [], [write(tree)])
    cfg.MODEL.KEYPOINT_ON = True
    deduced = [[33.5, 2], [34.5, 2], [32.5, 2], [31.5, 1]]
    assert mirrored_keypoints(cfg.clone()) == deduced
    given = cfg.clone()
    given.INPUT.KEYPOINT_FLIP_PAIRS = [["port", "starboard"]]
    assert mirrored_keypoints(given) == [[34.5, 2], [33.5, 2], [31.5, 1], [32.5, 2]]
    assert mirrored_keypoints(cfg.clone()) == deduced


def test_own_people_may_stand_beside_cocos(write):
    register_custom([write(with_keypoints(COCO_KEYPOINTS))])
    own, coco = (MetadataCatalog.get(name) for name in ("own_train", "keypoints_coco_2017_train"))
    assert own.keypoint_names == coco.keypoint_names
    assert own.keypoint_flip_map == coco.keypoint_flip_map


def test_registered_data_without_pairs_gets_those_of_its_names(catalog):
    catalog.register("bare", list)
    MetadataCatalog.get("bare").set(
        thing_classes=["hand"], keypoint_names=["left_tip", "right_tip"]
    )
    cfg = config(["bare"])
    cfg.MODEL.KEYPOINT_ON = True
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 1
    prepare_data(cfg)
    assert MetadataCatalog.get("bare").keypoint_flip_map == (("left_tip", "right_tip"),)
    assert cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS == 2


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (["left_ear", "right_ear"], r"also for one: .* but it has 'left_ear'"),
        ([5], r"but it has 5"),
        ([["left_ear"]], r"but it has \['left_ear'\]"),
        ([["left_ear", "right_eer"]], r"'right_eer' is no keypoint\. Did you mean 'right_eye' .* has nose, "),
        ([["left_ear", 3]], r"3 is no keypoint\. The data has nose, left_eye"),
        ([["left_ear", "left_ear"]], r"'left_ear' stands there twice"),
        ([["left_ear", "right_ear"], ["left_eye", "right_ear"]], r"'right_ear' stands there twice"),
    ],
)  # fmt: skip
def test_wrong_pairs_are_named(pairs, message):
    with pytest.raises(ConfigError, match=rf"INPUT\.KEYPOINT_FLIP_PAIRS.*{message}"):
        check_flip_pairs(pairs, COCO_KEYPOINTS)


# --- config and data


def test_keypoints_from_the_json(write):
    cfg = config(["own_train"], [], [write(with_keypoints(["left_tip", "right_tip"]))])
    cfg.MODEL.KEYPOINT_ON = True
    prepare_data(cfg)
    assert cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS == 2
    assert cfg.TEST.KEYPOINT_OKS_SIGMAS == [0.05, 0.05]
    metadata = MetadataCatalog.get("own_train")
    assert metadata.keypoint_names == ("left_tip", "right_tip")
    assert metadata.keypoint_flip_map == (("left_tip", "right_tip"),)


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


def test_number_of_keypoints_of_registered_data():
    cfg = config(["keypoints_coco_2017_train"])
    assert resolve_num_keypoints(cfg) == 17
    cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS = (
        18  # more classes would do no harm, more keypoints do
    )
    with pytest.raises(DataError, match=r"NUM_KEYPOINTS is 18, but .* has 17 keypoints .* to 17"):
        resolve_num_keypoints(cfg)


def test_train_and_val_with_different_keypoints(write):
    entries = [write(with_keypoints(["a", "b"])), write(with_keypoints(["a", "c"]), "own_val")]
    cfg = config(["own_train"], ["own_val"], entries)
    cfg.MODEL.KEYPOINT_ON = True
    with pytest.raises(DataError, match=r"different keypoints: only the first has 'b'; .* 'c'"):
        prepare_data(cfg)


@pytest.mark.parametrize("key", ["MODEL.KEYPOINT_ON", "DATASETS.ONLY_WITH_KEYPOINTS"])
@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (VALID, "data set 'own_train' has no keypoint names"),
        (unposed(), "no object of data set 'own_train' has an annotated keypoint"),
        (posed_crowd(), "no object of data set 'own_train' has an annotated keypoint"),
    ],
)
def test_keypoints_wanted_of_data_without(write, key, tree, message):
    cfg = config(["own_train"], [], [write(tree)])
    cfg.merge_from_list([key, True])
    with pytest.raises(DataError, match=rf"{key} is True, but {message}"):
        prepare_data(cfg)


def test_a_keypoint_that_is_annotated_and_hidden_is_learned_from(write):
    tree = with_keypoints(["a", "b"])
    tree["annotations"][0].update(keypoints=[5, 5, 1, 0, 0, 0], num_keypoints=1)
    cfg = config(["own_train"], [], [write(tree)])
    cfg.MODEL.KEYPOINT_ON = True
    prepare_data(cfg)
    assert cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS == 2


@pytest.mark.parametrize("missing", ["keypoints", "num_keypoints"])
def test_object_without_keypoints_beside_one_with(write, missing):
    tree = with_keypoints(["a", "b"])
    second = {k: v for k, v in tree["annotations"][0].items() if k != missing}
    tree["annotations"].append({**second, "id": 2})
    cfg = config(["own_train"], [], [write(tree)])
    prepare_data(cfg)  # fine without a keypoint head
    cfg.MODEL.KEYPOINT_ON = True
    with pytest.raises(DataError, match=r"annotation 2 has no 'keypoints' or no 'num_keypoints'"):
        prepare_data(cfg)


# --- skeletons


def with_skeleton(edges):
    tree = with_keypoints(["nose", "left_hip", "right_hip"])
    tree["categories"][0]["skeleton"] = edges
    return tree


def test_skeleton_of_the_json_is_drawn_in_the_colours_of_its_sides(write):
    register_custom([write(with_skeleton([[1, 2], [3, 1], [2, 3]]))])
    assert style_of(MetadataCatalog.get("own_train")).edges == [
        (0, 1, LIMB_COLORS["left"]),
        (2, 0, LIMB_COLORS["right"]),
        (1, 2, LIMB_COLORS[""]),
    ]


@pytest.mark.parametrize("edges", [[[0, 1]], [[1, 4]], [[1, 2, 3]], [5], [["a", "b"]], 7])
def test_wrong_skeleton_is_mentioned_and_left_out(write, caplog, edges):
    with caplog.at_level(logging.WARNING, logger="maskrcnn_repro"):
        register_custom([write(with_skeleton(edges))])
    assert "'skeleton' is not a list of pairs of numbers from 1 to 3" in caplog.text
    assert style_of(MetadataCatalog.get("own_train")).edges == []
