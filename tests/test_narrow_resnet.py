"""The narrow ResNet: sizes and parameter count by hand, gradients, messages."""

import maskrcnn_repro  # noqa: F401
from maskrcnn_repro.config import load_config
from maskrcnn_repro.errors import ConfigError
from maskrcnn_repro.modeling.narrow_resnet import narrow_resnet

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone


def small(**changes):
    settings = {
        "in_channels": 3,
        "num_blocks": [1, 2],
        "channels": [4, 8, 16],
        "stem_stride": 2,
        "norm": "BN",
        "out_features": ["res2", "res3"],
    }
    return narrow_resnet(**(settings | changes))


def test_parameters_by_hand():
    bn = lambda c: 2 * c
    stem = 3 * 4 * 9 + bn(4)
    res2 = 4 * 8 * 9 + 8 * 8 * 9 + 4 * 8 + 3 * bn(8)
    res3 = (8 * 16 * 9 + 16 * 16 * 9 + 8 * 16 + 3 * bn(16)) + (2 * 16 * 16 * 9 + 2 * bn(16))
    assert sum(p.numel() for p in small().parameters()) == stem + res2 + res3


@pytest.mark.parametrize("stem_stride", [2, 4])
def test_res2_has_stride_4_and_res3_stride_8(stem_stride):
    net = small(stem_stride=stem_stride)
    out = net(torch.rand(2, 3, 64, 96))
    assert {k: tuple(v.shape) for k, v in out.items()} == {
        "res2": (2, 8, 16, 24),
        "res3": (2, 16, 8, 12),
    }
    assert {k: v.stride for k, v in net.output_shape().items()} == {"res2": 4, "res3": 8}


def test_an_image_does_not_depend_on_its_neighbours_in_evaluation():
    net = small().eval()
    images = torch.rand(2, 3, 64, 64)
    both, alone = net(images)["res3"], net(images[1:])["res3"]
    torch.testing.assert_close(both[1:], alone)


def test_fpn_is_built_from_the_config_and_learns():
    cfg = load_config("configs/mini/mask_rcnn_fpn.yaml", ["MODEL.DEVICE", "cpu"])
    fpn = build_backbone(cfg, ShapeSpec(channels=3))
    out = fpn(torch.rand(1, 3, 64, 64))
    assert {k: v.shape[-1] for k, v in out.items()} == {"p2": 16, "p3": 8, "p4": 4}
    sum(v.sum() for v in out.values()).backward()
    assert all(p.grad is not None for p in fpn.parameters())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": [4, 8]}, "CHANNELS has 2 entries, but NUM_BLOCKS has 2 stages"),
        ({"channels": [4, 8, 8]}, r"\[4, 8, 8\]: neighbours must differ"),
        ({"stem_stride": 8}, "STEM_STRIDE is 8; it must be 2 or 4"),
    ],
)
def test_messages(changes, message):
    with pytest.raises(ConfigError, match=message):
        small(**changes)
