"""Parts of a model replaced for its training; names, parameters and an evaluation's numbers stay."""

from __future__ import annotations

from collections import Counter

from maskrcnn_repro.modeling.fast_training.layers import FoldedConv2d, is_foldable
from maskrcnn_repro.modeling.fast_training.rpn import SampledRPN, samples_pay
from maskrcnn_repro.modeling.hooks import is_hooked
from maskrcnn_repro.roi_ops import RoIOpPooler
from maskrcnn_repro.roi_ops.adaptive import AdaptiveRoIAlign, bins_of

from detectron2.modeling.poolers import ROIPooler
from detectron2.structures import Boxes
from torch import Tensor, nn


def quicken(model: nn.Module) -> Counter[str]:
    """Replace, in place, what trains faster with the same gradients up to rounding.

    Frozen batch norm is folded into convolutions, Detectron2's RoIAlign becomes weighted sums, and the RPN learns at the
    cells of its sampled anchors alone. What is not known, and parts with hooks that would not be called, stay as they are.

    Args:
        model: not in DistributedDataParallel.

    Returns:
        Class name of a replacement to the number of them.
    """
    replaced: Counter[str] = Counter()
    for parent in [*model.modules()]:
        if is_foldable(parent):
            parent.__class__ = FoldedConv2d
        elif samples_pay(parent):
            parent.__class__ = SampledRPN
        else:
            for name, child in [*parent.named_children()]:
                if type(child) is ROIPooler and (pooler := _pooler(child)):
                    setattr(parent, name, pooler)
                    replaced[type(pooler).__name__] += 1
            continue
        replaced[type(parent).__name__] += 1
    return replaced


class TrainedPooler(nn.Module):
    """A pooler with a faster one in its place while it trains.

    Args:
        plain: Detectron2's, for evaluation.
        fast: pools alike.
    """

    def __init__(self, plain: ROIPooler, fast: RoIOpPooler) -> None:
        super().__init__()
        self.plain, self.fast = plain, fast

    def forward(self, features: list[Tensor], boxes: list[Boxes]) -> Tensor:
        """Return the pooled RoIs of all images, (R, C, P, P); see ``ROIPooler``."""
        pooled: Tensor = (self.fast if self.training else self.plain)(features, boxes)
        return pooled


def _pooler(plain: ROIPooler) -> TrainedPooler | None:
    """Return what pools as Detectron2's pooler, without hooks, with RoIAlign on levels that are a pyramid, else None."""
    bins = bins_of(plain)
    if bins is None or is_hooked(*plain.modules()):
        return None
    scales = [level.spatial_scale for level in plain.level_poolers]
    fast = RoIOpPooler(
        "RoIAlignAve",
        bins.size,
        scales,
        half_pixel=bins.half_pixel,
        canonical_box_size=plain.canonical_box_size,
        canonical_level=plain.canonical_level,
    )
    fast.level_poolers = nn.ModuleList(AdaptiveRoIAlign(bins, scale) for scale in scales)
    return TrainedPooler(plain, fast)
