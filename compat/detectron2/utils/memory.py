"""Retry after running out of GPU memory."""

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator
from typing import Any

import torch

from detectron2._absent import module_getattr

__all__ = ["retry_if_cuda_oom"]


def retry_if_cuda_oom(func: Callable) -> Callable:
    """Wrap ``func``: when CUDA runs out of memory, call it again with an emptied cache, then on the CPU.

    ``func`` may thus be called up to three times and must have no side effects. For the CPU, only its
    direct arguments are moved, not what lies inside lists or dicts, and the result stays on the CPU.
    """

    @functools.wraps(func)
    def attempt(*args, **kwargs) -> Any:
        with _ignore_cuda_oom():
            return func(*args, **kwargs)
        torch.cuda.empty_cache()
        with _ignore_cuda_oom():
            return func(*args, **kwargs)
        logging.getLogger(__name__).info("CUDA is out of memory: %s runs on the CPU", func)
        return func(*map(_to_cpu, args), **{name: _to_cpu(value) for name, value in kwargs.items()})

    return attempt


@contextlib.contextmanager
def _ignore_cuda_oom() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if "CUDA out of memory. " not in str(error):
            raise


def _to_cpu(value: Any) -> Any:
    on_gpu = getattr(getattr(value, "device", None), "type", None) == "cuda"
    return value.to(device="cpu") if on_gpu and hasattr(value, "to") else value


__getattr__ = module_getattr(__name__)
