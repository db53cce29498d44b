"""Mixed precision of a training: what it computes in, and its model within autocast.

In bfloat16, on a CPU or a GPU, numbers keep the range of float32 and no loss is scaled. float16 needs a GPU and a loss
scale, which Detectron2's ``AMPTrainer`` has. Weights, gradients, optimiser and losses are float32 in any case.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from maskrcnn_repro.errors import ConfigError
from maskrcnn_repro.utils.precision import computes_in_bfloat16, training_precision

import torch
from detectron2.config import CfgNode
from torch import nn

logger = logging.getLogger(__name__)

_OUTPUTS = ("rpn_head", "box_predictor", "predictor", "score_lowres")
"""Names of the modules whose outputs go into losses."""


def scales_losses(cfg: CfgNode) -> bool:
    """Tell whether the losses of a training are scaled against underflow."""
    return training_precision(cfg) == "float16"


def check_precision(cfg: CfgNode) -> None:
    """Raise ConfigError for float16 on a CPU."""
    if scales_losses(cfg) and not cfg.MODEL.DEVICE.startswith("cuda"):
        raise ConfigError(
            f"SOLVER.AMP.ENABLED True in SOLVER.AMP.DTYPE float16 needs a GPU, but MODEL.DEVICE is "
            f"{cfg.MODEL.DEVICE!r}; set SOLVER.AMP.DTYPE bfloat16, or SOLVER.AMP.ENABLED False."
        )


def tell_precision(cfg: CfgNode) -> None:
    """Log what a mixed-precision training computes in, and that it is slow where the device has no instructions for it."""
    if not cfg.SOLVER.AMP.ENABLED:
        return
    chosen = training_precision(cfg)
    logger.info("SOLVER.AMP.DTYPE %s: this training computes in %s.", cfg.SOLVER.AMP.DTYPE, chosen)
    if chosen == "bfloat16" and not computes_in_bfloat16(cfg.MODEL.DEVICE):
        logger.warning(
            "This device has no instructions for bfloat16: an iteration may take ten times as long as in float32. "
            "SOLVER.AMP.DTYPE auto takes bfloat16 only where it is fast."
        )


def give_losses_float32(model: nn.Module) -> None:
    """Let the layers before the losses return float32, whatever autocast they run in."""
    for name, module in model.named_modules():
        if name.rpartition(".")[2] in _OUTPUTS:
            # The stages of a cascade have a list of them, which is never called itself.
            for part in module if isinstance(module, nn.ModuleList) else (module,):
                part.register_forward_hook(_in_float32)


def _in_float32(_: nn.Module, __: Any, output: Any) -> Any:
    if isinstance(output, torch.Tensor):
        return output.float()
    if isinstance(output, list | tuple):
        return type(output)(_in_float32(_, __, part) for part in output)
    return output


class Bfloat16(nn.Module):
    """A model in autocast to bfloat16.

    Args:
        model: maps images to losses; perhaps in DistributedDataParallel.
        device: of its weights.
    """

    def __init__(self, model: nn.Module, device: str) -> None:
        super().__init__()
        self.model, self.device_type = model, torch.device(device).type

    def forward(self, batch: Sequence[Any]) -> dict[str, torch.Tensor]:
        """Return the losses, float32."""
        with torch.autocast(self.device_type, dtype=torch.bfloat16):
            losses = self.model(batch)
        return {name: loss.float() for name, loss in losses.items()}
