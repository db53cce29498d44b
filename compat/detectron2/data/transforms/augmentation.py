"""Augmentations: objects that look at an image (and more) and choose a transform for it.

H, W = height and width of the image, C = channels, N = boxes.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass

import numpy as np
from fvcore.transforms.transform import Transform, TransformList

from detectron2._absent import module_getattr

__all__ = ["AugInput", "Augmentation", "AugmentationList", "apply_augmentations"]

_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Augmentation:
    """A policy that turns inputs into a `Transform`, mostly at random.

    A subclass defines `get_transform`. The names of its arguments say what it wants to see:
    attributes of the `AugInput` it will be called on. The usual ones are

    - `image`: (H, W) or (H, W, C), uint8 in [0, 255] or floating point;
    - `boxes`: (N, 4) float32, xyxy in absolute pixels;
    - `sem_seg`: (H, W) uint8, a label per pixel.

    A single argument is always the image, whatever its name.

    Attributes:
        input_args: names of these attributes; filled in at the first call if None.
    """

    input_args: tuple[str, ...] | None = None

    def _init(self, params: dict | None = None) -> None:
        """Keep constructor arguments as attributes: `self._init(locals())`, for old subclasses."""
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
            self.input_args = _argument_names(self.get_transform)
        transform = self.get_transform(*(getattr(aug_input, name) for name in self.input_args))
        if not isinstance(transform, Transform):
            raise TypeError(f"{type(self).__name__}.get_transform returned {transform!r}")
        aug_input.transform(transform)
        return transform

    def _rand_range(self, low=1.0, high=None, size=None):
        """Draw uniformly from [low, high), or from [0, low) when `high` is not given."""
        return np.random.uniform(*((0, low) if high is None else (low, high)), size)

    def __repr__(self) -> str:
        """Show the constructor call, arguments at their defaults left out."""
        shown = []
        for name, parameter in inspect.signature(self.__init__).parameters.items():
            if parameter.kind in _VARIADIC or not hasattr(self, name):
                return object.__repr__(self)
            if (value := getattr(self, name)) is not parameter.default:
                shown.append(f"{name}={value!r}")
        return f"{type(self).__name__}({', '.join(shown)})"


def _argument_names(get_transform: Callable[..., Transform]) -> tuple[str, ...]:
    parameters = inspect.signature(get_transform).parameters
    if len(parameters) == 1:
        return ("image",)
    if any(parameter.kind in _VARIADIC for parameter in parameters.values()):
        raise TypeError(f"{get_transform.__qualname__} has *args: name its inputs in input_args")
    return tuple(parameters)


class _Always(Augmentation):
    """A fixed transform in the place of an augmentation."""

    # Nothing is looked at, so an input needs no more than `transform`.
    input_args = ()

    def __init__(self, tfm: Transform):
        self.tfm = tfm

    def get_transform(self, *args) -> Transform:
        return self.tfm

    def __repr__(self) -> str:
        return str(self.tfm)


def _as_augmentation(given: Transform | Augmentation) -> Augmentation:
    assert isinstance(given, Transform | Augmentation), f"no Transform or Augmentation: {given!r}"
    return _Always(given) if isinstance(given, Transform) else given


class AugmentationList(Augmentation):
    """Augmentations in sequence; each sees what those before it made of the input.

    There is no `get_transform`: only the first one's inputs are known before one is applied.
    """

    def __init__(self, augs: Sequence[Augmentation | Transform]):
        self.augs = [_as_augmentation(aug) for aug in augs]

    def __call__(self, aug_input: "AugInput") -> TransformList:
        return TransformList([aug(aug_input) for aug in self.augs])

    def __repr__(self) -> str:
        return f"AugmentationList[{', '.join(map(str, self.augs))}]"


_APPLIED_BY = {"image": "apply_image", "boxes": "apply_box", "sem_seg": "apply_segmentation"}


@dataclass(repr=False, eq=False)
class AugInput:
    """What augmentations look at and change: an image, and perhaps its boxes and label map.

    Anything with the attributes that an augmentation asks for and with a method `transform` can
    take its place.

    Attributes:
        image: (H, W) or (H, W, C), uint8 in [0, 255] or floating point.
        boxes: (N, 4) float32, xyxy in absolute pixels; or None.
        sem_seg: (H, W) uint8, a label per pixel; or None.

    Raises:
        ValueError: `image` is no array of two or three dimensions.
    """

    image: np.ndarray
    _: KW_ONLY
    boxes: np.ndarray | None = None
    sem_seg: np.ndarray | None = None

    def __post_init__(self):
        if getattr(self.image, "ndim", None) not in (2, 3):
            shape = getattr(self.image, "shape", type(self.image))
            raise ValueError(f"an image is an array of shape (H, W) or (H, W, C), got {shape}")

    def transform(self, tfm: Transform) -> None:
        """Replace all that is held by its transformed version."""
        for name, method in _APPLIED_BY.items():
            if (value := getattr(self, name)) is not None:
                setattr(self, name, getattr(tfm, method)(value))

    def apply_augmentations(
        self, augmentations: Sequence[Augmentation | Transform]
    ) -> TransformList:
        """Apply them in sequence to this input, in place."""
        sequence = AugmentationList(augmentations)
        return sequence(self)


def apply_augmentations(
    augmentations: Sequence[Augmentation | Transform], inputs: np.ndarray | AugInput
) -> tuple[np.ndarray | AugInput, TransformList]:
    """Apply augmentations to an image, or to an `AugInput` in place.

    Returns:
        What was given, transformed, and the transforms that were chosen.
    """
    seen = AugInput(inputs) if isinstance(inputs, np.ndarray) else inputs
    transforms = seen.apply_augmentations(augmentations)
    return (inputs if seen is inputs else seen.image), transforms


__getattr__ = module_getattr(__name__)
