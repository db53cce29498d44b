"""Process-wide settings: seeds and the behaviour of libraries."""

import contextlib
import importlib
import importlib.util
import logging
import os
import random
import sys
from types import ModuleType

import numpy as np
import torch

from detectron2._absent import module_getattr

__all__ = ["seed_all_rng"]

TORCH_VERSION = tuple(int(part) for part in torch.__version__.split(".")[:2])
"""(major, minor) of torch."""

_done = False


def seed_all_rng(seed: int | None = None) -> None:
    """Seed Python's, NumPy's and torch's generators.

    Args:
        seed: a non-negative integer below 2**32; None draws one from the operating system and logs it.
    """
    if seed is None:
        seed = int.from_bytes(os.urandom(4), "big")
        logging.getLogger(__name__).info("No seed given; using %d", seed)
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)  # the generators of all devices
    os.environ["PYTHONHASHSEED"] = str(seed)


def setup_environment() -> None:
    """Configure libraries once per process, then run the user's hook.

    ``DETECTRON2_ENV_MODULE`` names the hook: a module or a ``.py`` file with a function ``setup_environment``.
    ``DETECTRON2_DISABLE_CV2=1`` makes ``import cv2`` fail.
    """
    global _done
    if _done:
        return
    _done = True
    _configure_opencv()
    hook = os.environ.get("DETECTRON2_ENV_MODULE")
    if hook:
        setup_custom_environment(hook)


def setup_custom_environment(custom_module: str) -> None:
    """Import a user's module and call its ``setup_environment()``.

    Args:
        custom_module: an importable module, or the path of a ``.py`` file.

    Raises:
        AttributeError: the module has no such function.
    """
    if custom_module.endswith(".py"):
        module = _import_file("detectron2.utils.env.custom_module", custom_module)
    else:
        module = importlib.import_module(custom_module)
    if not callable(getattr(module, "setup_environment", None)):
        raise AttributeError(
            f"DETECTRON2_ENV_MODULE={custom_module} has no function 'setup_environment'."
        )
    module.setup_environment()


def _configure_opencv() -> None:
    if os.environ.get("DETECTRON2_DISABLE_CV2", "0") not in ("", "0"):
        sys.modules["cv2"] = None  # type: ignore[assignment]
        return
    # OpenCL in OpenCV takes memory on the GPU that trains.
    os.environ["OPENCV_OPENCL_RUNTIME"] = "disabled"
    with contextlib.suppress(ModuleNotFoundError):
        import cv2

        cv2.ocl.setUseOpenCL(False)


def _import_file(module_name: str, file_path: str, make_importable: bool = False) -> ModuleType:
    spec = importlib.util.spec_from_file_location(module_name, file_path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if make_importable:
        sys.modules[module_name] = module
    return module


__getattr__ = module_getattr(__name__)
