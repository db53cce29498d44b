"""Transforms and augmentations: values worked out by hand, and the ranges that random draws keep to."""

import maskrcnn_repro  # noqa: F401

import numpy as np
import pycocotools.mask as mask_util
import pytest
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T
from detectron2.structures import BoxMode
from numpy.testing import assert_allclose, assert_array_equal

DOUBLE_THEN_FLIP = T.TransformList([T.ResizeTransform(50, 100, 100, 200), T.HFlipTransform(200)])


@pytest.fixture(autouse=True)
def _numpy_seeded():
    np.random.seed(0)


def gradient(*shape):
    return np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)


def test_annotation_through_resize_and_flip():
    annotation = {
        "bbox": [10, 20, 20, 15],
        "bbox_mode": BoxMode.XYWH_ABS,
        "segmentation": [[10.0, 20, 30, 20, 30, 35]],
        "keypoints": [12, 22, 2, 20, 30, 1, 0, 0, 0],
    }
    moved = utils.transform_instance_annotations(
        annotation, DOUBLE_THEN_FLIP, (100, 200), keypoint_hflip_indices=[1, 0, 2]
    )
    assert_allclose(moved["bbox"], [140, 40, 180, 70])
    assert moved["bbox_mode"] == BoxMode.XYXY_ABS
    assert_allclose(moved["segmentation"], [[180, 40, 140, 40, 140, 70]])
    # Left and right have changed places; the unlabelled keypoint stays at zero.
    assert_allclose(moved["keypoints"], [[160, 60, 1], [176, 44, 2], [0, 0, 0]])


def test_rle_through_resize_and_flip():
    mask = np.zeros((50, 100), dtype=np.uint8)
    mask[10:20, 0:5] = 1
    annotation = {
        "bbox": [0, 10, 5, 20],
        "bbox_mode": BoxMode.XYXY_ABS,
        "segmentation": mask_util.encode(np.asfortranarray(mask)),
    }
    moved = utils.transform_instance_annotations(annotation, DOUBLE_THEN_FLIP, (100, 200))
    expected = np.zeros((100, 200), dtype=np.uint8)
    expected[20:40, 190:200] = 1
    assert_array_equal(moved["segmentation"], expected)


def test_box_is_clipped_and_keypoints_outside_are_unlabelled():
    annotation = {
        "bbox": [0, 0, 90, 90],
        "bbox_mode": BoxMode.XYXY_ABS,
        "keypoints": [10, 10, 2, 20, 20, 2, 60, 20, 2],
    }
    crop = T.TransformList([T.CropTransform(20, 20, 30, 40)])
    moved = utils.transform_instance_annotations(annotation, crop, (40, 30))
    assert_allclose(moved["bbox"], [0, 0, 30, 40])
    assert_allclose(moved["keypoints"], [[0, 0, 0], [0, 0, 2], [0, 0, 0]])


def test_mirrored_keypoints_need_their_pairs():
    flip = T.TransformList([T.HFlipTransform(9)])
    with pytest.raises(ValueError, match="flip"):
        utils.transform_keypoint_annotations([1, 2, 2], flip, (9, 9))
    with pytest.raises(ValueError, match="1"):
        utils.transform_keypoint_annotations([1, 2, 2], flip, (9, 9), [0, 1])
    twice = T.TransformList([T.HFlipTransform(9), T.HFlipTransform(9)])
    assert_allclose(utils.transform_keypoint_annotations([1, 2, 2], twice, (9, 9)), [[1, 2, 2]])


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
def test_halving_averages_blocks_when_each_output_sees_one(dtype):
    image = np.array([[0, 100], [200, 60]], dtype=dtype)
    resized = T.ResizeTransform(2, 2, 1, 1).apply_image(image)
    assert resized.dtype == dtype
    assert_array_equal(resized, [[90]])


@pytest.mark.parametrize("shape", [(6, 8), (6, 8, 1), (6, 8, 3)])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_resize_keeps_channels_and_takes_flipped_arrays(shape, dtype):
    image = np.flip(np.full(shape, 7, dtype=dtype), axis=1)
    resized = T.ResizeTransform(6, 8, 3, 20).apply_image(image)
    assert_array_equal(resized, np.full((3, 20, *shape[2:]), 7))


def test_resize_inverse_and_labels():
    resize = T.ResizeTransform(4, 4, 8, 8)
    points = np.array([[1.0, 3.0]])
    assert_allclose(resize.inverse().apply_coords(resize.apply_coords(points.copy())), points)
    labels = np.array([[0, 255], [3, 9]], dtype=np.uint8).repeat(2, 0).repeat(2, 1)
    assert set(np.unique(resize.apply_segmentation(labels))) == {0, 3, 9, 255}


@pytest.mark.embedded_only
def test_resize_of_another_image_names_both_sizes():
    with pytest.raises(ValueError, match=r"4 x 5 .*\(3, 3\)"):
        T.ResizeTransform(4, 5, 8, 8).apply_image(gradient(3, 3))


def test_quarter_turn_is_counter_clockwise():
    turn = T.RotationTransform(2, 4, 90)
    assert_array_equal(turn.apply_image(gradient(2, 4)), np.rot90(gradient(2, 4)))
    corners = np.array([[4.0, 0], [0, 0], [0, 2]])
    turned = turn.apply_coords(corners)
    assert_allclose(turned, [[0, 0], [0, 4], [2, 4]], atol=1e-9)
    assert_allclose(turn.inverse().apply_coords(turned), corners, atol=1e-9)


def test_rotation_without_expand():
    turn = T.RotationTransform(4, 4, 180, expand=False, center=(1, 1))
    assert_allclose(turn.apply_coords([[0, 0], [2, 1]]), [[2, 2], [0, 1]], atol=1e-9)
    with pytest.raises(NotImplementedError):
        turn.inverse()
    full = T.RotationTransform(4, 4, 360)
    assert_array_equal(full.apply_image(gradient(4, 4)), gradient(4, 4))


def test_colour_transforms_leave_geometry():
    image, points = gradient(2, 2, 3), np.array([[1.0, 1.0]])
    negative = T.ColorTransform(lambda pixels: 255 - pixels)
    assert_array_equal(negative.apply_image(image), 255 - image)
    assert_array_equal(negative.apply_coords(points), points)
    assert_array_equal(negative.inverse().apply_image(image), image)
    mirrored = T.PILColorTransform(lambda picture: picture.transpose(0)).apply_image(image)
    assert_array_equal(mirrored, image[:, ::-1])


@pytest.mark.parametrize(
    ("size", "edge", "limit", "expected"),
    [
        ((480, 640), 800, 1333, (800, 1067)),
        ((640, 480), 800, 1333, (1067, 800)),
        ((300, 1000), 800, 1333, (400, 1333)),
        ((1000, 300), 800, 1333, (1333, 400)),
        ((500, 500), 800, 600, (600, 600)),
        ((7, 7), 7, 100, (7, 7)),
    ],
)
def test_shortest_edge(size, edge, limit, expected):
    assert T.ResizeShortestEdge.get_output_shape(*size, edge, limit) == expected
    resize = T.ResizeShortestEdge(edge, limit).get_transform(np.zeros(size))
    assert (resize.new_h, resize.new_w) == expected


def test_shortest_edge_draws():
    image = np.zeros((10, 10))
    ranged = T.ResizeShortestEdge((20, 22))
    assert {ranged.get_transform(image).new_h for _ in range(100)} == {20, 21, 22}
    chosen = T.ResizeShortestEdge([20, 30], sample_style="choice")
    assert {chosen.get_transform(image).new_h for _ in range(100)} == {20, 30}
    assert isinstance(T.ResizeShortestEdge(0).get_transform(image), T.NoOpTransform)


@pytest.mark.embedded_only
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: T.ResizeShortestEdge((1, 2, 3)), "short_edge_length.*two"),
        (lambda: T.ResizeShortestEdge(8, sample_style="any"), "sample_style.*'any'"),
        (lambda: T.RandomRotation(8, sample_style="any"), "sample_style.*'any'"),
        (lambda: T.RandomCrop("half", (1, 1)), "crop_type.*relative_range.*'half'"),
        (lambda: T.RandomCrop("absolute_range", (9, 8)), r"\(9, 8\)"),
        (lambda: T.RandomFlip(vertical=True), "horizontal=True, vertical=True"),
        (lambda: T.RandomSaturation(1, 2).get_transform(np.zeros((4, 4))), r"RGB.*\(4, 4\)"),
        (lambda: T.AugInput(np.zeros(3)), r"\(3,\)"),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_flip_probabilities():
    image = np.zeros((4, 6))
    assert isinstance(T.RandomFlip(0.0).get_transform(image), T.NoOpTransform)
    assert T.RandomFlip(1.0).get_transform(image).width == 6
    vertical = T.RandomFlip(1.0, horizontal=False, vertical=True).get_transform(image)
    assert vertical.height == 4
    flips = sum(
        isinstance(T.RandomFlip().get_transform(image), T.HFlipTransform) for _ in range(400)
    )
    assert 150 < flips < 250


@pytest.mark.parametrize(
    ("kind", "size", "heights", "widths"),
    [
        ("relative", (0.5, 0.25), {20}, {15}),
        ("absolute", (10, 100), {10}, {60}),
        ("relative_range", (0.5, 1.0), set(range(20, 41)), {60}),
        ("absolute_range", (38, 50), {38, 39, 40}, set(range(38, 51))),
    ],
)
def test_random_crop_sizes_and_places(kind, size, heights, widths):
    crops = [T.RandomCrop(kind, size).get_transform(np.zeros((40, 60))) for _ in range(500)]
    assert {crop.h for crop in crops} == heights
    assert {crop.w for crop in crops} == widths
    assert all(0 <= c.x0 <= 60 - c.w and 0 <= c.y0 <= 40 - c.h for c in crops)


def test_fixed_size_crop_pads_right_and_below():
    transforms = T.FixedSizeCrop((3, 4), pad_value=9).get_transform(gradient(2, 2))
    assert_array_equal(
        transforms.apply_image(gradient(2, 2)), [[0, 1, 9, 9], [2, 3, 9, 9], [9, 9, 9, 9]]
    )
    assert_array_equal(transforms.apply_segmentation(gradient(2, 2))[2], [255] * 4)
    smaller = T.FixedSizeCrop((3, 4), pad=False).get_transform(gradient(2, 2))
    assert_array_equal(smaller.apply_image(gradient(2, 2)), gradient(2, 2))
    cut = T.FixedSizeCrop((2, 2)).get_transform(gradient(5, 4))
    assert cut.apply_image(gradient(5, 4)).shape == (2, 2)


def test_resize_scale_fits_the_target():
    resize = T.ResizeScale(0.5, 0.5, 64, 128).get_transform(np.zeros((50, 100)))
    assert (resize.new_h, resize.new_w) == (32, 64)


def test_resize_to_fixed_shapes():
    image = gradient(4, 6)
    assert T.Resize(5).get_transform(image).apply_image(image).shape == (5, 5)
    assert T.Resize([5, 7]).get_transform(image).apply_image(image).shape == (5, 7)


def test_colour_augmentations_by_hand():
    image = np.array([[[10, 20, 30], [200, 100, 0]]], dtype=np.uint8)

    def apply(augmentation):
        return augmentation.get_transform(image).apply_image(image)

    assert_array_equal(apply(T.RandomBrightness(0.5, 0.5)), [[[5, 10, 15], [100, 50, 0]]])
    assert_array_equal(apply(T.RandomBrightness(2, 2))[0, 1], [255, 200, 0])
    assert_array_equal(apply(T.RandomContrast(0, 0)), np.full((1, 2, 3), 60))
    # 0.299 R + 0.587 G + 0.114 B
    assert_array_equal(apply(T.RandomSaturation(0, 0))[0, :, 0], [18, 118])


def test_rotation_draws():
    image = np.zeros((10, 20))
    angles = [T.RandomRotation([-30, 30]).get_transform(image).angle for _ in range(50)]
    assert min(angles) < -15
    assert max(angles) > 15
    fixed = T.RandomRotation(90, expand=False, center=(0.5, 0.25)).get_transform(image)
    assert_allclose(fixed.center, (10, 2.5))
    assert isinstance(T.RandomRotation(360).get_transform(image), T.NoOpTransform)


def test_each_augmentation_sees_what_those_before_made():
    inputs = T.AugInput(
        gradient(4, 6), boxes=np.array([[0.0, 0, 3, 2]]), sem_seg=np.eye(4, 6, dtype=np.uint8)
    )
    transforms = T.AugmentationList([T.Resize((8, 12)), T.RandomFlip(1.0)])(inputs)
    assert inputs.image.shape == inputs.sem_seg.shape == (8, 12)
    assert_allclose(inputs.boxes, [[6, 0, 12, 4]])
    assert transforms[1].width == 12


def test_inputs_are_found_by_name():
    class CutFirstBox(T.Augmentation):
        def get_transform(self, image, boxes):
            x0, y0, x1, y1 = boxes[0].astype(int)
            return T.CropTransform(x0, y0, x1 - x0, y1 - y0)

    class NeedsMore(T.Augmentation):
        def get_transform(self, image, depth):
            return T.NoOpTransform()

    class Variadic(T.Augmentation):
        def get_transform(self, image, *rest):
            return T.NoOpTransform()

    inputs = T.AugInput(gradient(4, 4), boxes=np.array([[1.0, 2, 3, 4]]))
    CutFirstBox()(inputs)
    assert_array_equal(inputs.image, [[9, 10], [13, 14]])
    assert_allclose(inputs.boxes, [[0, 0, 2, 2]])
    with pytest.raises(AttributeError, match="depth"):
        NeedsMore()(inputs)
    with pytest.raises(TypeError, match="args"):
        Variadic()(inputs)


def test_apply_augmentations_takes_arrays_and_inputs():
    image, transforms = T.apply_augmentations([T.HFlipTransform(4)], gradient(2, 4))
    assert_array_equal(image, gradient(2, 4)[:, ::-1])
    assert len(transforms) == 1
    inputs = T.AugInput(gradient(2, 4))
    same, _ = T.apply_augmentations([T.HFlipTransform(4)], inputs)
    assert same is inputs
    assert_array_equal(inputs.image, image)


def test_random_apply():
    flip = T.HFlipTransform(4)
    assert isinstance(T.RandomApply(flip, 0.0).get_transform(None), T.NoOpTransform)
    assert T.RandomApply(flip, 1.0)(T.AugInput(gradient(2, 4))) is flip
    with pytest.raises(AssertionError):
        T.RandomApply(flip, 1.5)


def test_repr_shows_what_is_not_default():
    assert str(T.RandomFlip(0.3, vertical=True, horizontal=False)) == (
        "RandomFlip(prob=0.3, horizontal=False, vertical=True)"
    )
    assert str(T.AugmentationList([T.RandomContrast(1, 2)])) == (
        "AugmentationList[RandomContrast(intensity_min=1, intensity_max=2)]"
    )


def test_subclasses_may_keep_their_arguments_with_init():
    class Mine(T.Augmentation):
        def __init__(self, strength, _hidden=1):
            self._init(locals())

    assert Mine(3).strength == 3
    assert not hasattr(Mine(3), "_hidden")
