"""What every backbone offers: feature maps by name, and their channels and strides."""

from abc import ABCMeta, abstractmethod

import torch
from torch import nn

from detectron2._absent import module_getattr
from detectron2.layers import ShapeSpec


class Backbone(nn.Module, metaclass=ABCMeta):
    """A network from images to named feature maps.

    A subclass either sets ``_out_features`` (names, in output order), ``_out_feature_channels`` and
    ``_out_feature_strides`` (both by name), or overrides :meth:`output_shape`.
    """

    @abstractmethod
    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compute the feature maps of a batch of images.

        Args:
            x: normalized images, shape (N, channels, height, width).

        Returns:
            Name of the feature map -> tensor of shape (N, its channels, height/stride,
            width/stride).
        """

    @property
    def size_divisibility(self) -> int:
        """What height and width of the input must be a multiple of; 0 for no constraint."""
        return 0

    @property
    def padding_constraints(self) -> dict[str, int]:
        """How to pad images: ``size_divisibility``, or ``square_size`` in pixels, or nothing."""
        return {}

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Return channels and stride of every feature map of :meth:`forward`, in the same order."""
        channels, strides = self._out_feature_channels, self._out_feature_strides
        return {f: ShapeSpec(channels=channels[f], stride=strides[f]) for f in self._out_features}


__getattr__ = module_getattr(__name__)
