"""Cityscapes to COCO JSON, on a tree of tiny images: every pixel by hand, through Detectron2's loader, mistakes."""

import json

from maskrcnn_repro.config import get_config
from maskrcnn_repro.data import prepare_data
from maskrcnn_repro.data.cityscapes import (
    CLASSES,
    SPLITS,
    convert,
    dataset_name,
    default_root,
    instances,
    json_path,
    register_cityscapes,
)
from maskrcnn_repro.data.panoptic.truth import register_published
from maskrcnn_repro.errors import DataError

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, DatasetMapper, MetadataCatalog
from PIL import Image
from pycocotools.coco import COCO

from tests.helpers.commands import convert_cityscapes
from tests.helpers.huge_png import huge_png

ROAD, CAR, RIDER, CARAVAN = 7, 26, 25, 29


def street():
    """Instance ids of 12 x 20 pixels: two cars, one before the other, a rider, a group of cars, a caravan."""
    ids = np.full((12, 20), ROAD, np.uint16)
    ids[2:8, 1:7] = CAR * 1000
    ids[4:6, 3:5] = RIDER * 1000 + 1  # before the car: a hole in it
    ids[3:9, 10:12] = CAR * 1000 + 2
    ids[0, 15:20] = CAR  # a group
    ids[9:, 15:] = CARAVAN * 1000
    return ids


@pytest.fixture
def root(tmp_path):
    """A tree with two cities in the training split and one in the other."""
    for split, cities in (("train", ("bonn", "aachen")), ("val", ("ulm",))):
        for city in cities:
            stem = f"{city}_000000_000019"
            for folder, name in (("gtFine", "gtFine_instanceIds"), ("leftImg8bit", "leftImg8bit")):
                path = tmp_path / folder / split / city / f"{stem}_{name}.png"
                path.parent.mkdir(parents=True)
                pixels = street() if folder == "gtFine" else np.zeros((12, 20, 3), np.uint8)
                Image.fromarray(pixels).save(path)
    return tmp_path


@pytest.fixture
def registered(root):
    """The two names, for this root."""

    def put(place):
        for split in SPLITS:
            DatasetCatalog.remove(dataset_name(split))
            MetadataCatalog.remove(dataset_name(split))
        register_cityscapes(place)

    put(root)
    yield root
    put(default_root())
    register_published(default_root().parent)


def test_instances_by_hand():
    ids = street()
    by_kind = {(a["category_id"], a["iscrowd"], a["area"]): a for a in instances(ids)}
    assert set(by_kind) == {(CAR, 0, 32), (RIDER, 0, 4), (CAR, 0, 12), (CAR, 1, 5)}
    assert by_kind[CAR, 0, 32]["bbox"] == [1, 2, 6, 6]
    assert by_kind[RIDER, 0, 4]["bbox"] == [3, 4, 2, 2]
    assert by_kind[CAR, 1, 5]["bbox"] == [15, 0, 5, 1]


def test_converted_tree_is_coco_with_the_same_pixels(root):
    path = convert(root, "train")
    assert path == json_path(root, "train")
    coco = COCO(str(path))
    # In the order of the cities, whatever the file system's.
    assert [image["file_name"] for image in coco.dataset["images"]] == [
        f"{city}/{city}_000000_000019_leftImg8bit.png" for city in ("aachen", "bonn")
    ]
    assert [(i["height"], i["width"]) for i in coco.dataset["images"]] == [(12, 20)] * 2
    assert {c["id"]: c["name"] for c in coco.dataset["categories"]} == CLASSES
    assert sorted(coco.anns) == list(range(1, 9))
    for image_id in (1, 2):
        masks = {}
        for annotation in coco.imgToAnns[image_id]:
            number = annotation["category_id"] * (1 if annotation["iscrowd"] else 1000)
            masks.setdefault(number, []).append(coco.annToMask(annotation) > 0)
        np.testing.assert_array_equal(masks[CAR][0], street() == CAR)
        np.testing.assert_array_equal(masks[RIDER * 1000][0], street() == RIDER * 1000 + 1)
        np.testing.assert_array_equal(masks[CAR * 1000][0], street() == CAR * 1000)
        np.testing.assert_array_equal(masks[CAR * 1000][1], street() == CAR * 1000 + 2)


def test_detectron2_reads_it_as_eight_classes(registered):
    convert(registered, "val")
    cfg = get_config()
    cfg.DATASETS.TRAIN, cfg.MODEL.MASK_ON = (dataset_name("val"),), True
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 8
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.RANDOM_FLIP = (0,), "none"
    prepare_data(cfg)
    assert cfg.INPUT.MASK_FORMAT == "bitmask"
    (record,) = DatasetCatalog.get(dataset_name("val"))
    mapped = DatasetMapper(cfg, True)(record)["instances"]
    assert mapped.gt_classes.tolist() == [1, 2, 2]  # the group is left out
    np.testing.assert_array_equal(mapped.gt_masks.tensor[0], street() == RIDER * 1000 + 1)
    assert MetadataCatalog.get(dataset_name("val")).thing_classes == list(CLASSES.values())


def test_command_line_converts_both_splits_and_shows_how_far_it_is(root, capsys):
    assert convert_cityscapes(["--root", str(root)]) == 0
    printed = capsys.readouterr()
    assert f"cityscapes_fine_train: {json_path(root, 'train')}" in printed.out
    assert "2/2" in printed.err
    assert [len(json.loads(json_path(root, s).read_text())["images"]) for s in SPLITS] == [2, 1]


def test_image_without_instances_stays(root):
    (path,) = (root / "gtFine" / "val").rglob("*.png")
    Image.fromarray(np.full((12, 20), ROAD, np.uint16)).save(path)
    tree = json.loads(convert(root, "val").read_text())
    assert len(tree["images"]) == 1
    assert tree["annotations"] == []


# --- mistakes


def test_broken_file_leaves_no_json(root):
    path = next((root / "gtFine" / "train" / "bonn").iterdir())
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match=r"bonn.*_instanceIds\.png cannot be read: "):
        convert(root, "train")
    huge_png(path)
    with pytest.raises(DataError, match=r"bonn.*_instanceIds\.png cannot be read: .* pixels"):
        convert(root, "train")
    assert not json_path(root, "train").parent.exists()


def test_missing_files_are_named(root, tmp_path_factory, capsys):
    next((root / "leftImg8bit" / "train" / "bonn").iterdir()).unlink()
    with pytest.raises(DataError, match=r"1 of 2 images .* train split are missing, first .*bonn"):
        convert(root, "train")
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(
        DataError, match=r"has no \*/\*_gtFine_instanceIds\.png; unpack Cityscapes'"
    ):
        convert(empty, "train")
    assert convert_cityscapes(["--root", str(empty)]) == 2
    assert "gtFine_trainvaltest.zip" in capsys.readouterr().err


def test_labels_in_place_of_instances_are_told(root):
    (path,) = (root / "gtFine" / "val").rglob("*.png")
    Image.fromarray(street().clip(max=255).astype(np.uint8)).save(path)
    with pytest.raises(
        DataError, match=r"no map of instances: its values are uint8 of shape \(12, 20\)"
    ):
        convert(root, "val")


def test_split_without_annotations(root):
    with pytest.raises(DataError, match=r"'tran' has no public annotations\. Did you mean 'train'"):
        convert(root, "tran")


def test_data_that_was_not_converted(registered):
    with pytest.raises(
        DataError, match=r"cityscapes_fine_train: .*\.json does not exist; make it with"
    ):
        DatasetCatalog.get("cityscapes_fine_train")
