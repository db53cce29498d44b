"""Augmentations: objects that look at an image (and more) and choose a transform for it.

H, W = height and width of the image, C = channels, N = boxes.
"""

import inspect
import pprint
from collections.abc import Sequence

import numpy as np
from fvcore.transforms.transform import Transform, TransformList

from detectron2._absent import module_getattr

__all__ = [
    "AugInput",
    "Augmentation",
    "AugmentationList",
    "StandardAugInput",
    "TransformGen",
    "apply_augmentations",
    "apply_transform_gens",
]

_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Augmentation:
    """A policy that turns inputs into a `Transform`, mostly at random.

    A subclass defines `get_transform`. The names of its arguments say what it wants to see: attributes of the
    `AugInput` it will be called on. The usual ones are

    - `image`: (H, W) or (H, W, C), uint8 in [0, 255] or floating point;
    - `boxes`: (N, 4) float32, xyxy in absolute pixels;
    - `sem_seg`: (H, W) uint8, a label per pixel.

    A single argument is always the image, whatever its name.

    Attributes:
        input_args: names of these attributes; filled in at the first call if None.
    """

    input_args: tuple[str, ...] | None = None

    def _init(self, params: dict | None = None) -> None:
        """Keep constructor arguments as attributes: `self._init(locals())`, for subclasses elsewhere."""
        for name, value in (params or {}).items():
            if name != "self" and not name.startswith("_"):
                setattr(self, name, value)

    def get_transform(self, *args) -> Transform:
        """Choose the transform for these inputs, without applying it."""
        raise NotImplementedError(f"{type(self).__name__} does not define get_transform")

    def __call__(self, aug_input: "AugInput") -> Transform:
        """Choose a transform, apply it to `aug_input` in place and return it.

        Raises:
            AttributeError: `aug_input` lacks something that `get_transform` asks for.
            TypeError: `get_transform` has variable arguments, or returned no `Transform`.
        """
        if self.input_args is None:
            self.input_args = _argument_names(self)
        transform = self.get_transform(*_pick(self, aug_input))
        if not isinstance(transform, Transform):
            raise TypeError(
                f"{type(self).__name__}.get_transform must return a Transform, got {transform!r}"
            )
        aug_input.transform(transform)
        return transform

    def _rand_range(self, low=1.0, high=None, size=None):
        """Draw uniformly from [low, high), or from [0, low) when `high` is not given."""
        bounds = (0, low) if high is None else (low, high)
        return np.random.uniform(*bounds, [] if size is None else size)

    def __repr__(self) -> str:
        """Show the constructor call, arguments at their defaults left out."""
        shown = []
        for name, parameter in inspect.signature(self.__init__).parameters.items():
            if parameter.kind in _VARIADIC or not hasattr(self, name):
                return super().__repr__()
            value = getattr(self, name)
            if value is not parameter.default:
                text = pprint.pformat(value)
                shown.append(f"{name}={'...' if chr(10) in text else text}")
        return f"{type(self).__name__}({', '.join(shown)})"


def _argument_names(aug: Augmentation) -> tuple[str, ...]:
    parameters = inspect.signature(aug.get_transform).parameters
    if len(parameters) == 1:
        return ("image",)
    if any(parameter.kind in _VARIADIC for parameter in parameters.values()):
        raise TypeError(
            f"{type(aug).__name__}.get_transform takes *args or **kwargs, so its inputs are unknown; "
            "name them in input_args or define __call__"
        )
    return tuple(parameters)


def _pick(aug: Augmentation, aug_input: "AugInput") -> list:
    for name in aug.input_args:
        if not hasattr(aug_input, name):
            raise AttributeError(
                f"{type(aug).__name__}.get_transform needs {name!r}, "
                f"which {type(aug_input).__name__} does not have"
            )
    return [getattr(aug_input, name) for name in aug.input_args]


class _TransformToAug(Augmentation):
    """The policy that always chooses the same transform."""

    # Nothing is looked at, so an input needs no more than `transform`.
    input_args = ()

    def __init__(self, tfm: Transform):
        self.tfm = tfm

    def get_transform(self, *args) -> Transform:
        return self.tfm

    def __repr__(self) -> str:
        return repr(self.tfm)


def _transform_to_aug(tfm_or_aug: Transform | Augmentation) -> Augmentation:
    if isinstance(tfm_or_aug, Augmentation):
        return tfm_or_aug
    assert isinstance(tfm_or_aug, Transform), f"not a Transform or Augmentation: {tfm_or_aug!r}"
    return _TransformToAug(tfm_or_aug)


class AugmentationList(Augmentation):
    """Augmentations in sequence; each sees what those before it made of the input.

    There is no `get_transform`, because only the first one's inputs are known before anything is applied.
    """

    def __init__(self, augs: Sequence[Augmentation | Transform]):
        self.augs = [_transform_to_aug(aug) for aug in augs]

    def __call__(self, aug_input: "AugInput") -> TransformList:
        return TransformList([aug(aug_input) for aug in self.augs])

    def __repr__(self) -> str:
        return f"AugmentationList[{', '.join(map(str, self.augs))}]"


_APPLIED_BY = {"image": "apply_image", "boxes": "apply_box", "sem_seg": "apply_segmentation"}


class AugInput:
    """What augmentations look at and change: an image, and perhaps its boxes and label map.

    Anything with the attributes that an augmentation asks for and with a method `transform` can take its place.
    """

    def __init__(
        self,
        image: np.ndarray,
        *,
        boxes: np.ndarray | None = None,
        sem_seg: np.ndarray | None = None,
    ):
        """Initialize.

        Args:
            image: (H, W) or (H, W, C), uint8 in [0, 255] or floating point.
            boxes: (N, 4) float32, xyxy in absolute pixels.
            sem_seg: (H, W) uint8, a label per pixel.

        Raises:
            TypeError: `image` is no array.
            ValueError: `image` has neither two nor three dimensions.
        """
        if not isinstance(image, np.ndarray):
            raise TypeError(f"an image to augment must be a NumPy array, got {type(image)}")
        if image.ndim not in (2, 3):
            raise ValueError(
                f"an image must be (H, W) or (H, W, C) to be augmented, got {image.shape}"
            )
        self.image, self.boxes, self.sem_seg = image, boxes, sem_seg

    def transform(self, tfm: Transform) -> None:
        """Replace all that is held by its transformed version."""
        for name, method in _APPLIED_BY.items():
            if (value := getattr(self, name)) is not None:
                setattr(self, name, getattr(tfm, method)(value))

    def apply_augmentations(
        self, augmentations: Sequence[Augmentation | Transform]
    ) -> TransformList:
        """Apply them in sequence to this input, in place."""
        return AugmentationList(augmentations)(self)


def apply_augmentations(
    augmentations: Sequence[Augmentation | Transform], inputs: np.ndarray | AugInput
) -> tuple[np.ndarray | AugInput, TransformList]:
    """Apply augmentations to an image, or to an `AugInput` in place.

    Returns:
        What was given, transformed, and the transforms that were chosen.
    """
    if isinstance(inputs, np.ndarray):
        wrapped = AugInput(inputs)
        transforms = wrapped.apply_augmentations(augmentations)
        return wrapped.image, transforms
    return inputs, inputs.apply_augmentations(augmentations)


# Names of older releases of Detectron2 that projects still use.
TransformGen = Augmentation
StandardAugInput = AugInput
apply_transform_gens = apply_augmentations

__getattr__ = module_getattr(__name__)
