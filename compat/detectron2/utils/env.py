"""Process-wide settings: seeds and the behaviour of libraries."""

import contextlib
import functools
import logging
import os
import random
import runpy
import secrets
from importlib import import_module

import numpy as np
import torch

from detectron2._absent import module_getattr

__all__ = ["seed_all_rng"]

TORCH_VERSION = tuple(int(part) for part in torch.__version__.split(".")[:2])
"""(major, minor) of torch."""


def seed_all_rng(seed: int | None = None) -> None:
    """Seed Python's, NumPy's and torch's generators.

    Args:
        seed: a non-negative integer below 2**32; None draws one from the system and logs it.
    """
    if seed is None:
        seed = secrets.randbits(31)
        logging.getLogger(__name__).info("No seed given; using %d", seed)
    for set_seed in (random.seed, np.random.seed, torch.manual_seed):  # torch: of all devices
        set_seed(seed)
    os.environ.update(PYTHONHASHSEED=str(seed))  # for child processes


@functools.cache
def setup_environment() -> None:
    """Configure libraries once per process, then run the user's hook.

    ``DETECTRON2_ENV_MODULE`` names the hook: a module or a ``.py`` file with a function
    ``setup_environment``.
    """
    # OpenCV's OpenCL takes memory on the GPU that trains.
    os.environ.update(OPENCV_OPENCL_RUNTIME="disabled")
    with contextlib.suppress(ImportError):
        from cv2 import ocl

        ocl.setUseOpenCL(False)
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
    is_file = custom_module.endswith(".py")
    contents = runpy.run_path(custom_module) if is_file else vars(import_module(custom_module))
    if "setup_environment" not in contents:
        raise AttributeError(f"{custom_module} has no function 'setup_environment'.")
    contents["setup_environment"]()


__getattr__ = module_getattr(__name__)
