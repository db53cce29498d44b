"""Whole models: what ``build_model`` can build."""

# ruff: noqa: F401 (what is imported here is for users to import)

from detectron2._absent import module_getattr

from .build import META_ARCH_REGISTRY, build_model
from .rcnn import GeneralizedRCNN, ProposalNetwork
from .semantic_seg import SEM_SEG_HEADS_REGISTRY, build_sem_seg_head

__getattr__ = module_getattr(__name__)
