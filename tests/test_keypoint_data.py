"""Data with keypoints: which images are trained on, which keypoints a mirror swaps, what is refused."""

import itertools
from functools import partial

from maskrcnn_repro.data import prepare_data
from maskrcnn_repro.engine.loader import build_train_loader

import pytest
from custom_data import config, with_keypoints, write_entry


@pytest.fixture
def write(tmp_path, catalog):
    return partial(write_entry, tmp_path)


def one_posed_of_two():
    """Two images with an object each; only that of the first has an annotated keypoint."""
    tree = with_keypoints(["left_tip", "right_tip"])
    first = tree["annotations"][0]
    unposed = {"id": 2, "image_id": 2, "keypoints": [0] * 6, "num_keypoints": 0}
    tree["annotations"].append({**first, **unposed})
    return tree


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
