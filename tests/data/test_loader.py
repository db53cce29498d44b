"""Images kept in memory: the same input as from the files, within the machine's memory."""

from maskrcnn_repro.data.loader import CachedMapper, DecodedImages
from maskrcnn_repro.errors import ConfigError

import pytest
import torch
from detectron2.data import DatasetMapper
from detectron2.data import transforms as T
from detectron2.data.datasets import load_coco_json

from tests.helpers.tiny_coco import write_tiny_coco


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    json_file, images = write_tiny_coco(tmp_path_factory.mktemp("records"))
    return load_coco_json(str(json_file), str(images))


@pytest.mark.parametrize(
    ("flip", "image_format"), [(False, "BGR"), (True, "BGR"), (True, "RGB"), (True, "L")]
)
def test_cached_images_make_the_same_input_as_detectron2s_mapper(records, flip, image_format):
    parts = {
        "augmentations": [T.ResizeShortestEdge(48), T.RandomFlip(1.0 if flip else 0.0)],
        "image_format": image_format,
        "use_instance_mask": True,
        "instance_mask_format": "bitmask",
        "use_keypoint": False,
        "recompute_boxes": False,
    }
    ours = CachedMapper(DecodedImages(records, image_format), **parts)(records[1])
    theirs = DatasetMapper(is_train=True, **parts)(records[1])
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
        DecodedImages(records, "BGR")
