"""Torchvision's detectors: all detections are those of the converted model, on photos at its 800 pixels and on small ones."""

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
from tests.helpers.ties import keypoint_gaps, unmatched

SIZES = [(640, 422), (427, 640), (500, 500), (500, 375)]
"""Width and height: shorter sides that end on a fraction, longer ones that are cut, padding of 0 to 31 pixels."""
SMALL = 256
"""Pixels of the shorter side of small images."""
HEATMAP_TIE = 1e-4
"""Logits of a heatmap with a deviation of 1.5, of which the larger is no maximum but by rounding."""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def photos():
    """Files of COCO's photos of SIZES."""
    folder = os.environ.get("DETECTRON2_DATASETS")
    if not folder:
        pytest.skip("DETECTRON2_DATASETS names no folder with COCO's photos")
    files = {}
    for file in sorted(Path(folder, "coco").glob("*2017/*.jpg")):
        with Image.open(file) as photo:
            files.setdefault(photo.size, file)
    if missing := [size for size in SIZES if size not in files]:
        pytest.skip(f"{folder}/coco has no photos of {missing} pixels")
    return [files[size] for size in SIZES]


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    """Files of smooth noise of SIZES."""
    files = []
    for seed, size in enumerate(SIZES):
        noise = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
        files.append(tmp_path_factory.mktemp("generated") / f"{seed}.png")
        Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).save(files[-1])
    return files


def tensor_of(file):
    with Image.open(file) as picture:
        return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1) / 255


def compare(tmp_path, files, name, seed, size):
    """Return torchvision's detections on each file, after a comparison with those of the converted model."""
    images = {str(file): tensor_of(file) for file in files}
    theirs = tv.build(name, seed, [*images.values()], min_size=size)
    torch.save(theirs.state_dict(), tmp_path / "a.pth")
    outputs = theirs.roi_heads.box_predictor.cls_score.out_features
    # With a name for each, also the labels that COCO does not use are detected.
    (tmp_path / "names.txt").write_text("\n".join(map(str, range(1, outputs))))
    convert(tmp_path / "a.pth", tmp_path / "b.pth", classes=tmp_path / "names.txt")
    cfg = load_config(tmp_path / "b.yaml", ["INPUT.MIN_SIZE_TEST", str(size)])
    own, mapper = loaded(cfg), TrainMapper(cfg, False)
    results = []
    for file, image in images.items():
        expected = tv.detect(theirs, image)
        actual = tv.ours(own, mapper, file, image, range(1, outputs))
        figures = tv.largest_differences(expected, actual)
        gaps = [] if expected.keypoints is None else keypoint_gaps(expected, actual)
        scores = [
            round(float(score), 4) for score in (expected.scores.min(), expected.scores.max())
        ]
        print(name, seed, [*image.shape[1:]], figures, "scores", scores, "keypoint ties", gaps)
        assert unmatched(expected, actual) == unmatched(actual, expected) == {}
        assert figures.get("masks", 0) < tv.MASKS
        assert max(gaps, default=0) < HEATMAP_TIE
        results.append(expected)
    return results


def assert_scores_spread(results):
    scores = torch.cat([detections.scores for detections in results])
    assert scores.min() < 0.3
    assert 0.8 < scores.max() < 0.999


@pytest.mark.parametrize(("seed", "count"), [(1, 2), (2, 2), (0, 4)])
def test_all_of_100_detections_on_photos_are_found(tmp_path, photos, seed, count):
    results = compare(tmp_path, photos[-count:], "maskrcnn_resnet50_fpn", seed, 800)
    assert [len(detections.scores) for detections in results] == [100] * count
    assert_scores_spread(results)


@pytest.mark.parametrize(
    ("name", "seed"),
    [
        ("maskrcnn_resnet50_fpn", 0),
        ("fasterrcnn_resnet50_fpn", 0),
        ("fasterrcnn_resnet50_fpn", 1),
        ("keypointrcnn_resnet50_fpn", 0),
        ("keypointrcnn_resnet50_fpn", 1),
        ("maskrcnn_resnet50_fpn_v2", 0),
        ("fasterrcnn_resnet50_fpn_v2", 0),
    ],
)
def test_all_detections_on_small_pictures_are_found(tmp_path, generated, name, seed):
    results = compare(tmp_path, generated[:2], name, seed, SMALL)
    assert min(len(detections.scores) for detections in results) >= 20
    assert_scores_spread(results)
