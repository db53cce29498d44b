"""Anchors: places and shapes by hand, empty maps, wrong settings."""

import maskrcnn_repro  # noqa: F401

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator, build_anchor_generator
from torch.testing import assert_close


def test_anchors_by_hand():
    generator = DefaultAnchorGenerator(
        sizes=[[4], [8, 16]], aspect_ratios=[[1.0]], strides=[4, 8], offset=0.0
    )
    fine, coarse = generator([torch.zeros(1, 1, 2, 3), torch.zeros(1, 1, 1, 1)])
    # Row by row: (x, y) = (0, 0), (4, 0), (8, 0), (0, 4), (4, 4), (8, 4), each plus and minus 2.
    assert fine.tensor.tolist() == [
        [x - 2, y - 2, x + 2, y + 2] for y in (0.0, 4.0) for x in (0.0, 4.0, 8.0)
    ]
    assert coarse.tensor.tolist() == [[-4, -4, 4, 4], [-8, -8, 8, 8]]
    assert generator.num_anchors == generator.num_cell_anchors == [1, 2]


def test_anchor_ratio_is_height_over_width_and_varies_fastest():
    generator = DefaultAnchorGenerator(sizes=[8, 16], aspect_ratios=[0.25, 4.0], strides=[16])
    # Area 64, height / width 1/4: 16 x 4. The middle of the only cell is (8, 8).
    assert_close(
        generator([torch.zeros(1, 1, 1, 1)])[0].tensor,
        torch.tensor([[0.0, 6, 16, 10], [6, 0, 10, 16], [-8, 4, 24, 12], [4, -8, 12, 24]]),
    )


def test_anchors_of_an_empty_map():
    generator = DefaultAnchorGenerator(sizes=[8], aspect_ratios=[1.0], strides=[16], offset=0.0)
    assert generator([torch.zeros(1, 1, 0, 3)])[0].tensor.shape == (0, 4)


def test_anchors_are_no_part_of_a_checkpoint():
    generator = build_anchor_generator(get_cfg(), [ShapeSpec(stride=16)])
    assert not generator.state_dict()
    assert next(iter(generator.cell_anchors)).shape == (15, 4)
    assert next(iter(generator.to("meta").cell_anchors)).is_meta


@pytest.mark.embedded_only
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sizes": [[8], [16], [32]]}, "sizes has 3 lists for 2 feature maps"),
        ({"aspect_ratios": []}, "aspect_ratios must be a list"),
        ({"sizes": 32}, "sizes must be a list .* not 32"),
        ({"offset": 1.0}, r"offset is 1.0; it must be in \[0, 1\)"),
    ],
)
def test_wrong_anchors(change, message):
    arguments = {"sizes": [8], "aspect_ratios": [1.0], "strides": [4, 8]}
    with pytest.raises(ValueError, match=message):
        DefaultAnchorGenerator(**(arguments | change))
