"""The configuration: keys with defaults, YAML files over them, their way into constructors."""

from detectron2._absent import module_getattr
from detectron2.config.config import CfgNode, configurable, get_cfg, global_cfg, set_global_cfg

__all__ = ["CfgNode", "configurable", "get_cfg", "global_cfg", "set_global_cfg"]

__getattr__ = module_getattr(__name__)
