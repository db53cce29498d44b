"""From a record to a model's input: reading images, annotations to instances, the mapper."""

import copy

import maskrcnn_repro  # noqa: F401

import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from detectron2.data import DatasetMapper
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T
from detectron2.structures import BoxMode, Instances
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from tests.helpers.data_cases import MISTAKE, TRIANGLE

# Images and annotations


@pytest.mark.parametrize(
    ("orientation", "expected"),
    [
        (1, [[0, 1], [2, 3]]),
        (2, [[1, 0], [3, 2]]),
        (3, [[3, 2], [1, 0]]),
        (6, [[2, 0], [3, 1]]),
        (8, [[1, 3], [0, 2]]),
        (77, [[0, 1], [2, 3]]),
    ],
)
def test_images_are_turned_upright(tmp_path, orientation, expected):
    exif = Image.Exif()
    exif[274] = orientation
    pixels = np.array([[0, 1], [2, 3]], dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    read = utils.read_image(str(tmp_path / "turned.png"), "L")
    assert_array_equal(read[:, :, 0], expected)


def test_colour_formats(tmp_path):
    pixels = np.array([[[255, 0, 10]]], dtype=np.uint8)
    path = str(tmp_path / "colour.png")
    Image.fromarray(pixels).save(path)
    assert_array_equal(utils.read_image(path, "BGR"), [[[10, 0, 255]]])
    assert_array_equal(utils.read_image(path), pixels)
    # 0.299 R + 0.587 G + 0.114 B
    assert_array_equal(utils.read_image(path, "L"), [[[77]]])


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_truncated_images_are_errors(tmp_path, suffix):
    path = tmp_path / f"cut.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(OSError, match="truncated"):
        utils.read_image(str(path), "BGR")


def test_image_size_is_checked_and_filled_in():
    image = np.zeros((4, 6, 3))
    record = {}
    utils.check_image_size(record, image)
    assert record == {"width": 6, "height": 4}
    with pytest.raises(utils.SizeMismatchError, match=r"a\.jpg.*6.*4.*5"):
        utils.check_image_size({"file_name": "a.jpg", "width": 6, "height": 5}, image)


def test_no_annotations_make_empty_instances():
    instances = utils.annotations_to_instances([], (4, 6))
    assert len(instances) == 0
    assert instances.gt_boxes.tensor.shape == (0, 4)
    assert not instances.has("gt_masks")


def test_bitmasks_of_polygons_rle_and_arrays_agree():
    polygon = [0.0, 0.0, 4.0, 0.0, 4.0, 2.0, 0.0, 2.0]
    mask = np.zeros((4, 6), dtype=np.uint8)
    mask[:2, :4] = 1
    box = {"bbox": [0, 0, 4, 2], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 1}
    kinds = ([polygon], mask_util.encode(np.asfortranarray(mask)), mask)
    annotations = [box | {"segmentation": segmentation} for segmentation in kinds]
    instances = utils.annotations_to_instances(annotations, (4, 6), mask_format="bitmask")
    assert_array_equal(instances.gt_masks.tensor, np.stack([mask] * 3))
    assert instances.gt_classes.tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match="polygon"):
        utils.annotations_to_instances(annotations, (4, 6))
    with pytest.raises(ValueError, match="int"):
        utils.annotations_to_instances([box | {"segmentation": 5}], (4, 6), "bitmask")


def test_empty_instances_are_dropped():
    annotations = [
        {"bbox": box, "bbox_mode": BoxMode.XYXY_ABS, "category_id": i, "segmentation": mask}
        for i, (box, mask) in enumerate(
            [([0, 0, 2, 2], np.eye(4)), ([1, 1, 1, 3], np.eye(4)), ([0, 0, 2, 2], np.zeros((4, 4)))]
        )
    ]
    instances = utils.annotations_to_instances(annotations, (4, 4), "bitmask")
    kept, mask = utils.filter_empty_instances(instances, return_mask=True)
    assert kept.gt_classes.tolist() == [0]
    assert mask.tolist() == [True, False, False]
    assert len(utils.filter_empty_instances(instances, by_mask=False)) == 2
    assert len(utils.filter_empty_instances(Instances((4, 4), gt_boxes=kept.gt_boxes))) == 1


# Mapper


@pytest.fixture
def record(tmp_path):
    pixels = np.zeros((10, 20, 3), dtype=np.uint8)
    pixels[:, 0] = (1, 2, 3)
    path = tmp_path / "image.png"
    Image.fromarray(pixels).save(path)
    box = {"bbox": [2, 2, 4, 6], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0}
    annotations = [
        box | {"segmentation": [TRIANGLE], "keypoints": [3.0, 4.0, 2]},
        box | {"segmentation": [TRIANGLE], "iscrowd": 1},
        box | {"bbox": [5, 5, 0, 3], "segmentation": [TRIANGLE], "keypoints": [0, 0, 0]},
    ]
    return {"file_name": str(path), "width": 20, "height": 10, "annotations": annotations}


def test_mapper_in_training(record):
    before = copy.deepcopy(record)
    mapper = DatasetMapper(
        is_train=True,
        augmentations=[T.HFlipTransform(20), T.Resize((20, 40))],
        image_format="BGR",
        use_instance_mask=True,
        use_keypoint=True,
        keypoint_hflip_indices=[0],
    )
    sample = mapper(record)
    assert record == before
    assert sample["image"].shape == (3, 20, 40)
    assert sample["image"][:, 0, -1].tolist() == [3, 2, 1]
    # The crowd and the box without width are gone.
    instances = sample["instances"]
    assert instances.image_size == (20, 40)
    assert instances.gt_boxes.tensor.tolist() == [[28, 4, 36, 16]]
    assert_allclose(instances.gt_masks.polygons[0][0], [36, 4, 28, 4, 28, 16])
    assert instances.gt_keypoints.tensor.tolist() == [[[34, 8, 2]]]


def test_mapper_draws_boxes_anew_around_cropped_masks(record):
    parts = {
        "is_train": True,
        "augmentations": [T.CropTransform(0, 0, 4, 10, 20, 10)],
        "image_format": "RGB",
    }
    mapper = DatasetMapper(**parts, use_instance_mask=True, recompute_boxes=True)
    sample = mapper(record)
    # The triangle (2, 2), (6, 2), (6, 8) cut at x = 4 reaches down to y = 5, its box to 8.
    assert sample["instances"].gt_boxes.tensor[0].tolist() == [2, 2, 4, 5]
    assert not sample["instances"].has("gt_keypoints")
    with pytest.raises(MISTAKE, match="mask"):
        DatasetMapper(**parts, recompute_boxes=True)


def test_mapper_in_inference(record):
    mapper = DatasetMapper(is_train=False, augmentations=[T.Resize(10)], image_format="L")
    sample = mapper(record)
    assert sample["image"].shape == (1, 10, 10)
    assert (sample["height"], sample["width"]) == (10, 20)
    assert not {"annotations", "instances"} & sample.keys()
    with pytest.raises(utils.SizeMismatchError):
        mapper(record | {"width": 19})


def test_mapper_moves_label_maps(record, tmp_path):
    labels = np.repeat([[0, 1]], 10, axis=0).repeat(10, axis=1).astype(np.uint8)
    Image.fromarray(labels).save(tmp_path / "labels.png")
    mapper = DatasetMapper(is_train=True, augmentations=[T.HFlipTransform(20)], image_format="RGB")
    sample = mapper(record | {"sem_seg_file_name": str(tmp_path / "labels.png")})
    assert sample["sem_seg"].dtype == torch.int64
    assert_array_equal(sample["sem_seg"], labels[:, ::-1])
