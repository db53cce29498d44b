"""A mask branch and a boundary branch that learn from each other (Cheng, Wang, Huang, Liu 2020, arXiv 2007.08921).

Letters: N images, R RoIs of the batch, C channels, P side of an RoI of the mask branch in cells, K classes (1 if masks
are class-agnostic), m = 2 P side of a mask.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from maskrcnn_repro.errors import ConfigError
from maskrcnn_repro.modeling.conv import conv_norm_relu
from maskrcnn_repro.modeling.mask_head.head import init_predictor, log_accuracy
from maskrcnn_repro.modeling.mask_head.ignored import refuse_ignored
from maskrcnn_repro.modeling.mask_head.losses import channel_of_class, sigmoid_loss
from maskrcnn_repro.modeling.mask_head.targets import mask_targets
from maskrcnn_repro.roi_ops import build_pooler

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import Conv2d, ConvTranspose2d, ShapeSpec
from detectron2.modeling import ROI_MASK_HEAD_REGISTRY
from detectron2.modeling.roi_heads.mask_head import mask_rcnn_inference
from detectron2.structures import Boxes, Instances
from fvcore.nn import weight_init
from torch import Tensor, nn

from maskrcnn_family.boundary_preserving.losses import boundary_loss

Maps = Mapping[str, Tensor]
"""Name of a level -> its map (N, C, H, W)."""


@ROI_MASK_HEAD_REGISTRY.register()
class FamilyBoundaryPreservingMaskHead(nn.Module):
    """The boundary-preserving mask head (Sec. 3): it takes whole maps, and pools for each branch.

    Parameters have the names of the authors' code, so that its weights fit.

    Args:
        mask_pooler: of ``in_features``, to P cells.
        boundary_pooler: of ``boundary_in_features``, to 2 P cells.
        in_features: maps for the mask branch.
        boundary_in_features: maps for the boundary branch.
        channels: C of the maps.
        conv_dim: channels of each layer.
        num_conv: 3x3 convolutions of the mask branch before the fusion.
        boundary_num_conv: 3x3 convolutions of the boundary branch behind its fusion.
        norm: name of a Detectron2 norm after each convolution; empty for none.
        classes: K.
    """

    pools_itself = True

    @configurable
    def __init__(
        self,
        *,
        mask_pooler: nn.Module,
        boundary_pooler: nn.Module,
        in_features: Sequence[str],
        boundary_in_features: Sequence[str],
        channels: int,
        conv_dim: int,
        num_conv: int,
        boundary_num_conv: int,
        norm: str,
        classes: int,
    ) -> None:
        super().__init__()
        self.mask_pooler, self.boundary_pooler = mask_pooler, boundary_pooler
        self.in_features = list(in_features)
        self.boundary_in_features = list(boundary_in_features)

        def conv(inputs: int, kernel: int = 3, stride: int = 1) -> Conv2d:
            layer = conv_norm_relu(inputs, conv_dim, kernel=kernel, stride=stride, norm=norm)
            weight_init.c2_msra_fill(layer)
            return layer

        self.mask_fcns = [f"mask_fcn{number + 1}" for number in range(num_conv)]
        for number, name in enumerate(self.mask_fcns):
            self.add_module(name, conv(conv_dim if number else channels))
        self.mask_final_fusion, self.downsample = conv(conv_dim), conv(channels, stride=2)
        self.boundary_fcns = [f"boundary_fcn{number + 1}" for number in range(boundary_num_conv)]
        for name in self.boundary_fcns:
            self.add_module(name, conv(conv_dim))
        self.mask_to_boundary, self.boundary_to_mask = conv(conv_dim, 1), conv(conv_dim, 1)
        for branch in ("mask", "boundary"):
            deconv = ConvTranspose2d(conv_dim, conv_dim, kernel_size=2, stride=2)
            predictor = Conv2d(conv_dim, classes, kernel_size=1)
            weight_init.c2_msra_fill(deconv)
            init_predictor(predictor)
            self.add_module(f"{branch}_deconv", deconv)
            self.add_module(f"{branch}_predictor", predictor)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        """Read ``MODEL.ROI_MASK_HEAD`` and ``MODEL.BOUNDARY_MASK_HEAD``.

        Raises:
            ConfigError: see :func:`check_boundary_preserving`.
        """
        check_boundary_preserving(cfg, input_shape)
        mask, boundary = cfg.MODEL.ROI_MASK_HEAD, cfg.MODEL.BOUNDARY_MASK_HEAD
        names = boundary.IN_FEATURES
        return {
            "mask_pooler": build_pooler(cfg, "ROI_MASK_HEAD", input_shape),
            "boundary_pooler": build_pooler(
                cfg,
                "ROI_MASK_HEAD",
                input_shape,
                in_features=names,
                side=boundary.POOLER_RESOLUTION,
            ),
            "in_features": cfg.MODEL.ROI_HEADS.IN_FEATURES,
            "boundary_in_features": names,
            "channels": input_shape[names[0]].channels,
            "conv_dim": mask.CONV_DIM,
            "num_conv": mask.NUM_CONV,
            "boundary_num_conv": boundary.NUM_CONV,
            "norm": mask.NORM,
            "classes": 1 if mask.CLS_AGNOSTIC_MASK else cfg.MODEL.ROI_HEADS.NUM_CLASSES,
        }

    def layers(self, mask: Tensor, boundary: Tensor) -> tuple[Tensor, Tensor]:
        """Map pooled RoIs (R, C, P, P) and (R, C, 2 P, 2 P) to logits of masks and boundaries, (R, K, m, m) each."""
        for name in self.mask_fcns:
            mask = getattr(self, name)(mask)
        boundary = self.downsample(boundary) + self.mask_to_boundary(mask)
        for name in self.boundary_fcns:
            boundary = getattr(self, name)(boundary)
        mask = self.mask_final_fusion(mask + self.boundary_to_mask(boundary))
        return self._predict("mask", mask), self._predict("boundary", boundary)

    def _predict(self, branch: str, x: Tensor) -> Tensor:
        enlarged = getattr(self, f"{branch}_deconv")(x).relu()
        return getattr(self, f"{branch}_predictor")(enlarged)

    def forward(self, features: Maps, instances: list[Instances]) -> Any:
        """Return losses in training, otherwise the instances with ``pred_masks`` (R, 1, m, m).

        Args:
            features: maps of whole images.
            instances: of each image: foreground proposals with ground truth, or detections.
        """
        if self.training:
            boxes = [image.proposal_boxes for image in instances]
            return self._losses(*self._logits(features, boxes), instances)
        masks, _ = self._logits(features, [image.pred_boxes for image in instances])
        mask_rcnn_inference(masks, instances)
        return instances

    def mask_logits(self, features: Maps, boxes: Sequence[Tensor], classes: Tensor) -> Tensor:
        """Return the logits of the masks of given classes, (R, m, m).

        Args:
            features: maps of whole images.
            boxes: of each image, (R of the image, 4).
            classes: of all RoIs, (R,) int64.
        """
        masks, _ = self._logits(features, list(map(Boxes, boxes)))
        return channel_of_class(masks, classes)

    def _logits(self, features: Maps, boxes: Sequence[Boxes]) -> tuple[Tensor, Tensor]:
        masks, boundaries = self.layers(
            self.mask_pooler([features[name] for name in self.in_features], boxes),
            self.boundary_pooler([features[name] for name in self.boundary_in_features], boxes),
        )
        # Under mixed precision, losses and probabilities are still computed in float32.
        return masks.float(), boundaries.float()

    def _losses(
        self, masks: Tensor, boundaries: Tensor, instances: Sequence[Instances]
    ) -> dict[str, Tensor]:
        if not len(masks):
            # In one process of many there may be no object, and all wait for the gradients of all parameters.
            return {"loss_mask": masks.sum() * 0.0, "loss_boundary": boundaries.sum() * 0.0}
        images = [image for image in instances if len(image)]
        classes = torch.cat([image.gt_classes for image in images])
        truth = mask_targets(images, masks.shape[-1]).to(masks.device)
        log_accuracy(channel_of_class(masks.detach(), classes) > 0, truth)
        return {
            "loss_mask": sigmoid_loss(masks, truth, classes),
            "loss_boundary": boundary_loss(channel_of_class(boundaries, classes), truth),
        }


def check_boundary_preserving(cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> None:
    """Raise ConfigError if keys ask for maps that there are not, or for branches that do not meet."""
    mask, boundary = cfg.MODEL.ROI_MASK_HEAD, cfg.MODEL.BOUNDARY_MASK_HEAD
    missing = [name for name in boundary.IN_FEATURES if name not in input_shape]
    if missing:
        raise ConfigError(
            f"MODEL.BOUNDARY_MASK_HEAD.IN_FEATURES names {', '.join(missing)}, but the boundary branch pools "
            f"from an FPN's finest maps and MODEL.ROI_HEADS.IN_FEATURES gives it {', '.join(input_shape)}."
        )
    if boundary.POOLER_RESOLUTION != 2 * mask.POOLER_RESOLUTION:
        raise ConfigError(
            f"MODEL.BOUNDARY_MASK_HEAD.POOLER_RESOLUTION {boundary.POOLER_RESOLUTION} is not twice "
            f"MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION {mask.POOLER_RESOLUTION}, but the boundary branch halves its RoIs before "
            "it meets the mask branch."
        )
    channels = input_shape[boundary.IN_FEATURES[0]].channels
    if not mask.NUM_CONV and mask.CONV_DIM != channels:
        raise ConfigError(
            f"MODEL.ROI_MASK_HEAD.NUM_CONV 0 leaves the {channels} channels of the maps, but the branches meet with "
            f"MODEL.ROI_MASK_HEAD.CONV_DIM {mask.CONV_DIM}; make them equal, or use a convolution."
        )
    refuse_ignored(cfg, "FamilyBoundaryPreservingMaskHead", {"LOSS": "sigmoid"})
