"""ResNet, ResNeXt and FPN: sizes, frozen parts, order of initialization, arithmetic, error messages."""

import maskrcnn_repro  # noqa: F401

import pytest
import torch
import torchvision
from detectron2.config import get_cfg
from detectron2.layers import FrozenBatchNorm2d, ShapeSpec
from detectron2.modeling.backbone import (
    BACKBONE_REGISTRY,
    FPN,
    Backbone,
    BasicStem,
    BottleneckBlock,
    ResNet,
    build_backbone,
)
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from detectron2.modeling.backbone.resnet import BasicBlock
from torch import nn
from torch.testing import assert_close


class Ones(Backbone):
    """Bottom of a pyramid whose feature maps hold a constant: 1 in the finest, 2 in the next, ..."""

    def __init__(self, strides=(4, 8), channels=1):
        super().__init__()
        names = [f"f{stride}" for stride in strides]
        self._out_features = names
        self._out_feature_strides = dict(zip(names, strides, strict=True))
        self._out_feature_channels = dict.fromkeys(names, channels)

    def forward(self, x):
        n, _, h, w = x.shape
        return {
            name: torch.full((n, self._out_feature_channels[name], h // s, w // s), 1.0 + i)
            for i, (name, s) in enumerate(self._out_feature_strides.items())
        }


def small_cfg(**resnet_keys):
    cfg = get_cfg()
    keys = {
        "NORM": "BN",
        "STEM_OUT_CHANNELS": 4,
        "WIDTH_PER_GROUP": 4,
        "RES2_OUT_CHANNELS": 8,
        "OUT_FEATURES": ["res2", "res3", "res4", "res5"],
    }
    for key, value in (keys | resnet_keys).items():
        cfg.MODEL.RESNETS[key] = value
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    return cfg


def small_resnet(**kwargs):
    stages = [
        ResNet.make_stage(
            BasicBlock, 1, in_channels=c, out_channels=2 * c, stride_per_block=[s], norm="BN"
        )
        for c, s in ((4, 1), (8, 2), (16, 2))
    ]
    return ResNet(BasicStem(3, 4), stages, **kwargs)


def as_torchvision(name):
    """Name that torchvision gives to one of our parameters."""
    for ours, theirs in (
        ("stem.conv1.norm", "bn1"),
        ("stem.", ""),
        ("shortcut.norm", "downsample.1"),
        ("shortcut", "downsample.0"),
        ("linear", "fc"),
        *((f"res{i}.", f"layer{i - 1}.") for i in range(2, 6)),
        *((f"conv{i}.norm", f"bn{i}") for i in range(1, 4)),
    ):
        name = name.replace(ours, theirs)
    return name


@pytest.mark.parametrize("depth", [18, 50])
def test_same_outputs_as_torchvision(depth):
    ours = ResNet(BasicStem(), ResNet.make_default_stages(depth, norm="BN"), num_classes=5).eval()
    theirs = torchvision.models.get_model(f"resnet{depth}", num_classes=5).eval()
    theirs.load_state_dict({as_torchvision(k): v for k, v in ours.state_dict().items()})
    x = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        assert_close(ours(x)["linear"], theirs(x))


def test_resnext_has_torchvisions_weights():
    kwargs = {"num_groups": 32, "norm": "BN"}
    stages = [
        ResNet.make_stage(
            BottleneckBlock,
            blocks,
            in_channels=64 if i == 0 else 128 * 2**i,
            out_channels=256 * 2**i,
            bottleneck_channels=128 * 2**i,
            **kwargs,
        )
        for i, blocks in enumerate((3, 4, 6, 3))
    ]
    ours = ResNet(BasicStem(), stages, num_classes=5).state_dict()
    theirs = torchvision.models.resnext50_32x4d(num_classes=5).state_dict()
    assert {as_torchvision(k): v.shape for k, v in ours.items()} == {
        k: v.shape for k, v in theirs.items()
    }


def test_bottleneck_by_hand():
    block = BottleneckBlock(1, 1, bottleneck_channels=1, norm="")
    for conv, weight in ((block.conv1, 2.0), (block.conv2, 1.0), (block.conv3, -1.0)):
        nn.init.constant_(conv.weight, weight)
    x = torch.tensor([[[[1.0, -1.0, 0.5]]]])
    # conv1 and ReLU: 2, 0, 1; 3x3 sums: 2, 3, 1; conv3: -2, -3, -1; plus x and ReLU.
    assert_close(block(x), torch.zeros(1, 1, 1, 3))
    nn.init.constant_(block.conv3.weight, 1.0)
    assert_close(block(x), torch.tensor([[[[3.0, 2.0, 1.5]]]]))


@pytest.mark.parametrize(("stride_in_1x1", "where"), [(True, "conv1"), (False, "conv2")])
def test_where_the_stride_is(stride_in_1x1, where):
    backbone = build_backbone(small_cfg(STRIDE_IN_1X1=stride_in_1x1))
    first = backbone.res3[0]
    strides = {name: getattr(first, name).stride[0] for name in ("conv1", "conv2", "conv3")}
    assert strides == {"conv1": 1, "conv2": 1, "conv3": 1} | {where: 2}
    assert first.shortcut.stride == (2, 2)


def test_output_sizes_and_strides():
    backbone = build_backbone(small_cfg())
    shapes = backbone.output_shape()
    assert {name: (s.channels, s.stride) for name, s in shapes.items()} == {
        "res2": (8, 4),
        "res3": (16, 8),
        "res4": (32, 16),
        "res5": (64, 32),
    }
    outputs = backbone(torch.rand(2, 3, 64, 96))
    for name, shape in shapes.items():
        assert outputs[name].shape == (2, shape.channels, 64 // shape.stride, 96 // shape.stride)


def test_dilated_res5_keeps_resolution_and_field_of_view():
    backbone = build_backbone(small_cfg(RES5_DILATION=2, OUT_FEATURES=["res4", "res5"]))
    outputs = backbone(torch.rand(1, 3, 64, 96))
    assert outputs["res4"].shape[-2:] == outputs["res5"].shape[-2:] == (4, 6)
    assert backbone.output_shape()["res5"].stride == 16
    assert {block.conv2.dilation for block in backbone.res5} == {(2, 2)}
    assert {block.conv2.dilation for block in backbone.res4} == {(1, 1)}


@pytest.mark.parametrize("freeze_at", range(6))
def test_frozen_stages_have_no_gradients(freeze_at):
    cfg = small_cfg()
    cfg.MODEL.BACKBONE.FREEZE_AT = freeze_at
    backbone = build_backbone(cfg).train()
    for i, name in enumerate(("stem", "res2", "res3", "res4", "res5"), start=1):
        part = getattr(backbone, name)
        frozen = i <= freeze_at
        assert {p.requires_grad for p in part.parameters()} == {not frozen}
        norms = [m for m in part.modules() if isinstance(m, nn.BatchNorm2d | FrozenBatchNorm2d)]
        assert norms
        assert all(isinstance(m, FrozenBatchNorm2d) == frozen for m in norms)


def test_frozen_statistics_do_not_move():
    backbone = small_resnet(freeze_at=2, out_features=["res4"]).train()
    before = {k: v.clone() for k, v in backbone.state_dict().items() if "running_mean" in k}
    backbone(torch.rand(2, 3, 32, 32) + 1)
    moved = {k for k, v in before.items() if not torch.equal(v, backbone.state_dict()[k])}
    assert moved == {k for k in before if k.startswith(("res3", "res4"))}


def test_dropped_stages_still_use_random_numbers():
    """A seed gives the same RPN whatever the backbone's outputs, as in Detectron2."""
    draws = []
    for last in ("res3", "res5"):
        torch.manual_seed(3)
        backbone = build_backbone(small_cfg(OUT_FEATURES=[last]))
        draws.append(torch.rand(4))
    assert hasattr(backbone, "res5")
    assert_close(*draws, rtol=0, atol=0)


def test_last_feature_is_the_default():
    assert list(small_resnet()(torch.rand(1, 3, 32, 32))) == ["res4"]
    classifier = small_resnet(num_classes=7)
    assert classifier(torch.rand(2, 3, 32, 32))["linear"].shape == (2, 7)


@pytest.mark.embedded_only  # Detectron2 drops all stages here and fails
def test_classifier_alone_keeps_all_stages():
    net = small_resnet(num_classes=7, out_features=["linear"])
    assert net.stage_names == ("res2", "res3", "res4")
    assert net(torch.rand(2, 3, 32, 32))["linear"].shape == (2, 7)


def test_stem_only():
    net = small_resnet(out_features=["stem"])
    assert not hasattr(net, "res2")
    assert net(torch.rand(1, 3, 32, 48))["stem"].shape == (1, 4, 8, 12)


def test_no_images():
    assert small_resnet()(torch.rand(0, 3, 32, 32))["res4"].shape == (0, 32, 2, 2)


@pytest.mark.parametrize(("fuse_type", "finest"), [("sum", 3.0), ("avg", 1.5)])
def test_pyramid_by_hand(fuse_type, finest):
    fpn = FPN(Ones(), ["f4", "f8"], 1, fuse_type=fuse_type)
    for name, conv in fpn.named_children():
        if name.startswith("fpn_"):
            nn.init.constant_(conv.bias, 0)
            nn.init.dirac_(conv.weight)
    out = fpn(torch.zeros(1, 3, 16, 24))
    assert list(out) == ["p2", "p3"]
    assert_close(out["p3"], torch.full((1, 1, 2, 3), 2.0))
    assert_close(out["p2"], torch.full((1, 1, 4, 6), finest))


def test_pyramid_upsamples_by_repetition():
    fpn = FPN(Ones(), ["f4", "f8"], 1)
    for conv in (fpn.fpn_lateral3, fpn.fpn_output2):
        nn.init.constant_(conv.bias, 0)
        nn.init.dirac_(conv.weight)
    nn.init.zeros_(fpn.fpn_lateral2.weight)
    ramp = torch.arange(6.0).reshape(1, 1, 2, 3)
    fpn.bottom_up.forward = lambda x: {"f4": torch.zeros(1, 1, 4, 6), "f8": ramp}
    expected = ramp.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    assert_close(fpn(torch.zeros(1, 3, 16, 24))["p2"], expected)


def test_resnet_fpn_from_config():
    cfg = small_cfg()
    cfg.MODEL.BACKBONE.NAME = "build_resnet_fpn_backbone"
    cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.FPN.OUT_CHANNELS = 6
    backbone = build_backbone(cfg)
    outputs = backbone(torch.rand(1, 3, 64, 96))
    assert {name: (s.channels, s.stride) for name, s in backbone.output_shape().items()} == {
        f"p{level}": (6, 2**level) for level in range(2, 7)
    }
    assert [tuple(x.shape) for x in outputs.values()] == [
        (1, 6, -(-64 // 2**level), -(-96 // 2**level)) for level in range(2, 7)
    ]
    assert backbone.size_divisibility == 32
    assert_close(outputs["p6"], outputs["p5"][:, :, ::2, ::2])
    names = [k for k in backbone.state_dict() if not k.startswith("bottom_up.")]
    assert names == [
        f"fpn_{kind}{level}.{parameter}"
        for level in range(2, 6)
        for kind in ("lateral", "output")
        for parameter in ("weight", "bias")
    ]


def test_normalized_pyramid_has_no_biases():
    fpn = FPN(Ones(), ["f4", "f8"], 4, norm="BN", square_pad=128)
    assert fpn.fpn_lateral2.bias is None
    assert isinstance(fpn.fpn_output3.norm, nn.BatchNorm2d)
    assert fpn.padding_constraints == {"square_size": 128}


def test_top_block_prefers_the_backbones_feature():
    top = LastLevelMaxPool()
    top.in_feature = "f8"
    out = FPN(Ones(), ["f4", "f8"], 1, top_block=top)(torch.zeros(1, 3, 32, 32))
    assert_close(out["p4"], torch.full((1, 1, 2, 2), 2.0))


@pytest.mark.embedded_only
@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"DEPTH": 51}, r"depth 51; choose from \[18, 34, 50, 101, 152\]"),
        ({"DEPTH": 18}, "RES2_OUT_CHANNELS is 8; depth 18 needs 64"),
        ({"RES5_DILATION": 3}, "RES5_DILATION is 3; choose 1 or 2"),
        ({"OUT_FEATURES": ["res6"]}, r"no outputs \['res6'\]; choose from \['stem'"),
    ],
)
def test_wrong_resnet_keys(keys, message):
    with pytest.raises(ValueError, match=message):
        build_backbone(small_cfg(**keys))


@pytest.mark.embedded_only
def test_deformable_convolutions_are_refused():
    with pytest.raises(ImportError, match="DEFORM_ON_PER_STAGE is not in the embedded Detectron2"):
        build_backbone(small_cfg(DEFORM_ON_PER_STAGE=[False, False, True, True]))


@pytest.mark.embedded_only
def test_wrong_pieces_are_named():
    with pytest.raises(TypeError, match="res2 has a ReLU, no CNNBlockBase"):
        ResNet(BasicStem(), [[nn.ReLU()]])
    with pytest.raises(ValueError, match="res2 has no blocks"):
        ResNet(BasicStem(), [[]])
    with pytest.raises(ValueError, match="stride_per_block has 1 values for 2 blocks"):
        ResNet.make_stage(BasicBlock, 2, in_channels=4, out_channels=4, stride_per_block=[1])
    with pytest.raises(ValueError, match="both stride and stride_per_block"):
        ResNet.make_stage(
            BasicBlock, 1, in_channels=4, out_channels=4, stride=1, stride_per_block=[1]
        )
    with pytest.raises(ValueError, match=r"shape \(N, C, H, W\), not \(3, 32, 32\)"):
        small_resnet()(torch.rand(3, 32, 32))


@pytest.mark.embedded_only
def test_wrong_pyramids_are_refused():
    with pytest.raises(ValueError, match=r"\['f4', 'f16'\] have \[4, 16\]"):
        FPN(Ones((4, 16)), ["f4", "f16"], 1)
    with pytest.raises(ValueError, match="'mean'; choose 'sum' or 'avg'"):
        FPN(Ones(), ["f4", "f8"], 1, fuse_type="mean")


@pytest.mark.embedded_only
def test_a_builder_must_return_a_backbone():
    @BACKBONE_REGISTRY.register()
    def build_no_backbone(cfg, input_shape):
        assert input_shape == ShapeSpec(channels=3)
        return nn.Identity()

    cfg = get_cfg()
    cfg.MODEL.BACKBONE.NAME = "build_no_backbone"
    with pytest.raises(TypeError, match="'build_no_backbone' built a Identity, not a Backbone"):
        build_backbone(cfg)
