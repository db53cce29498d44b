"""The narrow ResNet: sizes and parameter count by hand, gradients, messages."""

import math

import maskrcnn_repro  # noqa: F401
from maskrcnn_repro.config import load_config
from maskrcnn_repro.errors import ConfigError
from maskrcnn_repro.modeling.narrow_resnet import narrow_resnet

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone
from torch.testing import assert_close


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


def test_parameters_of_grouped_blocks_by_hand():
    bn = lambda c: 2 * c
    stem = 3 * 4 * 9 + bn(4)
    # 1x1, 3x3 in groups of 4 channels, 1x1; the first block has a 1x1 shortcut.
    block = lambda ins, c: ins * c + c * 4 * 9 + c * c + 3 * bn(c)
    res2 = block(4, 8) + 4 * 8 + bn(8)
    res3 = block(8, 16) + 8 * 16 + bn(16) + block(16, 16)
    net = small(group_width=4)
    assert sum(p.numel() for p in net.parameters()) == stem + res2 + res3
    assert net(torch.rand(1, 3, 64, 64))["res3"].shape == (1, 16, 8, 8)


@pytest.mark.parametrize(("depth", "times"), [(18, 1), (50, 1), (101, 2), (152, 3)])
def test_blocks_follow_the_depth(depth, times):
    cfg = load_config(
        "", ["MODEL.RESNETS.DEPTH", str(depth), "MODEL.NARROW_RESNET.NUM_BLOCKS", "[1,2,1]"]
    )
    cfg.MODEL.BACKBONE.NAME = "build_narrow_resnet_backbone"
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res4"]
    net = build_backbone(cfg, ShapeSpec(channels=3))
    assert [len(getattr(net, name)) for name in ("res2", "res3", "res4")] == [
        times,
        2 * times,
        times,
    ]


@pytest.mark.parametrize(
    ("kernel", "stride", "shapes"),
    [
        (3, 2, {"convs.0": (4, 3, 3, 3)}),
        (3, 4, {"convs.0": (4, 3, 3, 3), "convs.1": (4, 4, 3, 3)}),
        (7, 2, {"convs.0": (4, 3, 7, 7)}),
        (7, 4, {"convs.0": (4, 3, 7, 7)}),
    ],
)
def test_stem_by_hand(kernel, stride, shapes):
    stem = small(stem_kernel=kernel, stem_stride=stride).stem
    weights = {name: tuple(w.shape) for name, w in stem.state_dict().items() if w.ndim == 4}
    assert weights == {f"{name}.weight": shape for name, shape in shapes.items()}
    # Convolutions without biases; each norm has a scale and a shift for each of 4 channels.
    count = sum(math.prod(shape) + 2 * 4 for shape in shapes.values())
    assert sum(p.numel() for p in stem.parameters()) == count
    # Sides are divided and rounded up.
    assert stem(torch.rand(2, 3, 64, 61)).shape == (2, 4, 64 // stride, -(-61 // stride))


def test_7x7_of_the_stem_is_centred_on_its_pixel():
    stem = small(stem_kernel=7, stem_stride=4).stem.eval()
    (conv,) = stem.convs
    torch.nn.init.zeros_(conv.weight)
    conv.weight.data[:, 0, 3, 3] = 1.0
    conv.norm.running_var.fill_(1 - conv.norm.eps)
    image = torch.rand(1, 3, 16, 20)
    torch.testing.assert_close(stem(image)[0, 0], image[0, 0, ::4, ::4])


@pytest.mark.parametrize("stem_kernel", [3, 7])
@pytest.mark.parametrize("stem_stride", [2, 4])
def test_res2_has_stride_4_and_res3_stride_8(stem_stride, stem_kernel):
    net = small(stem_stride=stem_stride, stem_kernel=stem_kernel)
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


@pytest.mark.parametrize("kernel", [3, 7])
def test_fpn_is_built_from_the_config_and_learns(kernel):
    opts = ["MODEL.DEVICE", "cpu", "MODEL.NARROW_RESNET.STEM_KERNEL", str(kernel)]
    cfg = load_config("configs/mini/mask_rcnn_fpn.yaml", opts)
    fpn = build_backbone(cfg, ShapeSpec(channels=3))
    assert fpn.bottom_up.stem.convs[0].kernel_size == (kernel, kernel)
    out = fpn(torch.rand(1, 3, 64, 64))
    assert {k: v.shape[-1] for k, v in out.items()} == {"p2": 16, "p3": 8, "p4": 4}
    sum(v.sum() for v in out.values()).backward()
    assert all(p.grad is not None for p in fpn.parameters())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": [4, 8]}, "CHANNELS has 2 entries, but NUM_BLOCKS has 2 stages"),
        ({"channels": [4, 8, 8]}, r"\[4, 8, 8\]: neighbours must differ"),
        ({"group_width": 3}, r"\[4, 8, 16\]: all but .* multiples of .*WIDTH_PER_GROUP 3"),
        ({"stem_stride": 8}, "STEM_STRIDE is 8; it must be 2 or 4"),
        ({"stem_kernel": 5}, "STEM_KERNEL is 5; it must be 3 or 7"),
    ],
)
def test_messages(changes, message):
    with pytest.raises(ConfigError, match=message):
        small(**changes)


def test_strided_1x1_convolutions_of_few_channels_subsample_their_input_first():
    """As strided ones in channels-last memory they crash on maps of 64 x 64 cells; the numbers are the same."""
    for group_width in (0, 2):
        backbone = small(
            channels=[4, 8, 12, 24],
            num_blocks=[1, 1, 1],
            group_width=group_width,
            norm="",
            out_features=["res4"],
        )
        convs = [m for m in backbone.modules() if isinstance(m, torch.nn.Conv2d)]
        strided = [c for c in convs if c.kernel_size == (1, 1) and c.stride == (2, 2)]
        assert [c for c in strided if c.in_channels < 16] == []
        shortcut, x = backbone.res4[0].shortcut, torch.randn(2, 12, 7, 8)
        expected = torch.nn.functional.conv2d(x, shortcut.weight, stride=2)
        for layout in (torch.contiguous_format, torch.channels_last):
            assert_close(shortcut(x.contiguous(memory_format=layout)), expected)


def test_channels_last_of_few_channels_trains_on_large_maps():
    backbone = small(channels=[4, 8, 12]).to(memory_format=torch.channels_last)
    x = torch.rand(2, 3, 256, 256).to(memory_format=torch.channels_last)
    sum(out.sum() for out in backbone(x).values()).backward()
    assert all(p.grad.isfinite().all() for p in backbone.parameters())
