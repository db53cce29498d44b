"""Structures: boxes, instances, batches of images."""

import copy
import pickle

import maskrcnn_repro  # noqa: F401

import numpy as np
import pytest
import torch
import torchvision
from detectron2.structures import Boxes, BoxMode, ImageList, Instances, pairwise_ioa, pairwise_iou
from detectron2.structures.boxes import pairwise_intersection
from torch.testing import assert_close


def _random_boxes(count):
    corner = torch.rand(count, 2) * 20
    return Boxes(torch.cat([corner, corner + torch.rand(count, 2) * 20], dim=1))


# Boxes


def test_overlaps_by_hand():
    boxes = Boxes([[0, 0, 4, 2]])
    others = Boxes([[2, 1, 6, 3], [0, 0, 2, 2], [9, 9, 9, 9]])
    assert pairwise_intersection(boxes, others).tolist() == [[2, 4, 0]]
    assert_close(pairwise_iou(boxes, others), torch.tensor([[2 / 14, 4 / 8, 0]]))
    assert_close(pairwise_ioa(boxes, others), torch.tensor([[2 / 8, 4 / 4, 0]]))


def test_iou_of_empty_boxes_is_zero():
    empty = Boxes([[3, 3, 3, 3]])
    assert pairwise_iou(empty, empty).tolist() == [[0]]
    assert pairwise_ioa(empty, empty).tolist() == [[0]]


@pytest.mark.parametrize(("n", "m"), [(1, 1), (7, 4), (0, 3), (3, 0)])
def test_iou_is_torchvisions(n, m):
    first, second = _random_boxes(n), _random_boxes(m)
    assert_close(pairwise_iou(first, second), torchvision.ops.box_iou(first.tensor, second.tensor))


def test_what_boxes_can_do():
    boxes = Boxes([[1, 2, 4, 8], [3, 3, 3, 5]])
    assert boxes.area().tolist() == [18, 0]
    assert boxes.nonempty().tolist() == [True, False]
    assert boxes.nonempty(threshold=3).tolist() == [False, False]
    assert boxes.get_centers().tolist() == [[2.5, 5], [3, 4]]
    assert [box.tolist() for box in boxes] == [[1, 2, 4, 8], [3, 3, 3, 5]]
    assert (
        boxes[1].tensor.tolist()
        == boxes[torch.tensor([False, True])].tensor.tolist()
        == [[3, 3, 3, 5]]
    )
    assert len(boxes[:0]) == 0
    boxes.scale(2, 0.5)
    assert boxes.tensor.tolist() == [[2, 1, 8, 4], [6, 1.5, 6, 2.5]]


def test_clipping_is_to_height_and_width():
    boxes = Boxes([[-3, -4, 50, 60], [5, 5, 6, 6]])
    boxes.clip((30, 20))
    assert boxes.tensor.tolist() == [[0, 0, 20, 30], [5, 5, 6, 6]]
    with pytest.raises(AssertionError, match="NaN"):
        Boxes([[0, 0, float("nan"), 1]]).clip((9, 9))


@pytest.mark.parametrize(
    ("box", "margin", "inside"),
    [
        ([0, 0, 19, 29], 0, True),
        ([0, 0, 20, 29], 0, False),  # the right end does not belong to the image
        ([0, 0, 19, 30], 0, False),
        ([-1, 0, 5, 5], 0, False),
        ([-1, -1, 20, 30], 1, True),
    ],
)
def test_inside_an_image_with_a_margin(box, margin, inside):
    assert Boxes([box]).inside_box((30, 20), margin).tolist() == [inside]


def test_boxes_of_nothing():
    assert Boxes([]).tensor.shape == Boxes.cat([]).tensor.shape == (0, 4)
    assert Boxes(torch.zeros(0)).area().shape == (0,)


def test_boxes_are_float32_with_four_columns():
    assert (
        Boxes(np.zeros((2, 4))).tensor.dtype
        == Boxes(torch.zeros(2, 4).half()).tensor.dtype
        == torch.float32
    )
    for shape in [(4,), (2, 5), (2, 2, 4)]:
        with pytest.raises(AssertionError):
            Boxes(torch.zeros(shape))


def test_copies_of_boxes_are_copies():
    boxes = _random_boxes(2)
    expected = boxes.tensor.tolist()
    for copied in (boxes.clone(), Boxes.cat([boxes])):
        copied.scale(3, 3)
    assert boxes.tensor.tolist() == expected


@pytest.mark.parametrize("container", [list, tuple, np.array, torch.tensor])
def test_box_modes(container):
    xyxy, xywh = container([1.0, 2.0, 4.0, 8.0]), [1, 2, 3, 6]
    batch = not isinstance(xyxy, list | tuple)
    converted = BoxMode.convert(xyxy[None] if batch else xyxy, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)
    assert type(converted) is type(xyxy)
    assert list(converted[0] if batch else converted) == xywh
    back = BoxMode.convert(converted, BoxMode.XYWH_ABS, BoxMode.XYXY_ABS)
    assert list(back[0] if batch else back) == list(xyxy)


def test_box_modes_that_are_refused():
    with pytest.raises((NotImplementedError, AssertionError)):
        BoxMode.convert([0, 0, 1, 1], BoxMode.XYXY_REL, BoxMode.XYXY_ABS)
    with pytest.raises(AssertionError, match="4"):
        BoxMode.convert([0, 0, 1], BoxMode.XYWH_ABS, BoxMode.XYXY_ABS)
    assert BoxMode(1) is BoxMode.XYWH_ABS


# Instances


def _instances():
    return Instances(
        (30, 20),
        boxes=_random_boxes(3),
        scores=torch.tensor([0.1, 0.5, 0.9]),
        names=["a", "b", "c"],
    )


def test_fields_of_instances():
    instances = _instances()
    assert len(instances) == 3
    assert instances.image_size == (30, 20)
    assert instances.has("names")
    assert instances.names == instances.get("names") == ["a", "b", "c"]
    instances.classes = torch.tensor([7, 8, 9])
    instances.remove("names")
    assert set(instances.get_fields()) == {"boxes", "scores", "classes"}


def test_indexing_instances_indexes_every_field():
    instances = _instances()
    assert instances[1].names == instances[-2].names == ["b"]
    assert instances[1:].names == ["b", "c"]
    instances.remove("names")  # a list takes no tensor
    confident = instances[instances.scores > 0.4]
    assert_close(confident.scores, torch.tensor([0.5, 0.9]))
    assert_close(confident.boxes.tensor, instances.boxes.tensor[1:])
    assert len(instances[instances.scores > 1]) == 0


def test_concatenating_instances():
    both = Instances.cat([_instances()[:1], _instances()])
    assert both.names == ["a", "a", "b", "c"]
    assert both.boxes.tensor.shape == (4, 4)
    assert_close(both.scores, torch.tensor([0.1, 0.1, 0.5, 0.9]))


def test_mistakes_with_instances():
    instances = _instances()
    with pytest.raises(AssertionError, match="2"):
        instances.classes = torch.zeros(2)
    with pytest.raises(AttributeError, match="'score'"):
        _ = instances.score
    with pytest.raises(IndexError):
        instances[3]
    with pytest.raises(NotImplementedError):
        list(instances)
    with pytest.raises(NotImplementedError):
        len(Instances((3, 4)))
    with pytest.raises(ValueError, match="tuple"):
        Instances.cat([Instances((1, 1), x=(1,)), Instances((1, 1), x=(2,))])
    with pytest.raises(AssertionError):
        Instances.cat([Instances((1, 1), x=[1]), Instances((2, 2), x=[2])])


def test_instances_can_be_copied_and_sent():
    for received in (copy.deepcopy(_instances()), pickle.loads(pickle.dumps(_instances()))):
        assert received.names == ["a", "b", "c"]
        assert received.image_size == (30, 20)
    assert _instances().to("cpu").names == ["a", "b", "c"]
    assert "num_instances=3, image_height=30, image_width=20" in str(_instances())


# Batches of images


def test_images_are_padded_at_the_right_and_bottom():
    images = [torch.ones(3, 5, 9), torch.ones(3, 7, 2)]
    batch = ImageList.from_tensors(images, size_divisibility=4, pad_value=0.5)
    assert batch.tensor.shape == (2, 3, 8, 12)
    assert batch.image_sizes == [(5, 9), (7, 2)]
    assert_close(batch[0], images[0])
    assert (batch.tensor[0, :, 5:] == 0.5).all()
    assert (batch.tensor[1, :, :, 2:] == 0.5).all()


@pytest.mark.parametrize(
    ("divisor", "constraints", "expected"),
    [
        (0, None, (5, 9)),
        (1, None, (5, 9)),
        (32, None, (32, 32)),
        (32, {"size_divisibility": 2}, (6, 10)),
        (0, {"square_size": 16}, (16, 16)),
    ],
)
def test_size_of_a_batch(divisor, constraints, expected):
    batch = ImageList.from_tensors([torch.zeros(5, 9)], divisor, padding_constraints=constraints)
    assert batch.tensor.shape == (1, *expected)


def test_a_batch_leaves_the_images_alone():
    image = torch.ones(1, 4, 4)
    ImageList.from_tensors([image]).tensor.zero_()
    assert image.sum() == 16


def test_images_must_fit_together():
    with pytest.raises(AssertionError):
        ImageList.from_tensors([torch.zeros(3, 4, 4), torch.zeros(1, 4, 4)])
    with pytest.raises(AssertionError):
        ImageList.from_tensors([])
