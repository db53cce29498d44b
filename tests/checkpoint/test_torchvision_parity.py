"""Torchvision's detectors at their own 800 pixels: all detections are those of the converted model.

On photos where the data folder has COCO's, else on generated pictures of the same sizes.
"""

import os
from pathlib import Path

from maskrcnn_repro.checkpoint.convert import convert
from maskrcnn_repro.config import load_config
from maskrcnn_repro.data.mapper import TrainMapper

import numpy as np
import pytest
import torch
from PIL import Image

from tests.checkpoint.test_convert_detector import loaded
from tests.helpers import torchvision_models as tv

SIZES = [(640, 422), (427, 640), (500, 500), (500, 375)]
"""Width and height: shorter sides that end on a fraction, longer ones that are cut, padding of 0 to 31 pixels."""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Files of pictures of SIZES."""
    folder = tmp_path_factory.mktemp("pictures")
    photos = {}
    for file in sorted(
        Path(os.environ.get("DETECTRON2_DATASETS", folder), "coco").glob("*2017/*.jpg")
    ):
        with Image.open(file) as photo:
            photos.setdefault(photo.size, file)
    for seed, size in enumerate(SIZES):
        if size not in photos:
            noise = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
            photos[size] = folder / f"{seed}.png"
            Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).save(photos[size])
    return [photos[size] for size in SIZES]


def tensor_of(file):
    with Image.open(file) as photo:
        return torch.from_numpy(np.array(photo.convert("RGB"))).permute(2, 0, 1) / 255


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "seed"),
    [
        ("maskrcnn_resnet50_fpn", 0),
        ("maskrcnn_resnet50_fpn", 1),
        ("maskrcnn_resnet50_fpn", 2),
        ("maskrcnn_resnet50_fpn_v2", 0),
        ("keypointrcnn_resnet50_fpn", 0),
        ("fasterrcnn_resnet50_fpn", 0),
    ],
)
def test_all_detections_of_torchvision_are_found(tmp_path, pictures, name, seed):
    images = {str(file): tensor_of(file) for file in pictures}
    theirs = tv.build(name, seed, images[str(pictures[0])])
    torch.save(theirs.state_dict(), tmp_path / "a.pth")
    outputs = theirs.roi_heads.box_predictor.cls_score.out_features
    # With a name for each, also the labels that COCO does not use are detected.
    (tmp_path / "names.txt").write_text("\n".join(map(str, range(1, outputs))))
    convert(tmp_path / "a.pth", tmp_path / "b.pth", classes=tmp_path / "names.txt")
    cfg = load_config(tmp_path / "b.yaml")
    own, mapper = loaded(cfg), TrainMapper(cfg, False)
    for file, image in images.items():
        expected = tv.detect(theirs, image)
        actual = tv.ours(own, mapper, file, image, range(1, outputs))
        figures = tv.largest_differences(expected, actual)
        assert figures["matched"] == figures["theirs"] == figures["ours"] == 100
        assert figures.get("masks", 0) < tv.MASKS
        assert figures.get("keypoints", 0) < 1
        assert expected.scores.max() - expected.scores.min() > 0.05
        assert expected.scores.max() < 0.999
