"""The mapper gives Detectron2's samples, by fewer copies; JPEG files have Pillow's pixels."""

import copy
import io

from maskrcnn_repro.config import get_config
from maskrcnn_repro.data import jpeg
from maskrcnn_repro.data.image_file import ImageError, ImageFiles
from maskrcnn_repro.data.mapped_objects import instances_at_once
from maskrcnn_repro.data.mapper import TrainMapper
from maskrcnn_repro.data.resize import VectorResize, planes

import numpy as np
import pytest
import torch
from detectron2.data import DatasetMapper
from detectron2.data import transforms as T
from detectron2.structures import BoxMode
from PIL import Image

SIZE = (75, 61)


def picture(mode="RGB"):
    noise = np.random.default_rng(3).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(SIZE, Image.Resampling.BICUBIC).convert(mode)


@pytest.fixture
def record(tmp_path):
    path = tmp_path / "picture.jpg"
    picture().save(path)
    annotation = {"bbox_mode": BoxMode.XYWH_ABS, "iscrowd": 0}
    polygon = [10.3, 5.1, 30.7, 8.2, 20.9, 33.3]
    return {
        "file_name": str(path),
        "width": SIZE[0],
        "height": SIZE[1],
        "image_id": 7,
        "annotations": [
            annotation
            | {"bbox": [10.3, 5.1, 20.4, 28.2], "category_id": 1, "segmentation": [polygon]},
            annotation
            | {
                "bbox": [0.1, 2.0, 70.3, 50.7],
                "category_id": 4,
                "segmentation": [[0.1, 2.0, 70.4, 2.1, 50.5, 52.7], polygon],
            },
            annotation
            | {
                "bbox": [1.5, 1.5, 2.0, 2.0],
                "category_id": 1,
                "iscrowd": 1,
                "segmentation": [polygon],
            },
        ],
    }


def both(record, **keys):
    cfg = get_config()
    cfg.MODEL.MASK_ON = True
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN = (96, 40), 120
    for key, value in keys.items():
        cfg.INPUT[key] = value
    samples = []
    for mapper in (TrainMapper(cfg, True), DatasetMapper(cfg, True)):
        for seed in range(8):
            np.random.seed(seed)
            samples.append(mapper(copy.deepcopy(record)))
    return zip(samples[:8], samples[8:], strict=True)


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys()
    assert torch.equal(ours["image"], theirs["image"])
    assert ours["image"].is_contiguous()
    a, b = ours["instances"], theirs["instances"]
    assert torch.equal(a.gt_boxes.tensor, b.gt_boxes.tensor)
    assert torch.equal(a.gt_classes, b.gt_classes)
    for mine, other in zip(a.gt_masks.polygons, b.gt_masks.polygons, strict=True):
        assert all(np.array_equal(p, q) for p, q in zip(mine, other, strict=True))


@pytest.mark.parametrize("flip", ["horizontal", "vertical", "none"])
def test_samples_are_detectron2s(record, flip):
    for ours, theirs in both(record, RANDOM_FLIP=flip):
        assert_same(ours, theirs)


def test_integers_and_other_lists_are_left_to_detectron2(record):
    first = record["annotations"][0]
    first["bbox"] = [10, 5, 20, 28]
    for ours, theirs in both(record):
        assert_same(ours, theirs)
    first["bbox"] = [10.5, 5.0, 20.0, 28.0]
    first["segmentation"] = [[10, 5, 31, 8, 21, 33]]
    for ours, theirs in both(record):
        assert_same(ours, theirs)


def test_a_record_is_not_changed(record):
    before = copy.deepcopy(record)
    cfg = get_config()
    cfg.MODEL.MASK_ON = True
    TrainMapper(cfg, True)(record)
    record["annotations"][0]["segmentation"] = [[10, 5, 31, 8, 21, 33]]
    before["annotations"][0]["segmentation"] = [[10, 5, 31, 8, 21, 33]]
    TrainMapper(cfg, True)(record)
    assert record == before


def test_objects_move_with_the_image():
    # Doubled and mirrored in 20 x 10 pixels: x becomes 20 - 2x.
    box = {"bbox": [1.0, 1.0, 3.0, 2.0], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 2}
    objects = [box | {"segmentation": [[1.0, 1.0, 3.0, 1.0, 3.0, 2.0]]}]
    steps = T.TransformList([T.ResizeTransform(5, 10, 10, 20), T.HFlipTransform(20)])
    moved = instances_at_once(objects, steps, (10, 20))
    assert moved.gt_boxes.tensor.tolist() == [[14, 2, 18, 4]]
    assert moved.gt_masks.polygons[0][0].tolist() == [18, 2, 14, 2, 14, 4]
    crop = T.TransformList([T.CropTransform(0, 0, 5, 5)])
    assert instances_at_once(objects, crop, (5, 5)) is None


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_jpeg_files_have_pillows_pixels(tmp_path, mode, options):
    path = tmp_path / "picture.jpg"
    picture(mode).save(path, **options)
    pixels = ImageFiles().read(path, "BGR")
    assert jpeg.decodes_as_pillow()
    assert pixels.flags.c_contiguous
    expected = np.asarray(Image.open(path).convert("RGB"))[..., ::-1]
    assert np.array_equal(pixels, expected)


def test_other_files_are_left_to_pillow(tmp_path):
    stream = io.BytesIO()
    picture("CMYK").save(stream, "JPEG")
    assert jpeg.decode(Image.open(stream), "BGR") is None
    stream = io.BytesIO()
    picture().save(stream, "JPEG")
    assert jpeg.decode(Image.open(stream), "RGB") is None
    path = tmp_path / "cut.jpg"
    path.write_bytes(stream.getvalue()[:-300])
    with pytest.raises(ImageError, match=r"cut\.jpg cannot be read: .*truncated"):
        ImageFiles().read(path, "BGR")


def test_a_turned_jpeg_file_is_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "turned.jpg"
    picture().save(path, exif=exif)
    assert ImageFiles().read(path, "BGR").shape == (SIZE[0], SIZE[1], 3)


def test_fast_resizing_is_within_one_grey_level():
    image = np.asarray(picture())
    for height, width in ((122, 150), (33, 41), (61, 80)):
        exact = T.ResizeTransform(61, 75, height, width).apply_image(image).astype(int)
        fast = VectorResize(61, 75, height, width).apply_image(image)
        assert fast.shape == exact.shape
        assert np.abs(fast - exact).max() <= 1
        # One in a hundred of so small an image.
        assert (fast != exact).mean() < 1e-2
    grey = image[..., :1].copy()
    resized = (step(61, 75, 30, 40).apply_image(grey) for step in (VectorResize, T.ResizeTransform))
    assert np.array_equal(*resized)


def test_training_and_evaluation_resize_alike(record):
    cfg = get_config()
    cfg.INPUT.RESIZE = "torch"
    for is_train in (True, False):
        steps = TrainMapper(cfg, is_train).augmentations(T.AugInput(np.asarray(picture())))
        assert isinstance(steps.transforms[0], VectorResize)


def test_planes_of_an_image_and_of_its_mirror():
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    for seen in (image, image[:, ::-1], image[::-1], image[..., ::-1], image.astype(np.float32)):
        assert np.array_equal(planes(seen).numpy(), seen.transpose(2, 0, 1))
    own = np.zeros((3, 2, 4), np.uint8)
    assert planes(own.transpose(1, 2, 0)).data_ptr() == own.ctypes.data
