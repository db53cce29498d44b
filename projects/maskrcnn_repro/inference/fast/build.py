"""A trained model whose parts are replaced by faster ones that answer alike.

What is replaced: residual networks and feature pyramids of Detectron2 and of ours, the region proposal network, poolers
with RoIAlign, and the heads of boxes, masks and keypoints. Any other part, everything of a plug-in, and a part with a hook
that would not be called, or be called with other numbers, stays as it is.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable
from typing import Any

from maskrcnn_repro.inference.fast.backbone import FusedBlock, FusedPyramid, FusedStem
from maskrcnn_repro.inference.fast.fold import fold_norm, is_foldable
from maskrcnn_repro.inference.fast.heads import CellOrder, FastMaskHead, FastOutputLayers
from maskrcnn_repro.inference.fast.layers import FusedConv, FusedLinear, has_fused_operators
from maskrcnn_repro.inference.fast.pooling import FastPooler
from maskrcnn_repro.inference.fast.proposals import FastRPN
from maskrcnn_repro.inference.fast.winograd import WinogradConv, is_worthwhile
from maskrcnn_repro.modeling.hooks import is_hooked
from maskrcnn_repro.modeling.mask_head import FCNMaskHead
from maskrcnn_repro.modeling.mask_head.losses import sigmoid_masks
from maskrcnn_repro.modeling.meta_arch import PRECISIONS, MaskRCNN, out_in_float32
from maskrcnn_repro.modeling.narrow_resnet import ConvStem
from maskrcnn_repro.roi_ops import RoIOpPooler
from maskrcnn_repro.roi_ops.adaptive import bins_of

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.layers import Conv2d
from detectron2.modeling.backbone import FPN
from detectron2.modeling.backbone.resnet import BasicBlock, BasicStem, BottleneckBlock
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.proposal_generator import RPN, StandardRPNHead
from detectron2.modeling.roi_heads import (
    FastRCNNConvFCHead,
    FastRCNNOutputLayers,
    MaskRCNNConvUpsampleHead,
    Res5ROIHeads,
    ROIHeads,
    StandardROIHeads,
)
from torch import nn

OURS = ("detectron2", "maskrcnn_repro", "torch")
"""Packages whose modules may have their parts replaced."""


DTYPES = ("float32", "bfloat16")
"""Values of ``MODEL.INFERENCE.PRECISION`` that are computed fast."""


def accelerate(model: nn.Module, cfg: CfgNode) -> str:
    """Replace the parts of a model in evaluation mode by faster ones, and return how it computes from now on.

    Returns:
        ``fused`` (by oneDNN's operators) or ``folded`` (where torch lacks them), and the precision; empty if nothing was
        changed: on a GPU, and in other precisions than those of :data:`DTYPES`.

    Args:
        model: a :class:`~maskrcnn_repro.modeling.meta_arch.MaskRCNN`, changed in place. What is not known stays as it is.
        cfg: its config.
    """
    precision = cfg.MODEL.INFERENCE.PRECISION
    if cfg.MODEL.DEVICE != "cpu" or precision not in DTYPES or not isinstance(model, MaskRCNN):
        return ""
    fused = has_fused_operators(PRECISIONS[precision])
    sums = cfg.MODEL.FPN.FUSE_TYPE == "sum"
    accelerator = Accelerator(PRECISIONS[precision], sums_levels=sums, fused=fused)
    # Part by part: the architecture may be a plug-in's.
    for name, part in [*model.named_children()]:
        setattr(model, name, accelerator.replace(part))
    return f"{'fused' if fused else 'folded'} {precision}"


class Accelerator:
    """Replaces the parts of a model in evaluation mode; its parts are used up.

    Args:
        dtype: float32 or bfloat16, that convolutions and matrix products compute in.
        sums_levels: a feature pyramid adds its levels (``MODEL.FPN.FUSE_TYPE sum``).
        fused: see :class:`FusedConv`.
    """

    def __init__(self, dtype: torch.dtype, *, sums_levels: bool = True, fused: bool) -> None:
        self.dtype, self.sums_levels, self.fused = dtype, sums_levels, fused
        self.replaced: Counter[str] = Counter()
        """Class name of a replaced part to their number."""
        # Tiles of 4 x 4 cells do not fit the small maps of RoIs: a third more is computed, and nothing gained.
        self._on_rois = False
        self._makers: dict[type, Callable[[Any], nn.Module | None]] = {
            BasicBlock: self.block,
            BottleneckBlock: self.block,
            BasicStem: self.stem,
            ConvStem: self.stem,
            FPN: self.pyramid,
            RPN: self.rpn,
            ROIPooler: self.pooler,
            RoIOpPooler: self.pooler,
            FastRCNNOutputLayers: self.output_layers,
            MaskRCNNConvUpsampleHead: self.mask_head,
            FCNMaskHead: self.mask_head,
            Conv2d: self.convolution,
            nn.Conv2d: self.convolution,
        }

    def replace(self, module: nn.Module) -> nn.Module:
        """Return what answers like a module, faster; or the module itself, its children replaced in place."""
        if type(module).__module__.partition(".")[0] not in OURS:
            return module
        maker = self._makers.get(type(module))
        fast = None if maker is None else maker(module)
        if fast is not None:
            self.replaced[type(module).__name__] += 1
            return fast.eval()
        self._on_rois |= isinstance(module, ROIHeads)
        if isinstance(module, Res5ROIHeads):
            _pool_what_is_read(module)
        if isinstance(module, StandardROIHeads) and _has_plain_box_head(module):
            module.box_head = self.box_head(
                module.box_head, math.prod(module.box_pooler.output_size)
            )
        for name, child in [*module.named_children()]:
            setattr(module, name, self.replace(child))
        if isinstance(module, nn.Sequential):
            _overwrite_inputs(module)
        self._on_rois &= not isinstance(module, ROIHeads)
        return module

    def fuse(self, conv: nn.Module, relu: bool = False) -> FusedConv | WinogradConv:
        """Return a convolution with its batch norm, and ReLU where asked for; see :func:`_can_fuse`."""
        assert isinstance(conv, nn.Conv2d)
        norm = getattr(conv, "norm", None)
        wanted = self.fused and self.dtype is torch.float32 and not self._on_rois
        if wanted and is_worthwhile(conv) and not conv._forward_pre_hooks:
            return WinogradConv(*fold_norm(conv, norm), relu=relu)
        window = {name: getattr(conv, name) for name in ("stride", "padding", "dilation", "groups")}
        weights = fold_norm(conv, norm)
        fused = FusedConv(*weights, **window, relu=relu, dtype=self.dtype, fused=self.fused)
        # Narrow networks leave out cells before a convolution.
        for hook in conv._forward_pre_hooks.values():
            fused.register_forward_pre_hook(hook)
        return fused

    def linear(self, weight: torch.Tensor, bias: torch.Tensor, **options: Any) -> FusedLinear:
        """Return a linear layer of these weights."""
        weight, bias = weight.detach().float(), bias.detach().float()
        return FusedLinear(weight, bias, dtype=self.dtype, fused=self.fused, **options)

    def convolution(self, conv: nn.Conv2d) -> nn.Module | None:
        """Return one convolution with norm and activation."""
        if not _can_fuse(conv):
            return None
        return self.fuse(conv, relu=getattr(conv, "activation", None) is not None)

    def block(self, block: nn.Module) -> nn.Module | None:
        """Return a residual block."""
        if is_hooked(block) or not all(_can_fuse(conv) for conv in block.children()):
            return None
        return FusedBlock(block, self.fuse, owns_input=False)

    def stem(self, stem: BasicStem | ConvStem) -> nn.Module | None:
        """Return what comes before the first stage."""
        pools = isinstance(stem, BasicStem)
        convs = [stem.conv1] if isinstance(stem, BasicStem) else [*stem.convs]
        if is_hooked(stem) or not all(map(_can_fuse, convs)):
            return None
        return FusedStem(convs, self.fuse, pools=pools)

    def pyramid(self, pyramid: FPN) -> nn.Module | None:
        """Return a feature pyramid."""
        convs = [*pyramid.lateral_convs, *pyramid.output_convs]
        if is_hooked(pyramid) or not self.sums_levels or not all(map(_can_fuse, convs)):
            return None
        fast = FusedPyramid(pyramid, self.fuse)
        fast.bottom_up = self.replace(fast.bottom_up)
        if fast.top_block is not None:
            fast.top_block = self.replace(fast.top_block)
        return fast

    def rpn(self, rpn: RPN) -> nn.Module | None:
        """Return a region proposal network."""
        head = rpn.rpn_head
        if type(head) is not StandardRPNHead or rpn.anchor_generator.box_dim != 4:
            return None
        layers = (head.objectness_logits, head.anchor_deltas)
        if is_hooked(rpn, rpn.anchor_generator, head, *layers):
            return None
        weight, bias = (
            torch.cat(parts)
            for parts in zip(*(fold_norm(layer, None) for layer in layers), strict=True)
        )
        outputs = FusedConv(weight, bias, dtype=self.dtype, fused=self.fused)
        return FastRPN(rpn, self.replace(head.conv), outputs)

    def pooler(self, pooler: ROIPooler | RoIOpPooler) -> nn.Module | None:
        """Return a pooler."""
        bins, levels = bins_of(pooler), [*pooler.level_poolers]
        if bins is None or is_hooked(*pooler.modules()):
            return None
        last = pooler.min_level + len(levels) - 1
        scales = [level.spatial_scale for level in levels]
        return FastPooler(pooler, bins, scales, (pooler.min_level, last))

    def box_head(self, head: FastRCNNConvFCHead, cells: int) -> nn.Module:
        """Return a box head: convolutions, then linear layers with ReLU.

        Args:
            head: Detectron2's.
            cells: of a pooled RoI.
        """
        layers, flattened = nn.Sequential(), False
        for layer in head.children():
            if isinstance(layer, nn.Flatten):
                layers.append(CellOrder())
                flattened = True
            elif isinstance(layer, nn.Linear):
                weight = layer.weight
                if flattened:
                    weight = weight.unflatten(1, (-1, cells)).transpose(1, 2).flatten(1)
                    flattened = False
                layers.append(self.linear(weight, layer.bias, relu=True))
            elif isinstance(layer, nn.Conv2d):
                layers.append(self.replace(layer))
        self.replaced[type(head).__name__] += 1
        return layers

    def output_layers(self, layers: FastRCNNOutputLayers) -> nn.Module | None:
        """Return the layers of class scores and boxes."""
        parts = (layers.cls_score, layers.bbox_pred)
        # The fast layers return float32 themselves.
        if is_hooked(layers, *parts, besides=[out_in_float32]):
            return None
        weight = torch.cat([part.weight for part in parts])
        bias = torch.cat([part.bias for part in parts])
        return FastOutputLayers(layers, self.linear(weight, bias))

    def mask_head(self, head: MaskRCNNConvUpsampleHead | FCNMaskHead) -> nn.Module | None:
        """Return a mask head."""
        # In the order of the head: by name mask_fcn10 would come before mask_fcn2.
        convs = [layer for name, layer in head.named_children() if name.startswith("mask_fcn")]
        others = [layer for layer in head.children() if layer not in convs]
        deconv, decode = head.deconv, None
        if deconv.kernel_size != (2, 2) or deconv.stride != (2, 2) or is_hooked(head, *others):
            return None
        if isinstance(head, FCNMaskHead) and head.loss.masks is not sigmoid_masks:
            decode = head.loss.masks
        # (C, C', 2, 2) to (2 * 2 * C', C).
        weight = deconv.weight.permute(2, 3, 1, 0).flatten(0, 2)
        rows = 100 * 14 * 14
        linear = self.linear(weight, deconv.bias.repeat(4), relu=True, rows=rows)
        return FastMaskHead(
            nn.Sequential(*map(self.replace, convs)), linear, head.predictor, decode
        )


def _has_plain_box_head(heads: StandardROIHeads) -> bool:
    """Tell whether there is one box head, Detectron2's, whose linear layers nobody looks at."""
    head = heads.box_head
    if type(head) is not FastRCNNConvFCHead:
        return False
    return not is_hooked(head, *(part for part in head.children() if not isinstance(part, Conv2d)))


def _can_fuse(conv: nn.Module) -> bool:
    """Tell whether a layer is a convolution with at most batch norm and ReLU, and no hook behind it."""
    if type(conv) not in (Conv2d, nn.Conv2d):
        return False
    if is_hooked(conv, *conv.children(), besides=conv._forward_pre_hooks.values()):
        return False
    activation = getattr(conv, "activation", None)
    plain = activation in (None, F.relu, F.relu_) or isinstance(activation, nn.ReLU)
    zeros = conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
    return plain and zeros and is_foldable(getattr(conv, "norm", None))


def _pool_what_is_read(heads: Res5ROIHeads) -> None:
    """Let a C4 head pool only the cells that res5 reads: all of its inputs go through 1x1 convolutions with a stride."""
    block = heads.res5[0]
    if type(block) is not BottleneckBlock or bins_of(heads.pooler) is None:
        return
    convs = [block.conv1, block.shortcut]
    if is_hooked(*heads.pooler.modules(), block, *filter(None, convs)):
        return
    if all(conv and conv.kernel_size == (1, 1) and conv.stride == (2, 2) for conv in convs):
        heads.pooler.step = 2
        for conv in convs:
            conv.stride = (1, 1)


def _overwrite_inputs(stage: nn.Sequential) -> None:
    """Let blocks of a stage overwrite their input, the output of a fused block before, which only they read."""
    for before, block in itertools.pairwise(stage.children()):
        if isinstance(before, FusedBlock) and isinstance(block, FusedBlock):
            block.owns_input = True
