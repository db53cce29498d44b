"""A classifier of whole images, whose trained backbone detectors start from.

The paper's backbones come from a classification of ImageNet (Sec. 3.1). This model makes such weights from any
data set with boxes: an image's class is that of its largest object.

Shape legend: N images of a batch, C channels, h and w height and width of an image in pixels, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from maskrcnn_repro.errors import ConfigError, DataError
from maskrcnn_repro.modeling.norms import set_eps

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone
from detectron2.modeling.backbone import ResNet
from detectron2.structures import ImageList
from torch import nn


@META_ARCH_REGISTRY.register()
class BackboneClassifier(nn.Module):
    """A ResNet, the average of its last stage over the image, and a linear layer.

    Args:
        backbone: the network to train; its last output is classified.
        num_classes: K.
        pixel_mean: of each channel, subtracted from pixels.
        pixel_std: of each channel; pixels are divided by it.
        channels_last: keep weights and the batch of images in channels-last memory.
    """

    ignored_keys = (
        "MODEL.INFERENCE.PRECISION",
        "MODEL.INFERENCE.MASK_OUTPUT",
        "MODEL.INFERENCE.KEEP_IMAGES",
        "TEST.AUG.ENABLED",
    )
    """Keys of this project that a detector reads, so that setting one is a mistake."""
    pixel_mean: torch.Tensor
    pixel_std: torch.Tensor

    @configurable
    def __init__(
        self,
        *,
        backbone: ResNet,
        num_classes: int,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.feature, shape = list(backbone.output_shape().items())[-1]
        self.stride = shape.stride
        self.classifier = nn.Linear(shape.channels, num_classes)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)
        for name, values in (("pixel_mean", pixel_mean), ("pixel_std", pixel_std)):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)
        self.layout = torch.channels_last if channels_last else torch.contiguous_format

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Build the backbone; classes are ``MODEL.ROI_HEADS.NUM_CLASSES``.

        Raises:
            ConfigError: the backbone is no ResNet, so that its weights would have names of their own.
        """
        backbone = build_backbone(cfg)
        if not isinstance(backbone, ResNet):
            raise ConfigError(
                f"MODEL.BACKBONE.NAME {cfg.MODEL.BACKBONE.NAME!r} builds a {type(backbone).__name__}; "
                "BackboneClassifier trains a ResNet: choose 'build_resnet_backbone'."
            )
        set_eps(backbone, cfg.MODEL.RESNETS.NORM_EPS)
        return {
            "backbone": backbone,
            "num_classes": cfg.MODEL.ROI_HEADS.NUM_CLASSES,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "channels_last": cfg.MODEL.CHANNELS_LAST,
        }

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.pixel_mean.device

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """Return the loss in training, class scores otherwise.

        Args:
            batched_inputs: one dict per image: ``image``, (C, h, w); in training ``instances`` with
                ``gt_boxes`` and ``gt_classes``.

        Returns:
            In training ``{"loss_cls": loss}``, the cross-entropy averaged over the images; otherwise for each
            image ``{"class_scores": (K,) probabilities}``.

        Raises:
            DataError: in training, an image has no object.
        """
        logits = self._logits(batched_inputs)
        if self.training:
            labels = torch.stack([_label(model_input) for model_input in batched_inputs])
            return {"loss_cls": F.cross_entropy(logits, labels.to(self.device))}
        return [{"class_scores": scores} for scores in logits.softmax(dim=1)]

    def preprocess(self, batched_inputs: list[dict[str, Any]]) -> ImageList:
        """Normalise the (C, h, w) images and pad them to one batch, in the memory layout of the weights."""
        pixels = [model_input["image"].to(self.device) for model_input in batched_inputs]
        normalised = [(image - self.pixel_mean) / self.pixel_std for image in pixels]
        images = ImageList.from_tensors(normalised, self.backbone.size_divisibility)
        images.tensor = images.tensor.contiguous(memory_format=self.layout)
        return images

    def _logits(self, batched_inputs: list[dict[str, Any]]) -> torch.Tensor:
        images = self.preprocess(batched_inputs)
        features = self.backbone(images.tensor)[self.feature]
        # Without the cells of the padding, which an image has by chance of its batch.
        means = [
            feature[:, : math.ceil(h / self.stride), : math.ceil(w / self.stride)].mean((1, 2))
            for feature, (h, w) in zip(features, images.image_sizes, strict=True)
        ]
        return self.classifier(torch.stack(means)).float()


def _label(model_input: dict[str, Any]) -> torch.Tensor:
    """Return the class of an image's largest object, an int64 number."""
    instances = model_input["instances"]
    if not len(instances):
        raise DataError(
            f"Image {model_input.get('file_name', '?')!r} has no object and so no class; leave such images out with "
            "DATALOADER.FILTER_EMPTY_ANNOTATIONS True."
        )
    return instances.gt_classes[instances.gt_boxes.area().argmax()]
