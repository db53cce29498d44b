"""A narrow ResNet that learns from random weights on a CPU in minutes.

The paper's backbones (Sec. 3.1) start from ImageNet weights and need a GPU. This one has their structure
(stem, residual stages res2, res3, ..., each halving the resolution) with few channels, so that experiments
that compare something else run on a laptop. Depth and ResNeXt follow ``MODEL.RESNETS.DEPTH`` and
``NUM_GROUPS``: 101 has twice, 152 three times the blocks of 50; groups turn the blocks into bottleneck
blocks with grouped 3x3 convolutions.

Shape legend: N images, C channels, H and W pixels of the network's input.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from itertools import pairwise

from maskrcnn_repro.errors import ConfigError

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.layers import CNNBlockBase, Conv2d, ShapeSpec, get_norm
from detectron2.modeling.backbone import BACKBONE_REGISTRY, FPN, ResNet
from detectron2.modeling.backbone.resnet import BasicBlock, BottleneckBlock
from fvcore.nn import weight_init
from torch import nn

SAFE_CHANNELS = 16
"""Strided 1x1 convolutions of fewer channels are stepped before: see :func:`_step_before_narrow_convs`."""


class ConvStem(CNNBlockBase):
    """Stem of one or two 3x3 convolutions of stride 2, or of one 7x7 with the full stride, each with norm, ReLU.

    The 7x7 of stride 4 avoids maps of stride 2: on a CPU, the two layers at stride 2 took a third of the
    time of an iteration with images of 216 px.

    Args:
        in_channels: channels of the image.
        out_channels: channels of every convolution.
        kernel: 3 or 7, side of the convolutions' kernels in cells.
        stride: 2 or 4, in pixels of the network's input.
        norm: name of a Detectron2 norm, such as ``"BN"``.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, kernel: int, stride: int, norm: str
    ) -> None:
        super().__init__(in_channels, out_channels, stride)
        convs = []
        for step in [stride] if kernel == 7 else [2] * (stride.bit_length() - 1):
            convs.append(
                Conv2d(
                    in_channels,
                    out_channels,
                    kernel_size=kernel,
                    stride=step,
                    padding=kernel // 2,
                    bias=not norm,
                    norm=get_norm(norm, out_channels),
                )
            )
            weight_init.c2_msra_fill(convs[-1])
            in_channels = out_channels
        self.convs = nn.ModuleList(convs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) to (N, out_channels, H / stride, W / stride), float."""
        for conv in self.convs:
            x = F.relu_(conv(x))
        return x


def narrow_resnet(
    *,
    in_channels: int,
    num_blocks: Sequence[int],
    channels: Sequence[int],
    stem_stride: int,
    norm: str,
    out_features: Sequence[str],
    stem_kernel: int = 3,
    group_width: int = 0,
) -> ResNet:
    """Build a ResNet of basic blocks, or a ResNeXt of bottleneck blocks.

    Args:
        in_channels: channels of the image.
        num_blocks: residual blocks of res2, res3, ...
        channels: channels of the stem, then of each stage.
        stem_stride: 2 or 4; res2 always has stride 4, each later stage twice its predecessor's.
        norm: name of a Detectron2 norm.
        out_features: stages to return, such as ``["res2", "res3"]``.
        stem_kernel: 3 or 7, of :class:`ConvStem`.
        group_width: of ResNeXt, channels in each group of its 3x3 convolutions; 0: basic blocks.

    Raises:
        ConfigError: the lists do not fit together, the stem's stride or kernel is not allowed, or channels
            cannot be split into groups.
    """
    _check_stem(stem_stride, stem_kernel)
    check_stages(num_blocks, channels, group_width)
    stem = ConvStem(in_channels, channels[0], kernel=stem_kernel, stride=stem_stride, norm=norm)
    stages = []
    for index, (blocks, (ins, outs)) in enumerate(zip(num_blocks, pairwise(channels), strict=True)):
        first_stride = 4 // stem_stride if index == 0 else 2
        # No narrowing inside the bottleneck, as in the first stage of ResNeXt-101-64x4d.
        grouped = {"bottleneck_channels": outs, "num_groups": outs // (group_width or 1)}
        stage = ResNet.make_stage(
            BottleneckBlock if group_width else BasicBlock,
            blocks,
            stride_per_block=[first_stride] + [1] * (blocks - 1),
            in_channels=ins,
            out_channels=outs,
            norm=norm,
            **(grouped if group_width else {}),
        )
        for block in stage:
            _step_before_narrow_convs(block)
        stages.append(stage)
    return ResNet(stem, stages, out_features=list(out_features))


def _step_before_narrow_convs(block: nn.Module) -> None:
    """Let 1x1 convolutions of few channels leave out rows and columns before they multiply, not by a stride.

    The numbers are the same. PyTorch 2.14's backward of such a convolution, with a stride, in channels-last
    memory and on a map of 64 x 64 cells or more, writes outside of its memory on some CPUs.
    """
    for conv in block.modules():
        if not isinstance(conv, nn.Conv2d) or conv.kernel_size != (1, 1):
            continue
        if conv.in_channels < SAFE_CHANNELS and conv.stride != (1, 1):
            conv.register_forward_pre_hook(functools.partial(_skip_cells, conv.stride))
            conv.stride = (1, 1)


def _skip_cells(
    stride: tuple[int, ...], conv: nn.Module, inputs: tuple[torch.Tensor]
) -> torch.Tensor:
    return inputs[0][:, :, :: stride[0], :: stride[1]]


def _check_stem(stride: int, kernel: int) -> None:
    if stride not in (2, 4):
        raise ConfigError(f"MODEL.NARROW_RESNET.STEM_STRIDE is {stride}; it must be 2 or 4.")
    if kernel not in (3, 7):
        raise ConfigError(f"MODEL.NARROW_RESNET.STEM_KERNEL is {kernel}; it must be 3 or 7.")


def check_stages(num_blocks: Sequence[int], channels: Sequence[int], group_width: int) -> None:
    """Raise ConfigError if the stages of a :func:`narrow_resnet` do not fit together."""
    if len(channels) != len(num_blocks) + 1:
        raise ConfigError(
            f"MODEL.NARROW_RESNET.CHANNELS has {len(channels)} entries, but NUM_BLOCKS has "
            f"{len(num_blocks)} stages: give the stem's channels, then one entry for each stage."
        )
    # Detectron2's basic block has a shortcut convolution, which also strides, only if channels change.
    if any(a == b for a, b in pairwise(channels)):
        raise ConfigError(
            f"MODEL.NARROW_RESNET.CHANNELS is {list(channels)}: neighbours must differ."
        )
    if group_width and any(count % group_width for count in channels[1:]):
        raise ConfigError(
            f"MODEL.NARROW_RESNET.CHANNELS is {list(channels)}: all but the stem's must be multiples of "
            f"MODEL.RESNETS.WIDTH_PER_GROUP {group_width}."
        )


def group_width(cfg: CfgNode) -> int:
    """Return the channels of each group of a ResNeXt's 3x3 convolutions; 0 for basic blocks."""
    keys = cfg.MODEL.RESNETS
    return int(keys.WIDTH_PER_GROUP) if keys.NUM_GROUPS > 1 else 0


@BACKBONE_REGISTRY.register()
def build_narrow_resnet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> ResNet:
    """Build :func:`narrow_resnet` from ``MODEL.NARROW_RESNET`` and ``MODEL.RESNETS``."""
    narrow, full = cfg.MODEL.NARROW_RESNET, cfg.MODEL.RESNETS
    times = max(1, round(full.DEPTH / 50))  # 101: 2, 152: 3
    return narrow_resnet(
        in_channels=input_shape.channels,
        num_blocks=[times * blocks for blocks in narrow.NUM_BLOCKS],
        channels=narrow.CHANNELS,
        stem_stride=narrow.STEM_STRIDE,
        norm=full.NORM,
        out_features=full.OUT_FEATURES,
        stem_kernel=narrow.STEM_KERNEL,
        group_width=group_width(cfg),
    )


@BACKBONE_REGISTRY.register()
def build_narrow_resnet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Build an FPN on :func:`narrow_resnet`."""
    # No `top_block` for a coarser level: the small images have no objects that large.
    return FPN(
        bottom_up=build_narrow_resnet_backbone(cfg, input_shape),
        in_features=cfg.MODEL.FPN.IN_FEATURES,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )
