"""Whole models: what ``build_model`` can build."""

from detectron2._absent import module_getattr

from .build import META_ARCH_REGISTRY, build_model
from .rcnn import GeneralizedRCNN, ProposalNetwork
from .semantic_seg import SEM_SEG_HEADS_REGISTRY, build_sem_seg_head

__all__ = [
    "META_ARCH_REGISTRY",
    "SEM_SEG_HEADS_REGISTRY",
    "GeneralizedRCNN",
    "ProposalNetwork",
    "build_model",
    "build_sem_seg_head",
]

__getattr__ = module_getattr(__name__)
