"""Proposal generators by name."""

from torch import nn

from detectron2._absent import module_getattr
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.utils.registry import Registry

# Called with the config and the ShapeSpec of each feature map, by its name.
PROPOSAL_GENERATOR_REGISTRY = Registry("PROPOSAL_GENERATOR")


def build_proposal_generator(cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> nn.Module | None:
    """Build what ``MODEL.PROPOSAL_GENERATOR.NAME`` names.

    Returns:
        The module, or None for ``PrecomputedProposals``: proposals then come with the data.
    """
    kind = cfg.MODEL.PROPOSAL_GENERATOR.NAME
    precomputed = kind == "PrecomputedProposals"
    return None if precomputed else PROPOSAL_GENERATOR_REGISTRY.get(kind)(cfg, input_shape)


__getattr__ = module_getattr(__name__)
