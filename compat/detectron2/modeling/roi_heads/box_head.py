"""Box heads: a pooled RoI to one feature vector (or map) per RoI.

Letters: R RoIs of the batch, C channels, P side of the pooled RoI in cells.
"""

import math
from collections import OrderedDict
from typing import Any

from fvcore.nn import weight_init
from torch import nn

from detectron2._absent import module_getattr
from detectron2.config import CfgNode, configurable
from detectron2.layers import Conv2d, ShapeSpec
from detectron2.utils.registry import Registry

from ..backbone.resnet import _conv_relu

# Called with the config and the ShapeSpec of a pooled RoI; the head needs an ``output_shape``, too.
ROI_BOX_HEAD_REGISTRY = Registry("ROI_BOX_HEAD")


@ROI_BOX_HEAD_REGISTRY.register()
class FastRCNNConvFCHead(nn.Sequential):
    """Map (R, C, P, P) to (R, width): 3x3 convolutions, fully connected layers, ReLU after each.

    Without a fully connected layer the output is a map (R, C', P, P).

    Two layers of 1024 are the head of FPN's R-CNN (arXiv 1612.03144, sec. 4.2).

    Args:
        input_shape: of a pooled RoI: channels, height and width.
        conv_dims: output channels of each convolution.
        fc_dims: width of each fully connected layer.
        conv_norm: normalisation after each convolution, see ``layers.get_norm``.

    Raises:
        ValueError: there is no layer.
    """

    @configurable
    def __init__(
        self, input_shape: ShapeSpec, *, conv_dims: list[int], fc_dims: list[int], conv_norm=""
    ):
        if not (conv_dims or fc_dims):
            raise ValueError("A box head needs at least one layer: conv_dims and fc_dims are empty")
        shape = (input_shape.channels, input_shape.height, input_shape.width)
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for i, width in enumerate(conv_dims, 1):
            layers[f"conv{i}"] = _conv_relu(shape[0], width, conv_norm)
            shape = (width, *shape[1:])
        if fc_dims:
            layers["flatten"] = nn.Flatten()
        for i, width in enumerate(fc_dims, 1):
            layers[f"fc{i}"] = nn.Linear(math.prod(shape), width)
            layers[f"fc_relu{i}"] = nn.ReLU()
            shape = (width,)
        super().__init__(layers)
        self._shape = shape
        # After all layers exist: their construction draws from the same random numbers.
        for layer in self:
            if isinstance(layer, Conv2d):
                weight_init.c2_msra_fill(layer)
            elif isinstance(layer, nn.Linear):
                weight_init.c2_xavier_fill(layer)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        head = cfg.MODEL.ROI_BOX_HEAD
        widths = {
            "conv_dims": [head.CONV_DIM] * head.NUM_CONV,
            "fc_dims": [head.FC_DIM] * head.NUM_FC,
        }
        return {"input_shape": input_shape, "conv_norm": head.NORM, **widths}

    @property
    def output_shape(self) -> ShapeSpec:
        """Shape per RoI; height and width are None for a vector."""
        return ShapeSpec(*self._shape)


def build_box_head(cfg: CfgNode, input_shape: ShapeSpec) -> nn.Module:
    """Build ``MODEL.ROI_BOX_HEAD.NAME``.

    Raises:
        KeyError: no head of that name is registered.
    """
    return ROI_BOX_HEAD_REGISTRY.get(cfg.MODEL.ROI_BOX_HEAD.NAME)(cfg, input_shape)


__getattr__ = module_getattr(__name__)
