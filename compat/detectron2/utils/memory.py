"""Retry after running out of GPU memory."""

import functools
import logging
from collections.abc import Callable
from typing import Any

import torch

from detectron2._absent import module_getattr

__all__ = ["retry_if_cuda_oom"]


def retry_if_cuda_oom(func: Callable) -> Callable:
    """Wrap ``func``: out of CUDA memory, it runs again with an emptied cache, then on the CPU.

    ``func`` may thus be called up to three times and must have no side effects. For the CPU, only
    its direct arguments are moved, not what lies inside lists or dicts; the result stays there.
    """

    @functools.wraps(func)
    def attempt(*args, **kwargs) -> Any:
        for _ in range(2):
            try:
                return func(*args, **kwargs)
            except RuntimeError as error:
                if "CUDA out of memory. " not in str(error):
                    raise
            torch.cuda.empty_cache()
        logging.getLogger(__name__).info("CUDA is out of memory: %s runs on the CPU", func)
        return func(*map(_to_cpu, args), **{name: _to_cpu(value) for name, value in kwargs.items()})

    return attempt


def _to_cpu(value: Any) -> Any:
    device = getattr(value, "device", None)
    return value.to(device="cpu") if getattr(device, "type", None) == "cuda" else value


__getattr__ = module_getattr(__name__)
