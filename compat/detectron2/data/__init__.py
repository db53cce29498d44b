"""Data sets: their registry, their loading, and the way from a record to a model's input."""

from detectron2._absent import module_getattr

from ._dataset_dicts import *
from ._proposals import *
from .build import *
from .catalog import *
from .common import *
from .dataset_mapper import *

# Importing `datasets` registers COCO's splits; it needs the catalogs above.
from . import datasets as datasets, samplers as samplers  # isort: skip

__getattr__ = module_getattr(__name__)
