"""Transforms (what is done to an image and its annotations) and augmentations (which one, at random).

A `Transform` is deterministic and comes mostly from fvcore; an `Augmentation` looks at the image, draws random
numbers from NumPy's global generator and returns a `Transform`.
"""

from fvcore.transforms.transform import (
    BlendTransform,
    CropTransform,
    GridSampleTransform,
    HFlipTransform,
    NoOpTransform,
    PadTransform,
    ScaleTransform,
    Transform,
    TransformList,
    VFlipTransform,
)

from detectron2._absent import module_getattr

from .augmentation import (
    AugInput,
    Augmentation,
    AugmentationList,
    StandardAugInput,
    TransformGen,
    apply_augmentations,
    apply_transform_gens,
)
from .augmentation_impl import (
    FixedSizeCrop,
    MinIoURandomCrop,
    RandomApply,
    RandomBrightness,
    RandomContrast,
    RandomCrop,
    RandomCrop_CategoryAreaConstraint,
    RandomExtent,
    RandomFlip,
    RandomLighting,
    RandomResize,
    RandomRotation,
    RandomSaturation,
    Resize,
    ResizeScale,
    ResizeShortestEdge,
)
from .transform import (
    ColorTransform,
    ExtentTransform,
    PILColorTransform,
    ResizeTransform,
    RotationTransform,
)

__all__ = [
    "AugInput",
    "Augmentation",
    "AugmentationList",
    "BlendTransform",
    "ColorTransform",
    "CropTransform",
    "ExtentTransform",
    "FixedSizeCrop",
    "GridSampleTransform",
    "HFlipTransform",
    "MinIoURandomCrop",
    "NoOpTransform",
    "PILColorTransform",
    "PadTransform",
    "RandomApply",
    "RandomBrightness",
    "RandomContrast",
    "RandomCrop",
    "RandomCrop_CategoryAreaConstraint",
    "RandomExtent",
    "RandomFlip",
    "RandomLighting",
    "RandomResize",
    "RandomRotation",
    "RandomSaturation",
    "Resize",
    "ResizeScale",
    "ResizeShortestEdge",
    "ResizeTransform",
    "RotationTransform",
    "ScaleTransform",
    "StandardAugInput",
    "Transform",
    "TransformGen",
    "TransformList",
    "VFlipTransform",
    "apply_augmentations",
    "apply_transform_gens",
]

__getattr__ = module_getattr(__name__)
