"""What a training computes in; results say it, and the engine does it."""

from __future__ import annotations

import torch
from detectron2.config import CfgNode


def training_precision(cfg: CfgNode) -> str:
    """Return ``float32``, ``bfloat16`` or ``float16``: what convolutions and matrix products of a training compute in."""
    if not cfg.SOLVER.AMP.ENABLED:
        return "float32"
    if cfg.SOLVER.AMP.DTYPE == "auto":
        return "bfloat16" if computes_in_bfloat16(cfg.MODEL.DEVICE) else "float32"
    return str(cfg.SOLVER.AMP.DTYPE)


def computes_in_bfloat16(device: str) -> bool:
    """Tell whether a device has instructions for bfloat16; without them it is many times slower than float32."""
    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())
