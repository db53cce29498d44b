"""A description of this machine and its software, for logs and bug reports."""

import importlib
import os
import sys
from collections import defaultdict

import torch
from tabulate import tabulate

from detectron2._absent import module_getattr

__all__ = ["collect_env_info"]

_LIBRARIES = ("detectron2", "torch", "torchvision", "numpy", "PIL", "fvcore", "iopath", "cv2")


def collect_env_info() -> str:
    """Return a table of versions and devices, followed by how torch was built."""
    rows = [
        ("sys.platform", sys.platform),
        ("Python", sys.version.replace("\n", "")),
        ("DETECTRON2_ENV_MODULE", os.environ.get("DETECTRON2_ENV_MODULE", "<not set>")),
        *((name, _version(name)) for name in _LIBRARIES),
        ("CUDA of torch", torch.version.cuda),
        ("GPU available", torch.cuda.is_available()),
    ]
    indices: dict[str, list[str]] = defaultdict(list)
    for index in range(torch.cuda.device_count()):
        major, minor = torch.cuda.get_device_capability(index)
        name = f"{torch.cuda.get_device_name(index)} (arch={major}.{minor})"
        indices[name].append(str(index))
    rows += [(f"GPU {','.join(same)}", name) for name, same in indices.items()]
    return f"{tabulate(rows)}\n{torch.__config__.show()}"


def _version(name: str) -> str:
    try:
        module = importlib.import_module(name)
    except ImportError:
        return "not found"
    return f"{getattr(module, '__version__', 'unknown')} @{os.path.dirname(module.__file__)}"


__getattr__ = module_getattr(__name__)
