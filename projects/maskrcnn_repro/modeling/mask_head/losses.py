"""Mask losses: what a mask head's channels mean, how they are trained, and how masks are read from them.

The paper's are per-class binary masks (Sec. 3), one class-agnostic mask (Sec. 4.2) and, for comparison,
classes that compete at each pixel (Table 2b).

Shape legend: R RoIs of the batch, K foreground classes, C channels of the head's output, m side of a mask
in cells.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from maskrcnn_repro.errors import ConfigError, check_choice

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.utils.registry import Registry

MASK_LOSS_REGISTRY = Registry("MASK_LOSS")
"""Name in ``MODEL.ROI_MASK_HEAD.LOSS`` -> function that takes the config and returns a :class:`MaskLoss`."""


@dataclass(frozen=True)
class MaskLoss:
    """What a mask head's channels are: how they are trained, and how masks are decoded from them."""

    channels: int
    """C, which the head must predict."""
    loss: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
    """Logits (R, C, m, m) float, truth (R, m, m) bool and classes (R,) int64 in [0, K) -> scalar.

    R is at least 1: a head itself answers for a batch without positive RoIs.
    """
    masks: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    """Logits (R, C, m, m) float and classes (R,) int64 -> (R, m, m) float in [0, 1]; R may be 0."""


def check_answers(masks: object, loss: object, truth: torch.Tensor) -> None:
    """Raise ConfigError unless what a :class:`MaskLoss` returned for ``truth`` (R, m, m) has the right shapes."""
    if not isinstance(masks, torch.Tensor) or masks.shape != truth.shape:
        raise ConfigError(
            f"MaskLoss.masks returns {_shape_of(masks)}; it must return a tensor {tuple(truth.shape)} here."
        )
    if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
        raise ConfigError(
            f"MaskLoss.loss returns {_shape_of(loss)}; it must return a tensor of one number."
        )


def _shape_of(value: object) -> str:
    return f"a tensor {tuple(value.shape)}" if isinstance(value, torch.Tensor) else f"{value!r:.80}"


def sigmoid_loss(logits: torch.Tensor, truth: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Return the average binary cross-entropy on the masks of the true classes (Sec. 3, L_mask).

    Args:
        logits: (R, K, m, m), or (R, 1, m, m) of class-agnostic masks.
        truth: (R, m, m), bool: inside the object.
        classes: (R,), int64 in [0, K).
    """
    return F.binary_cross_entropy_with_logits(
        channel_of_class(logits, classes), truth.to(logits.dtype)
    )


def sigmoid_masks(logits: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Return the probability of the mask of each RoI's class, (R, m, m).

    Args:
        logits: (R, K, m, m), or (R, 1, m, m) of class-agnostic masks.
        classes: (R,), int64 in [0, K).
    """
    return channel_of_class(logits, classes).sigmoid()


def softmax_loss(logits: torch.Tensor, truth: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Return the average multinomial cross-entropy per pixel over K classes and background (Table 2b).

    Args:
        logits: (R, K + 1, m, m); the last channel is the background.
        truth: (R, m, m), bool: a pixel's target is the RoI's class inside the object, else background.
        classes: (R,), int64 in [0, K).
    """
    background = logits.size(1) - 1
    return F.cross_entropy(logits, torch.where(truth, classes[:, None, None], background))


def softmax_masks(logits: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Return each pixel's probability of the RoI's class among K classes and background, (R, m, m).

    Args:
        logits: (R, K + 1, m, m); the last channel is the background.
        classes: (R,), int64 in [0, K).
    """
    return channel_of_class(logits.softmax(dim=1), classes)


def argmax_masks(logits: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Return 1 where the RoI's class is the likeliest of K classes and background, else 0, (R, m, m).

    Args:
        logits: (R, K + 1, m, m); the last channel is the background.
        classes: (R,), int64 in [0, K).
    """
    return (logits.argmax(dim=1) == classes[:, None, None]).to(logits.dtype)


SOFTMAX_MASKS = {"probability": softmax_masks, "argmax": argmax_masks}
"""Value of ``MODEL.ROI_MASK_HEAD.SOFTMAX_INFERENCE`` -> how masks are decoded; the paper does not say."""


@MASK_LOSS_REGISTRY.register()
def sigmoid(cfg: CfgNode) -> MaskLoss:
    """Build the loss without competition among classes: K masks, or one for all classes."""
    agnostic = cfg.MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK
    channels = 1 if agnostic else cfg.MODEL.ROI_HEADS.NUM_CLASSES
    return MaskLoss(channels=channels, loss=sigmoid_loss, masks=sigmoid_masks)


@MASK_LOSS_REGISTRY.register()
def softmax(cfg: CfgNode) -> MaskLoss:
    """Build the loss with competition among classes.

    Raises:
        ConfigError: masks are class-agnostic.
    """
    mask = cfg.MODEL.ROI_MASK_HEAD
    if mask.CLS_AGNOSTIC_MASK:
        raise ConfigError(
            "MODEL.ROI_MASK_HEAD.LOSS 'softmax' lets classes compete, which class-agnostic masks "
            "(MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK True) do not have; set CLS_AGNOSTIC_MASK False "
            "or LOSS 'sigmoid'."
        )
    return MaskLoss(
        # Without a channel for the background its pixels would have no target; the paper does not say (DEVIATIONS.md).
        channels=cfg.MODEL.ROI_HEADS.NUM_CLASSES + 1,
        loss=softmax_loss,
        masks=SOFTMAX_MASKS[mask.SOFTMAX_INFERENCE],
    )


def build_mask_loss(cfg: CfgNode) -> MaskLoss:
    """Build ``MODEL.ROI_MASK_HEAD.LOSS``.

    Raises:
        ConfigError: no loss of that name is registered, it does not fit the other keys, it builds no
            :class:`MaskLoss`, or ``SOFTMAX_INFERENCE`` does not exist.
    """
    keys = cfg.MODEL.ROI_MASK_HEAD
    check_choice("MODEL.ROI_MASK_HEAD.LOSS", keys.LOSS, [name for name, _ in MASK_LOSS_REGISTRY])
    check_choice("MODEL.ROI_MASK_HEAD.SOFTMAX_INFERENCE", keys.SOFTMAX_INFERENCE, SOFTMAX_MASKS)
    loss = MASK_LOSS_REGISTRY.get(keys.LOSS)(cfg)
    if not isinstance(loss, MaskLoss):
        raise ConfigError(
            f"MODEL.ROI_MASK_HEAD.LOSS {keys.LOSS!r} builds {loss!r:.80}; it must build a MaskLoss."
        )
    if not isinstance(loss.channels, int) or loss.channels < 1:
        raise ConfigError(
            f"MODEL.ROI_MASK_HEAD.LOSS {keys.LOSS!r} has {loss.channels!r} channels; it needs a whole number from 1."
        )
    return loss


def channel_of_class(maps: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Return (R, ...): of (R, C, ...) the channel of each RoI's class, or the only one."""
    if maps.size(1) == 1:
        return maps[:, 0]
    return maps[torch.arange(maps.shape[0], device=maps.device), classes]
