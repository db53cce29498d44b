"""What is known about a step whose numbers are not finite."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from maskrcnn_repro.utils.finite import not_finite

import torch
from detectron2.config import CfgNode
from detectron2.structures import Instances
from torch import nn

Image = Mapping[str, Any]
"""The model's input of one image: ``image`` (C, H, W), ``instances``, ``file_name``."""


@dataclass(frozen=True)
class Evidence:
    """What is known about a step whose numbers are not finite."""

    cfg: CfgNode
    iteration: int
    first: bool
    """Whether it is the first step since the weights were loaded."""
    images: Sequence[Image] = ()
    losses: Mapping[str, float] = field(default_factory=dict)
    gradients: Sequence[str] = ()
    """Names of the parameters whose gradients are not finite, in the model's order."""
    norm: float = 0.0
    """Of all gradients; 0 where it was not computed."""
    weights: Sequence[str] = ()
    """Names of the parameters that are not finite."""
    buffers: Sequence[str] = ()
    """Names of the buffers that are not finite."""
    history: Sequence[float] = ()
    """Sums of the losses of earlier steps, the oldest first."""
    scale: float | None = None
    """Of the losses in mixed precision; None without it."""
    classes: Mapping[str, str] = field(default_factory=dict)
    """Name of each module to its class, ``module.Class``."""

    @property
    def wrong_losses(self) -> list[str]:
        """Names of the losses that are not finite."""
        return [name for name, value in self.losses.items() if not math.isfinite(value)]

    @property
    def is_empty(self) -> bool:
        """Whether all numbers of this process are finite: another one's are not."""
        shown = [self.wrong_losses, self.gradients, self.weights, self.buffers]
        return (
            not any(shown) and math.isfinite(self.norm) and (self.scale is None or self.scale > 1)
        )


def wrong_fields(image: Image) -> Iterator[str]:
    """Yield the fields of an image's ``instances`` and ``proposals`` that are not finite or no boxes."""
    for source in ("instances", "proposals"):
        instances = image.get(source)
        if not isinstance(instances, Instances):
            continue
        for name, value in instances.get_fields().items():
            tensor = getattr(value, "tensor", value)
            if (isinstance(tensor, torch.Tensor) and not_finite([(name, tensor)])) or (
                name == "gt_boxes" and not bool(value.nonempty().all())
            ):
                yield name


def image_name(image: Image) -> str:
    """Return the file of an image, else its id, else "?"."""
    return str(image.get("file_name", image.get("image_id", "?")))


def classes_of(model: nn.Module) -> dict[str, str]:
    """Return the class of every module of a model by the module's name."""
    return {
        name: f"{type(module).__module__}.{type(module).__qualname__}"
        for name, module in model.named_modules()
    }
