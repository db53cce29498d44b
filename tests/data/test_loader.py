"""Images kept in memory: the same input as from the files, within the machine's memory."""

import itertools
import json
import os
import pickle
from multiprocessing.reduction import ForkingPickler

from maskrcnn_repro.data.cached_images import CachedImages
from maskrcnn_repro.data.image_file import ImageError
from maskrcnn_repro.data.image_source import WithSource
from maskrcnn_repro.data.loader import build_test_loader, build_train_loader
from maskrcnn_repro.data.mapper import TrainMapper
from maskrcnn_repro.errors import ConfigError

import pytest
import torch
from detectron2.data import DatasetMapper, detection_utils
from detectron2.data import transforms as T
from detectron2.data.datasets import load_coco_json

from tests.helpers.proposal_files import tiny_config
from tests.helpers.tiny_coco import write_tiny_coco

PARTS = {
    "augmentations": [],
    "image_format": "BGR",
    "use_instance_mask": True,
    "instance_mask_format": "bitmask",
    "use_keypoint": False,
    "recompute_boxes": False,
}


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    json_file, images = write_tiny_coco(tmp_path_factory.mktemp("records"))
    return load_coco_json(str(json_file), str(images))


def cached(images, **parts):
    return WithSource(TrainMapper(is_train=True, **PARTS | parts), images)


class Halve(T.NoOpTransform):
    """Writes into the image that it is given."""

    def apply_image(self, img):
        img //= 2
        return img


def test_an_augmentation_that_writes_into_its_image_leaves_the_cached_one(records):
    images = CachedImages(records, "BGR")
    background = images[records[0]["file_name"]][0, 0].tolist()
    assert background == [60, 60, 60]
    mapper = cached(images, augmentations=[Halve()])
    for _ in range(2):
        assert mapper(records[0])["image"][:, 0, 0].tolist() == [30, 30, 30]
    assert images[records[0]["file_name"]][0, 0].tolist() == [60, 60, 60]


def test_images_come_from_memory_and_others_from_their_files(tmp_path):
    json_file, folder = write_tiny_coco(tmp_path)
    first, second = load_coco_json(str(json_file), str(folder))[:2]
    kept = cached(CachedImages([first], "BGR"))
    expected = kept(first)["image"]
    os.remove(first["file_name"])
    assert torch.equal(kept(first)["image"], expected)
    assert torch.equal(kept(second)["image"], TrainMapper(is_train=True, **PARTS)(second)["image"])
    with pytest.raises(ImageError, match=first["file_name"]):
        cached(kept.source, image_format="L")(first)


def test_files_are_read_again_behind_a_mapper_that_fails(records):
    read_image = detection_utils.read_image
    with pytest.raises(ZeroDivisionError):
        WithSource(lambda record: 1 / 0, CachedImages(records, "BGR"))(records[0])
    assert detection_utils.read_image is read_image


def test_cached_images_are_found_after_they_were_sent_to_a_worker(records):
    mapper = pickle.loads(ForkingPickler.dumps(cached(CachedImages(records, "BGR"))))
    assert mapper(records[0])["image"][:, 0, 0].tolist() == [60, 60, 60]


@pytest.mark.parametrize("cache", [False, True])
def test_a_crop_takes_images_without_objects(tmp_path, catalog, cache):
    data = write_tiny_coco(tmp_path)
    tree = json.loads(data[0].read_text())
    first, second, *rest = tree["annotations"]
    crowds = [{**annotation, "iscrowd": 1} for annotation in rest]
    # Image 10 has objects, 11 a crowd alone, 12 and 13 nothing.
    tree["annotations"] = [first, second, crowds[0]]
    data[0].write_text(json.dumps(tree))
    cfg = tiny_config(data, *("INPUT.CROP.ENABLED", "True", "DATALOADER.CACHE_IMAGES", str(cache)))
    cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = False
    samples = itertools.chain(*itertools.islice(build_train_loader(cfg), 2))
    counts = {sample["image_id"]: len(sample["instances"]) for sample in samples}
    assert counts.pop(10) > 0
    assert counts == {11: 0, 12: 0, 13: 0}


def test_crowds_of_cached_images_are_not_trained_on(records):
    disc, bar = records[0]["annotations"]
    record = {**records[0], "annotations": [{**disc, "iscrowd": 1}, bar]}
    mapped = cached(CachedImages(records, "BGR"))(record)
    assert mapped["instances"].gt_classes.tolist() == [bar["category_id"]]


def test_images_without_objects_are_evaluated(tmp_path, catalog):
    data = write_tiny_coco(tmp_path)
    tree = json.loads(data[0].read_text())
    tree["annotations"] = [
        annotation for annotation in tree["annotations"] if annotation["image_id"] == 12
    ]
    data[0].write_text(json.dumps(tree))
    batches = build_test_loader(tiny_config(data), "tiny")
    assert [image["image_id"] for batch in batches for image in batch] == [10, 11, 12, 13]


@pytest.mark.parametrize(
    ("flip", "image_format"), [(False, "BGR"), (True, "BGR"), (True, "RGB"), (True, "L")]
)
def test_cached_images_make_the_same_input_as_detectron2s_mapper(records, flip, image_format):
    parts = {
        "augmentations": [T.ResizeShortestEdge(48), T.RandomFlip(1.0 if flip else 0.0)],
        "image_format": image_format,
    }
    ours = cached(CachedImages(records, image_format), **parts)(records[1])
    theirs = DatasetMapper(is_train=True, **PARTS | parts)(records[1])
    assert set(ours) == set(theirs)
    assert torch.equal(ours["image"], theirs["image"])
    for field, value in theirs["instances"].get_fields().items():
        value = getattr(value, "tensor", value)
        assert torch.equal(
            getattr(ours["instances"].get(field), "tensor", ours["instances"].get(field)), value
        )


def test_images_too_large_for_memory_are_refused():
    records = [{"file_name": "a", "height": 10**7, "width": 10**7}]
    with pytest.raises(ConfigError, match=r"CACHE_IMAGES True would keep 1 images of 300000.0 GB"):
        CachedImages(records, "BGR")
