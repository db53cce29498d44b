"""ResNet and ResNeXt (He et al. 2016, arXiv 1512.03385; Xie et al. 2017, arXiv 1611.05431).

Shapes: N images, C channels, H x W pixels of the input or cells of a feature map.

Modules are created and initialized in Detectron2's order, so that one seed gives the same weights.
"""

import itertools
import math
from typing import Any

import torch
import torch.nn.functional as F
from fvcore.nn import weight_init
from torch import nn

from detectron2._absent import hint, module_getattr
from detectron2.config import CfgNode
from detectron2.layers import CNNBlockBase, Conv2d, ShapeSpec, get_norm

from .backbone import Backbone
from .build import BACKBONE_REGISTRY

__all__ = ["BasicStem", "BottleneckBlock", "ResNet", "ResNetBlockBase"]
__all__ += ["build_resnet_backbone", "make_stage"]

ResNetBlockBase = CNNBlockBase

# Depth -> number of blocks of res2 ... res5 (Table 1 of the ResNet paper).
_NUM_BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}


def _conv_norm(
    in_channels: int, out_channels: int, kernel_size: int, norm, *, dilation: int = 1, **kwargs
) -> Conv2d:
    """Make a convolution whose resolution changes only by its stride, by default without bias."""
    sizes = {"padding": dilation * (kernel_size // 2), "dilation": dilation}
    kwargs = {"bias": False, "norm": get_norm(norm, out_channels), **sizes, **kwargs}
    return Conv2d(in_channels, out_channels, kernel_size, **kwargs)


def _conv_relu(in_channels: int, out_channels: int, norm) -> Conv2d:
    """Make a 3x3 convolution with normalization or else bias, and ReLU: the layer of RoI heads."""
    return _conv_norm(in_channels, out_channels, 3, norm, bias=not norm, activation=nn.ReLU())


class _ResidualBlock(CNNBlockBase):
    """``relu(residual(x) + shortcut(x))``; shortcut: a 1x1 convolution where channels change."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, norm):
        super().__init__(in_channels, out_channels, stride)
        self.shortcut = None
        if in_channels != out_channels:
            self.shortcut = _conv_norm(in_channels, out_channels, 1, norm, stride=stride)

    def _initialize(self, *convs: Conv2d) -> None:
        for conv in (*convs, self.shortcut):
            if conv is not None:
                weight_init.c2_msra_fill(conv)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self._residual(x)
        out += x if self.shortcut is None else self.shortcut(x)
        return F.relu_(out)


class BasicBlock(_ResidualBlock):
    """Two 3x3 convolutions: the block of ResNet-18 and ResNet-34.

    Args:
        in_channels: C of the input.
        out_channels: C of the output, and of what lies between.
        stride: of the first convolution.
        norm: name of a normalization or a callable, see :func:`detectron2.layers.get_norm`.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1, norm="BN"):
        super().__init__(in_channels, out_channels, stride, norm)
        self.conv1 = _conv_norm(in_channels, out_channels, 3, norm, stride=stride)
        self.conv2 = _conv_norm(out_channels, out_channels, 3, norm)
        self._initialize(self.conv1, self.conv2)

    def _residual(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv2(F.relu_(self.conv1(x)))


class BottleneckBlock(_ResidualBlock):
    """1x1, 3x3 and 1x1 convolution: the block of ResNet-50 and deeper, and of ResNeXt.

    Args:
        in_channels: C of the input.
        out_channels: C of the output.
        bottleneck_channels: C between the convolutions.
        stride: of the block.
        num_groups: groups of the 3x3 convolution; above 1 in ResNeXt.
        norm: name of a normalization or a callable, see :func:`detectron2.layers.get_norm`.
        stride_in_1x1: stride in the first convolution, as in the weights of the ResNet authors,
            instead of the 3x3 one, as in torchvision's.
        dilation: of the 3x3 convolution.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        bottleneck_channels: int,
        stride: int = 1,
        num_groups: int = 1,
        norm="BN",
        stride_in_1x1: bool = False,
        dilation: int = 1,
    ):
        super().__init__(in_channels, out_channels, stride, norm)
        width = bottleneck_channels
        first, second = (stride, 1) if stride_in_1x1 else (1, stride)
        self.conv1 = _conv_norm(in_channels, width, 1, norm, stride=first)
        self.conv2 = _conv_norm(
            width, width, 3, norm, stride=second, groups=num_groups, dilation=dilation
        )
        self.conv3 = _conv_norm(width, out_channels, 1, norm)
        self._initialize(self.conv1, self.conv2, self.conv3)

    def _residual(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv3(F.relu_(self.conv2(F.relu_(self.conv1(x)))))


class BasicStem(CNNBlockBase):
    """7x7 convolution and 3x3 max pooling, each with stride 2: the stem of every ResNet.

    Args:
        in_channels: C of the images.
        out_channels: C of the output.
        norm: name of a normalization or a callable, see :func:`detectron2.layers.get_norm`.
    """

    def __init__(self, in_channels: int = 3, out_channels: int = 64, norm="BN"):
        super().__init__(in_channels, out_channels, 4)
        self.conv1 = _conv_norm(in_channels, out_channels, 7, norm, stride=2)
        weight_init.c2_msra_fill(self.conv1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.max_pool2d(F.relu_(self.conv1(x)), kernel_size=3, stride=2, padding=1)


class ResNet(Backbone):
    """Stem, stages ``res2`` to ``res5`` at most, and optionally a classifier.

    Args:
        stem: a block with ``stride`` and ``out_channels``.
        stages: the blocks of each stage, first of them ``res2``.
        num_classes: outputs of the classifier ``linear``; None for a network without one.
        out_features: what :meth:`forward` returns, of ``stem``, ``res2`` ... and ``linear``; None
            for the last one. Stages behind the last one named are dropped.
        freeze_at: see :meth:`freeze`.

    Raises:
        ValueError: a stage has no block, or an output does not exist.
        TypeError: a block is not a CNNBlockBase.
    """

    def __init__(
        self,
        stem: CNNBlockBase,
        stages: list[list[CNNBlockBase]],
        num_classes: int | None = None,
        out_features: list[str] | None = None,
        freeze_at: int = 0,
    ):
        super().__init__()
        self.stem = stem
        self.num_classes = num_classes
        names = [f"res{i}" for i in range(2, 2 + len(stages))]
        if out_features is not None and "linear" not in out_features:
            # A stage without use costs memory, and its parameters get no gradient: DDP fails.
            while names and names[-1] not in out_features:
                names.pop()
        self.stage_names = tuple(names)
        channels, stride = stem.out_channels, stem.stride
        shapes = {"stem": (channels, stride)}
        for name, blocks in zip(names, stages, strict=False):
            for block in blocks:
                if not isinstance(block, CNNBlockBase):
                    raise TypeError(f"stage {name} has a {type(block).__name__}, no CNNBlockBase")
            if not blocks:
                raise ValueError(f"stage {name} has no blocks")
            self.add_module(name, nn.Sequential(*blocks))
            channels = blocks[-1].out_channels
            stride *= math.prod(block.stride for block in blocks)
            shapes[name] = (channels, stride)
        self._out_feature_channels = {name: shape[0] for name, shape in shapes.items()}
        self._out_feature_strides = {name: shape[1] for name, shape in shapes.items()}
        available = [*shapes]
        if num_classes is not None:
            available.append("linear")
            self.avgpool = nn.AdaptiveAvgPool2d(1)
            self.linear = nn.Linear(channels, num_classes)
            # Goyal et al. 2017 (arXiv 1706.02677), Sec. 5.1.
            nn.init.normal_(self.linear.weight, std=0.01)
        self._out_features = available[-1:] if out_features is None else out_features
        unknown = [f for f in self._out_features if f not in available]
        if unknown or not self._out_features:
            raise ValueError(f"ResNet has no outputs {unknown}; choose from {available}")
        self.freeze(freeze_at)

    @property
    def stages(self) -> list[nn.Sequential]:
        """The stages, from ``res2`` on."""
        return [getattr(self, name) for name in self.stage_names]

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compute the outputs named by ``out_features``.

        Args:
            x: images, shape (N, C, H, W).

        Returns:
            Name -> (N, channels, H/stride, W/stride), rounded up; ``linear`` -> (N, num_classes).
        """
        if x.dim() != 4:
            raise ValueError(f"ResNet takes images of shape (N, C, H, W), not {tuple(x.shape)}")
        outputs = {}
        for name in ("stem", *self.stage_names):
            outputs[name] = x = getattr(self, name)(x)
        if self.num_classes is not None:
            outputs["linear"] = self.linear(self.avgpool(x).flatten(1))
        return {name: output for name, output in outputs.items() if name in self._out_features}

    def freeze(self, freeze_at: int = 0) -> "ResNet":
        """Stop training the first parts: no gradients, and batch norm with its stored statistics.

        Args:
            freeze_at: 0 nothing, 1 the stem, 2 also ``res2``, ... 5 also ``res5``.
        """
        parts = [[self.stem], *self.stages]
        for block in itertools.chain(*parts[: max(freeze_at, 0)]):
            block.freeze()
        return self

    @staticmethod
    def make_stage(
        block_class: type, num_blocks: int, *, in_channels: int, out_channels: int, **kwargs: Any
    ) -> list[CNNBlockBase]:
        """Make the blocks of one stage.

        Args:
            block_class: class of all of them.
            num_blocks: how many.
            in_channels: C of the first block's input.
            out_channels: C of every block's output.
            **kwargs: further arguments of ``block_class``. A name that ends in ``_per_block`` holds
                one value for each block, and its beginning is the argument's name.

        Raises:
            ValueError: a ``_per_block`` list has the wrong length, or its argument is given twice.
        """
        suffix = "_per_block"
        each = {k.removesuffix(suffix): v for k, v in kwargs.items() if k.endswith(suffix)}
        common = {k: v for k, v in kwargs.items() if not k.endswith(suffix)}
        for name, values in each.items():
            if len(values) != num_blocks:
                raise ValueError(f"{name}{suffix} has {len(values)} values for {num_blocks} blocks")
            if name in common:
                raise ValueError(f"make_stage got both {name} and {name}{suffix}")
        blocks = []
        for i, before in enumerate([in_channels, *[out_channels] * (num_blocks - 1)]):
            own = {name: values[i] for name, values in each.items()}
            width = {"in_channels": before, "out_channels": out_channels}
            blocks.append(block_class(**width, **common, **own))
        return blocks

    @staticmethod
    def make_default_stages(
        depth: int, block_class: type[CNNBlockBase] | None = None, **kwargs: Any
    ) -> list[list[CNNBlockBase]]:
        """Make the four stages of a standard ResNet.

        Args:
            depth: 18, 34, 50, 101 or 152.
            block_class: by default BasicBlock below 50, else BottleneckBlock.
            **kwargs: further arguments of :meth:`make_stage`, without strides and channels.
        """
        width, block = (None, BasicBlock) if depth < 50 else (64, BottleneckBlock)
        channels = {"in_channels": 64, "res2_channels": 4 * width if width else 64}
        return _make_stages(depth, block_class or block, **channels, res2_width=width, **kwargs)


make_stage = ResNet.make_stage


@BACKBONE_REGISTRY.register()
def build_resnet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> ResNet:
    """Build the ResNet or ResNeXt that ``MODEL.RESNETS`` describes.

    Raises:
        ValueError: a depth or a combination of keys that does not exist.
        ImportError: deformable convolutions, which are outside the embedded subset.
    """
    keys = cfg.MODEL.RESNETS
    if any(keys.DEFORM_ON_PER_STAGE):
        raise ImportError(hint("MODEL.RESNETS.DEFORM_ON_PER_STAGE"))
    if keys.RES5_DILATION not in (1, 2):
        raise ValueError(f"MODEL.RESNETS.RES5_DILATION is {keys.RES5_DILATION}; choose 1 or 2")
    block_class, arguments = BasicBlock, {"norm": keys.NORM}
    if keys.DEPTH >= 50:
        block_class, groups = BottleneckBlock, keys.NUM_GROUPS
        arguments |= {"num_groups": groups, "stride_in_1x1": keys.STRIDE_IN_1X1}
        arguments |= {"res2_width": groups * keys.WIDTH_PER_GROUP}
        arguments |= {"res5_dilation": keys.RES5_DILATION}
    needed = {"RES2_OUT_CHANNELS": 64, "RES5_DILATION": 1, "NUM_GROUPS": 1}
    wrong = [key for key, value in needed.items() if keys.DEPTH < 50 and keys[key] != value]
    if wrong:
        given = f"MODEL.RESNETS.{wrong[0]} is {keys[wrong[0]]}"
        raise ValueError(f"{given}; depth {keys.DEPTH} needs {needed[wrong[0]]}")
    stem = BasicStem(input_shape.channels, keys.STEM_OUT_CHANNELS, keys.NORM)
    channels = {"in_channels": keys.STEM_OUT_CHANNELS, "res2_channels": keys.RES2_OUT_CHANNELS}
    stages = _make_stages(keys.DEPTH, block_class, **channels, **arguments)
    return ResNet(stem, stages, None, keys.OUT_FEATURES, cfg.MODEL.BACKBONE.FREEZE_AT)


def _make_stages(
    depth: int,
    block_class: type[CNNBlockBase],
    *,
    in_channels: int,
    res2_channels: int,
    res2_width: int | None = None,
    res5_dilation: int = 1,
    **kwargs: Any,
) -> list[list[CNNBlockBase]]:
    """Make res2 ... res5: channels, bottleneck width and stride double from each to the next."""
    if depth not in _NUM_BLOCKS:
        raise ValueError(f"no ResNet has depth {depth}; choose from {list(_NUM_BLOCKS)}")
    stages = []
    for i, num_blocks in enumerate(_NUM_BLOCKS[depth]):
        own = {} if res2_width is None else {"bottleneck_channels": res2_width * 2**i}
        first_stride = 1 if i == 0 else 2
        if i == 3 and res5_dilation > 1:
            # DC5: the dilated res5 keeps the resolution of res4.
            own["dilation"], first_stride = res5_dilation, 1
        own["stride_per_block"] = [first_stride] + [1] * (num_blocks - 1)
        width = {"in_channels": in_channels, "out_channels": res2_channels * 2**i}
        stages.append(make_stage(block_class, num_blocks, **width, **own, **kwargs))
        in_channels = width["out_channels"]
    return stages


__getattr__ = module_getattr(__name__)
