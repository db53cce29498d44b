"""Networks that propose boxes."""

# ruff: noqa: F401 (what is imported here is for users to import)

from detectron2._absent import module_getattr

from .build import PROPOSAL_GENERATOR_REGISTRY, build_proposal_generator
from .rpn import RPN, RPN_HEAD_REGISTRY, StandardRPNHead, build_rpn_head

__getattr__ = module_getattr(__name__)
