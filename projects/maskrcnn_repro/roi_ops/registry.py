"""The registry of RoI operations, and the function that builds an operation by its name."""

from __future__ import annotations

from typing import Any

from maskrcnn_repro.errors import ConfigError, did_you_mean

from detectron2.utils.registry import Registry
from torch import nn

ROI_OP_REGISTRY: Any = Registry("ROI_OP")
ROI_OP_REGISTRY.__doc__ = """
RoI operations by the value of MODEL.ROI_OP.NAME or of a head's ROI_OP. Each is an ``nn.Module`` built with the
keyword arguments
``(output_size: tuple[int, int], spatial_scale: float, samples: int, half_pixel: bool)`` and called as
``operation(features, rois)``: see :class:`maskrcnn_repro.roi_ops.RoIOperation`.
"""


def build_roi_op(
    name: str,
    output_size: tuple[int, int],
    spatial_scale: float,
    *,
    samples: int = 2,
    half_pixel: bool = False,
) -> nn.Module:
    """Build a registered RoI operation.

    Args:
        name: as registered, such as "RoIAlignAve".
        output_size: rows and columns of the output, cells.
        spatial_scale: feature cells per pixel of the network's input, such as 1/16.
        samples: per side of an output cell; the paper's four points are 2.
        half_pixel: subtract half a feature cell from coordinates.

    Raises:
        ConfigError: there is no such operation, or it refuses a value.
    """
    names = sorted(registered for registered, _ in ROI_OP_REGISTRY)
    if name not in names:
        raise ConfigError(
            f"RoI operation {name!r} (MODEL.ROI_OP.NAME, or ROI_OP of a head) does not exist."
            f"{did_you_mean(name, names)} Registered: {', '.join(names)}."
        )
    return ROI_OP_REGISTRY.get(name)(
        output_size=output_size, spatial_scale=spatial_scale, samples=samples, half_pixel=half_pixel
    )
