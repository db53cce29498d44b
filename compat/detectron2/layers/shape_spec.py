"""What one part of a model tells the next about a feature map."""

from dataclasses import dataclass

from detectron2._absent import module_getattr

__all__ = ["ShapeSpec"]


@dataclass
class ShapeSpec:
    """Shape of a feature map, as far as it is known before an image is seen."""

    channels: int | None = None
    height: int | None = None
    """In feature cells."""
    width: int | None = None
    stride: int | None = None
    """Pixels of the input image per feature cell."""


__getattr__ = module_getattr(__name__)
