"""Transforms: what is done to an image and its annotations; augmentations: which, at random.

A `Transform` is deterministic and comes mostly from fvcore; an `Augmentation` looks at the image,
draws random numbers from NumPy's global generator and returns a `Transform`.
"""

# The one list of each module's public names is its own `__all__`.
from fvcore.transforms.transform import *

from detectron2._absent import module_getattr

from .augmentation import *
from .augmentation_impl import *
from .transform import *

# Names of older releases of Detectron2 that projects still use.
TransformGen, apply_transform_gens = Augmentation, apply_augmentations

__getattr__ = module_getattr(__name__)
