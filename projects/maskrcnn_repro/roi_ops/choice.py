"""Whether RoI operations run by Triton kernels or by torch: ``MODEL.ROI_OP.KERNEL``."""

from __future__ import annotations

import functools
import importlib.util
import logging
import os
from collections.abc import Sequence

from maskrcnn_repro.errors import ConfigError, check_choice

import torch

KERNELS = ("auto", "torch", "triton")
KEY = "MODEL.ROI_OP.KERNEL"


def check_kernel(kernel: str) -> None:
    """Raise ConfigError for a value that ``MODEL.ROI_OP.KERNEL`` cannot have on this machine."""
    check_choice(KEY, kernel, KERNELS)
    if kernel == "triton" and not has_triton():
        raise ConfigError(
            f"{KEY} is triton, but Triton is not installed; with auto the operations run by torch."
        )


def has_triton() -> bool:
    """Tell whether Triton is installed."""
    return importlib.util.find_spec("triton") is not None


def takes_triton(kernel: str, features: Sequence[torch.Tensor]) -> bool:
    """Tell whether Triton kernels can pool from these maps, and are wanted.

    Args:
        kernel: "auto", on GPUs where Triton works; "triton", always; "torch", never.
        features: (N, C, H, W) for each level.

    Raises:
        ConfigError: "triton" for maps on the CPU, where only Triton's interpreter could run it.
    """
    device = features[0].device
    if kernel == "triton" and device.type == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
        raise ConfigError(f"{KEY} is triton, but the model is on the CPU; auto suits both.")
    if kernel == "torch" or (kernel == "auto" and device.type != "cuda"):
        return False
    floats = {level.dtype for level in features}
    fit = len(floats) == 1 and all(
        level.numel() and level.is_floating_point() for level in features
    )
    return fit and (kernel == "triton" or works_on(device))


@functools.cache
def works_on(device: torch.device) -> bool:
    """Tell whether Triton compiles and runs a kernel on this GPU; why not, is logged once."""
    if not has_triton():
        return False
    try:
        return _probe(device)
    except Exception as error:  # noqa: BLE001 (a missing C compiler, an old driver: torch does the work)
        logging.getLogger(__name__).warning(
            "Triton does not work here (%s); the RoI operations run by torch.", error
        )
        return False


def _probe(device: torch.device) -> bool:
    from maskrcnn_repro.roi_ops import triton_kernels

    written = torch.zeros(1, device=device)
    with torch.cuda.device_of(written):
        triton_kernels.probe[(1,)](written)
    return written.item() == 1
