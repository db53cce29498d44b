"""What a training computes in; results say it, and the engine does it."""

from __future__ import annotations

from detectron2.config import CfgNode


def training_precision(cfg: CfgNode) -> str:
    """Return ``float32``, ``bfloat16`` or ``float16``: what convolutions and matrix products of a training compute in."""
    return str(cfg.SOLVER.AMP.DTYPE) if cfg.SOLVER.AMP.ENABLED else "float32"
