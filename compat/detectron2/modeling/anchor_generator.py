"""Anchors: the boxes that the RPN scores and refines (Faster R-CNN, arXiv 1506.01497, Sec. 3.1.1).

Shapes: L feature maps, Hi x Wi cells of the i-th, A anchors per cell. Boxes are xyxy in pixels of
the network's input; they may reach beyond the image.
"""

from collections.abc import Sequence

import torch
from torch import nn

from detectron2._absent import module_getattr
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.structures import Boxes
from detectron2.utils.registry import Registry

# Called with the config and the ShapeSpec of each feature map.
ANCHOR_GENERATOR_REGISTRY = Registry("ANCHOR_GENERATOR")


class BufferList(nn.Module):
    """Tensors that move with the model and stay out of checkpoints."""

    def __init__(self, buffers: Sequence[torch.Tensor]):
        super().__init__()
        for number, tensor in enumerate(buffers):
            self.register_buffer(str(number), tensor, persistent=False)

    def __len__(self) -> int:
        return len(list(self))

    def __iter__(self):
        return self.buffers()


@ANCHOR_GENERATOR_REGISTRY.register()
class DefaultAnchorGenerator(nn.Module):
    """Anchors of every size and aspect ratio around every cell of every feature map.

    Args:
        sizes: square roots of the anchors' areas in pixels: a list for each feature map, or one
            list for all of them.
        aspect_ratios: heights divided by widths; lists like ``sizes``.
        strides: pixels per cell, one for each feature map.
        offset: where in a cell the anchors are centred, as a fraction of the stride: 0 its corner,
            0.5 its middle.

    Raises:
        ValueError: an empty list, a number of lists that does not fit, or an offset outside [0, 1).
    """

    box_dim = 4

    @configurable
    def __init__(
        self,
        *,
        sizes: Sequence[Sequence[float]] | Sequence[float],
        aspect_ratios: Sequence[Sequence[float]] | Sequence[float],
        strides: Sequence[int],
        offset: float = 0.5,
    ):
        super().__init__()
        if not 0 <= offset < 1:
            raise ValueError(f"anchor offset is {offset}; it must be in [0, 1)")
        self.strides, self.num_features, self.offset = strides, len(strides), float(offset)
        sizes = _one_list_per_feature("sizes", sizes, len(strides))
        ratios = _one_list_per_feature("aspect_ratios", aspect_ratios, len(strides))
        self.cell_anchors = BufferList(list(map(self.generate_cell_anchors, sizes, ratios)))

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: list[ShapeSpec]) -> dict:
        """Read ``MODEL.ANCHOR_GENERATOR``; strides come from the feature maps."""
        keys = cfg.MODEL.ANCHOR_GENERATOR
        parts = {"sizes": keys.SIZES, "aspect_ratios": keys.ASPECT_RATIOS, "offset": keys.OFFSET}
        return parts | {"strides": [shape.stride for shape in input_shape]}

    @property
    @torch.jit.unused
    def num_anchors(self) -> list[int]:
        """A for each feature map."""
        return [len(anchors) for anchors in self.cell_anchors]

    num_cell_anchors = num_anchors

    def generate_cell_anchors(
        self, sizes=(32, 64, 128, 256, 512), aspect_ratios=(0.5, 1, 2)
    ) -> torch.Tensor:
        """Return the anchors around (0, 0), shape (A, 4) float32, ratios varying fastest."""
        size = torch.tensor(sizes, dtype=torch.float64)[:, None]
        ratio = torch.tensor(aspect_ratios, dtype=torch.float64)
        # size^2 = width * height and ratio = height / width.
        width = (size**2 / ratio).sqrt()
        half = torch.stack((width, ratio * width), dim=-1).flatten(0, 1) / 2
        return torch.cat((-half, half), dim=1).float()

    def forward(self, features: list[torch.Tensor]) -> list[Boxes]:
        """Return the anchors of each of L feature maps (..., Hi, Wi).

        Returns:
            L Boxes with Hi * Wi * A rows: by cell, row by row, then by anchor.
        """
        cell_anchors = [anchors for _, anchors in self.cell_anchors.named_buffers()]
        grids: list[Boxes] = []
        # TorchScript, which Detectron2 promises here, knows no zip(strict=...).
        for feature, stride, template in zip(features, self.strides, cell_anchors):  # noqa: B905
            x = self._centers(feature.shape[-1], stride, template)
            y = self._centers(feature.shape[-2], stride, template)
            center = torch.stack((x.repeat(len(y)), y.repeat_interleave(len(x))), dim=1)
            boxes = center.repeat(1, 2)[:, None] + template
            grids.append(Boxes(boxes.reshape(-1, 4)))
        return grids

    def _centers(self, num_cells: int, stride: int, like: torch.Tensor) -> torch.Tensor:
        cells = torch.arange(num_cells, dtype=torch.float32, device=like.device)
        return cells * stride + self.offset * stride


def _one_list_per_feature(name: str, values: Sequence, num_features: int) -> list[Sequence[float]]:
    if not isinstance(values, Sequence) or not len(values):
        raise ValueError(f"anchor {name} must be a list with a value at least, not {values!r}")
    lists = values if isinstance(values[0], Sequence) else [values]
    if len(lists) not in (1, num_features):
        raise ValueError(f"anchor {name} has {len(lists)} lists for {num_features} feature maps")
    return list(lists) * (num_features if len(lists) == 1 else 1)


def build_anchor_generator(cfg: CfgNode, input_shape: list[ShapeSpec]) -> nn.Module:
    """Build what ``MODEL.ANCHOR_GENERATOR.NAME`` names, for these feature maps."""
    return ANCHOR_GENERATOR_REGISTRY.get(cfg.MODEL.ANCHOR_GENERATOR.NAME)(cfg, input_shape)


__getattr__ = module_getattr(__name__)
