"""The default configuration; ``defaults.yaml`` holds and explains it."""

import ast
from pathlib import Path
from typing import Any

import yaml

from detectron2._absent import module_getattr
from detectron2.config.config import CfgNode as CN


def _with_tuples(value: Any) -> Any:
    """Return parsed YAML with the tuples that it can only write as strings."""
    if isinstance(value, dict):
        return {key: _with_tuples(child) for key, child in value.items()}
    is_tuple = isinstance(value, str) and value.startswith("(")
    return ast.literal_eval(value) if is_tuple else value


_C = CN(_with_tuples(yaml.safe_load(Path(__file__).with_name("defaults.yaml").read_text())))

__getattr__ = module_getattr(__name__)
