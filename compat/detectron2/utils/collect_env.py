"""A description of this machine and its software, for logs and bug reports."""

import importlib
import os
import sys
from collections import defaultdict

import torch
from tabulate import tabulate

from detectron2._absent import module_getattr

__all__ = ["collect_env_info"]

_LIBRARIES = {
    "numpy": "numpy",
    "torchvision": "torchvision",
    "Pillow": "PIL",
    "fvcore": "fvcore",
    "iopath": "iopath",
    "cv2": "cv2",
    "pycocotools": "pycocotools",
}


def collect_env_info() -> str:
    """Return a table of versions and devices, followed by how torch was built."""
    import detectron2

    rows = [
        ("sys.platform", sys.platform),
        ("Python", sys.version.replace("\n", "")),
        ("detectron2", f"{detectron2.__version__} @{os.path.dirname(detectron2.__file__)}"),
        get_env_module(),
        ("PyTorch", f"{torch.__version__} @{os.path.dirname(torch.__file__)}"),
        ("PyTorch debug build", torch.version.debug),
        *((name, _version(module)) for name, module in _LIBRARIES.items()),
        *_gpu_rows(),
    ]
    return f"{tabulate(rows)}\n{collect_torch_env()}"


def collect_torch_env() -> str:
    """Return compilers, options and libraries that torch was built with."""
    return torch.__config__.show()


def get_env_module() -> tuple[str, str]:
    """Return name and value of the variable that names the user's hook; see ``utils.env``."""
    name = "DETECTRON2_ENV_MODULE"
    return name, os.environ.get(name, "<not set>")


def _version(module: str) -> str:
    try:
        return str(getattr(importlib.import_module(module), "__version__", "unknown"))
    except ImportError:
        return "not found"


def _gpu_rows() -> list[tuple[str, str]]:
    if not torch.cuda.is_available():
        return [("GPU available", "no: torch.cuda.is_available() is False")]
    indices: dict[str, list[str]] = defaultdict(list)
    for index in range(torch.cuda.device_count()):
        major, minor = torch.cuda.get_device_capability(index)
        name = f"{torch.cuda.get_device_name(index)} (arch={major}.{minor})"
        indices[name].append(str(index))
    return [
        ("GPU available", "yes"),
        *((f"GPU {','.join(same)}", name) for name, same in indices.items()),
        ("CUDA of torch", str(torch.version.cuda)),
    ]


__getattr__ = module_getattr(__name__)
