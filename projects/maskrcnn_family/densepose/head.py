"""Where on the surface of the body each pixel of a person lies: charts and coordinates (DensePose-RCNN, Sec. 3).

Letters: N images, R RoIs of the batch, C channels, P side of a pooled RoI, K charts and the background, D classes of the
coarse segmentation, S = 4 P side of the predicted maps, all in cells.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from maskrcnn_repro.data.densepose.surface import Mirror
from maskrcnn_repro.data.densepose.truth import mirror_of
from maskrcnn_repro.errors import ConfigError
from maskrcnn_repro.modeling.norms import check_groups
from maskrcnn_repro.modeling.roi_heads import PaperStandardROIHeads

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.layers import Conv2d, ConvTranspose2d, ShapeSpec
from detectron2.modeling import ROI_HEADS_REGISTRY
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.roi_heads import select_foreground_proposals
from detectron2.structures import Boxes, Instances, pairwise_iou
from torch import Tensor, nn

from maskrcnn_family.densepose.losses import Weights, densepose_losses, zero_losses
from maskrcnn_family.densepose.maps import SurfaceMaps
from maskrcnn_family.panoptic_fpn.head import FamilySemSegFPNHead, check_common_stride

Maps = dict[str, Tensor]
"""Name of a level -> its map (N, C, H, W)."""


class DensePoseHead(nn.Module):
    """A stack of convolutions, each with a ReLU; layers have the names of Detectron2's DensePose project.

    Args:
        channels: C.
        num_conv: convolutions.
        conv_dim: channels of each.
        kernel: their side, an odd number.
    """

    def __init__(self, channels: int, *, num_conv: int, conv_dim: int, kernel: int) -> None:
        super().__init__()
        self.num_conv = num_conv
        for number in range(1, num_conv + 1):
            conv = Conv2d(channels, conv_dim, kernel_size=kernel, padding=kernel // 2)
            self.add_module(f"body_conv_fcn{number}", _initialise(conv))
            channels = conv_dim
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        """Map pooled RoIs (R, C, P, P) to features (R, channels, P, P)."""
        for number in range(1, self.num_conv + 1):
            x = F.relu(getattr(self, f"body_conv_fcn{number}")(x))
        return x


class ChartPredictor(nn.Module):
    """A deconvolution to twice the side for each kind of map, and a linear enlargement (names as above).

    Args:
        channels: of the features.
        charts: K.
        coarse: D.
        kernel: side of the deconvolution, an even number.
        factor: of the enlargement.
    """

    def __init__(
        self, channels: int, *, charts: int, coarse: int, kernel: int, factor: int
    ) -> None:
        super().__init__()
        self.factor = factor

        def deconv(outputs: int) -> nn.Module:
            layer = ConvTranspose2d(
                channels, outputs, kernel_size=kernel, stride=2, padding=kernel // 2 - 1
            )
            return _initialise(layer)

        self.ann_index_lowres, self.index_uv_lowres = deconv(coarse), deconv(charts)
        self.u_lowres, self.v_lowres = deconv(charts), deconv(charts)

    def forward(self, x: Tensor) -> SurfaceMaps:
        """Map features (R, channels, P, P) to maps, float32 whatever the features are."""
        layers = (self.ann_index_lowres, self.index_uv_lowres, self.u_lowres, self.v_lowres)
        return SurfaceMaps(*(self._enlarge(layer(x).float()) for layer in layers))

    def _enlarge(self, x: Tensor) -> Tensor:
        scale = float(self.factor)
        return F.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=False)


def _initialise(layer: Any) -> Any:
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    nn.init.zeros_(layer.bias)
    return layer


@ROI_HEADS_REGISTRY.register()
class FamilyDensePoseROIHeads(PaperStandardROIHeads):
    """The paper's heads with one more for surface coordinates, beside the boxes (Sec. 3).

    Detections get ``pred_densepose``, :class:`SurfaceMaps`. In training it learns from people with annotated points whose RoI
    overlaps them enough.

    Args:
        decoder: makes one map of all levels; None pools each RoI from the level of its size.
        densepose_pooler: of that map, or of the levels.
        densepose_head: convolutions on pooled RoIs.
        densepose_predictor: features to maps.
        densepose_weights: factors of the losses.
        densepose_iou: least overlap of an RoI with its person in training, itself left out.
        coordinates: of detections: ``"predicted"``, or ``"middle"``, 0.5 everywhere.
        mirror: of the surface, which mirrored views of an image need.
        **parts: the arguments of ``StandardROIHeads``.
    """

    @configurable
    def __init__(
        self,
        *,
        decoder: FamilySemSegFPNHead | None = None,
        densepose_pooler: ROIPooler | None = None,
        densepose_head: DensePoseHead | None = None,
        densepose_predictor: ChartPredictor | None = None,
        densepose_weights: Weights | None = None,
        densepose_iou: float = 0.7,
        coordinates: str = "predicted",
        mirror: Mirror | None = None,
        **parts: Any,
    ) -> None:
        super().__init__(**parts)
        self.densepose_on = densepose_head is not None
        self.decoder: Any = decoder
        self.densepose_pooler: Any = densepose_pooler
        self.densepose_head: Any = densepose_head
        self.densepose_predictor: Any = densepose_predictor
        self.densepose_weights: Any = densepose_weights
        self.densepose_iou, self.coordinates, self.mirror = densepose_iou, coordinates, mirror

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """Read ``MODEL.ROI_DENSEPOSE_HEAD`` beside what the parent reads, if ``MODEL.DENSEPOSE_ON``.

        Raises:
            ConfigError: see :func:`check_head`.
        """
        parts = super().from_config(cfg, input_shape)
        if not cfg.MODEL.DENSEPOSE_ON:
            return parts
        check_head(cfg, input_shape)
        keys, names = cfg.MODEL.ROI_DENSEPOSE_HEAD, cfg.MODEL.ROI_HEADS.IN_FEATURES
        strides, channels = (
            [input_shape[name].stride for name in names],
            input_shape[names[0]].channels,
        )
        if keys.DECODER_ON:
            strides, channels = [keys.DECODER_COMMON_STRIDE], keys.DECODER_NUM_CLASSES
            parts["decoder"] = FamilySemSegFPNHead(
                {name: input_shape[name] for name in names},
                num_classes=keys.DECODER_NUM_CLASSES,
                conv_dims=keys.DECODER_CONV_DIMS,
                common_stride=keys.DECODER_COMMON_STRIDE,
                norm=keys.DECODER_NORM,
            )
        head = DensePoseHead(
            channels,
            num_conv=keys.NUM_STACKED_CONVS,
            conv_dim=keys.CONV_HEAD_DIM,
            kernel=keys.CONV_HEAD_KERNEL,
        )
        return {
            **parts,
            "densepose_pooler": ROIPooler(
                output_size=keys.POOLER_RESOLUTION,
                scales=[1 / stride for stride in strides],
                sampling_ratio=keys.POOLER_SAMPLING_RATIO,
                pooler_type=keys.POOLER_TYPE,
            ),
            "densepose_head": head,
            "densepose_predictor": ChartPredictor(
                head.channels,
                charts=keys.NUM_PATCHES + 1,
                coarse=keys.NUM_COARSE_SEGM_CHANNELS,
                kernel=keys.DECONV_KERNEL,
                factor=keys.UP_SCALE,
            ),
            "densepose_weights": Weights(
                keys.INDEX_WEIGHTS, keys.PART_WEIGHTS, keys.POINT_REGRESSION_WEIGHTS
            ),
            "densepose_iou": keys.FG_IOU_THRESHOLD,
            "coordinates": cfg.TEST.DENSEPOSE_COORDINATES,
            "mirror": mirror_for(cfg),
        }

    def forward(
        self,
        images: Any,
        features: Maps,
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """Return what the parent does, in training with the losses of surface coordinates."""
        instances, losses = super().forward(images, features, proposals, targets)
        if self.training and self.densepose_on:
            losses |= self._densepose_losses(features, instances)
        return instances, losses

    def forward_with_given_boxes(
        self, features: Maps, instances: list[Instances]
    ) -> list[Instances]:
        """Return the instances with what the parent adds, and with ``pred_densepose``."""
        instances = super().forward_with_given_boxes(features, instances)
        if self.densepose_on:
            boxes = [image.pred_boxes for image in instances]
            maps = self.maps_of_pooled(self.densepose_pooler(self.densepose_maps(features), boxes))
            of_images = maps.split([len(image) for image in instances])
            for image, of_image in zip(instances, of_images, strict=True):
                image.pred_densepose = of_image
        return instances

    def surface_maps(self, features: Maps, boxes: list[Boxes]) -> SurfaceMaps:
        """Return the maps of all RoIs, given as boxes of each image."""
        maps = self.densepose_maps(features)
        pooled = self.densepose_pooler(maps, boxes)
        if not len(pooled):
            # In one process of many there may be no person, and all wait for the gradients of all parameters.
            pooled = pooled + 0 * sum(level.sum() for level in maps)
        return self.densepose_predictor(self.densepose_head(pooled))

    def densepose_maps(self, features: Maps) -> list[Tensor]:
        """Return the maps that RoIs are pooled from."""
        if self.decoder is not None:
            return [self.decoder.layers(features)]
        return [features[name] for name in self.in_features]

    def maps_of_pooled(self, pooled: Tensor) -> SurfaceMaps:
        """Return what detections get of pooled RoIs (R, C, P, P)."""
        return self._with_coordinates(self.densepose_predictor(self.densepose_head(pooled)))

    def _with_coordinates(self, maps: SurfaceMaps) -> SurfaceMaps:
        if self.coordinates == "predicted":
            return maps
        middle = torch.full_like(maps.u, 0.5)
        return replace(maps, u=middle, v=middle)

    def merge_views(self, outputs: list[Instances], flips: list[bool]) -> dict[str, SurfaceMaps]:
        """Return ``pred_densepose`` of detections from several views of their image: the mean of its maps.

        Args:
            outputs: the detections of each view.
            flips: whether it is mirrored.

        Raises:
            ConfigError: mirrored views, and no mirror.
        """
        if not self.densepose_on:
            return {}
        maps = [output.pred_densepose for output in outputs]
        if any(flips):
            if self.mirror is None:
                raise ConfigError(
                    "Mirrored views of surface coordinates need a mirror: build the model with TEST.AUG.ENABLED and "
                    "TEST.AUG.FLIP True."
                )
            pairs = zip(maps, flips, strict=True)
            maps = [view.mirrored(self.mirror) if flip else view for view, flip in pairs]
        return {"pred_densepose": self._with_coordinates(SurfaceMaps.mean(maps))}

    def _densepose_losses(self, features: Maps, samples: list[Instances]) -> dict[str, Tensor]:
        foreground, _ = select_foreground_proposals(samples, self.num_classes)
        people = [self._select_annotated(image) for image in foreground]
        boxes = [image.proposal_boxes for image in people]
        maps = self.surface_maps(features, boxes)
        people = [image for image in people if len(image)]
        if not people:
            return zero_losses(maps)
        return densepose_losses(
            maps,
            type(people[0].gt_densepose).cat([image.gt_densepose for image in people]),
            Boxes.cat([image.gt_boxes for image in people]).tensor,
            Boxes.cat([image.proposal_boxes for image in people]).tensor,
            self.densepose_weights,
        )

    def _select_annotated(self, image: Instances) -> Instances:
        """Return the foreground RoIs of an image that are trained on."""
        if not image.has("gt_densepose"):
            # Detectron2 gives no ground truth to the proposals of an image without people.
            return image[:0]
        overlaps = pairwise_iou(image.gt_boxes, image.proposal_boxes).diagonal()
        return image[(overlaps > self.densepose_iou) & image.gt_densepose.annotated]


def mirror_for(cfg: CfgNode) -> Mirror | None:
    """Return the mirror of the data set's surface if ``TEST.AUG`` has mirrored views.

    Raises:
        ConfigError: no data set is named, or the surface has other charts or parts than the model.
        DataError: the mirror's files are missing.
    """
    if not (cfg.TEST.AUG.ENABLED and cfg.TEST.AUG.FLIP):
        return None
    keys, names = cfg.MODEL.ROI_DENSEPOSE_HEAD, (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)
    if not names:
        raise ConfigError(
            "TEST.AUG.FLIP is True, but DATASETS.TRAIN names no data set whose surface tells what a mirror does; set it to False."
        )
    mirror, parts = mirror_of(names[0]), keys.NUM_COARSE_SEGM_CHANNELS
    if len(mirror.charts) != keys.NUM_PATCHES + 1 or (
        parts > 2 and mirror.parts[:parts].max() >= parts
    ):
        raise ConfigError(
            f"TEST.AUG.FLIP is True, but the surface of {names[0]!r} has {len(mirror.charts) - 1} charts and other parts than the "
            f"model, whose MODEL.ROI_DENSEPOSE_HEAD.NUM_PATCHES is {keys.NUM_PATCHES} and NUM_COARSE_SEGM_CHANNELS {parts}; set it "
            "to False."
        )
    return mirror


def check_head(cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> None:
    """Raise ConfigError if keys of the DensePose head have values that no head can have."""
    _check_numbers(cfg)
    keys, names = cfg.MODEL.ROI_DENSEPOSE_HEAD, cfg.MODEL.ROI_HEADS.IN_FEATURES
    if not keys.DECODER_ON:
        return
    if len(names) < 2:
        raise ConfigError(
            "MODEL.ROI_DENSEPOSE_HEAD.DECODER_ON is True, but MODEL.BACKBONE.NAME "
            f"{cfg.MODEL.BACKBONE.NAME!r} gives one map; the decoder needs those of a pyramid: set it to False."
        )
    strides = {name: input_shape[name].stride for name in names}
    check_common_stride(
        "MODEL.ROI_DENSEPOSE_HEAD.DECODER_COMMON_STRIDE", keys.DECODER_COMMON_STRIDE, strides
    )


def _check_numbers(cfg: CfgNode) -> None:
    keys = cfg.MODEL.ROI_DENSEPOSE_HEAD
    for name, allowed in (("DECONV_KERNEL", "even"), ("CONV_HEAD_KERNEL", "odd")):
        if keys[name] % 2 != (allowed == "odd"):
            raise ConfigError(
                f"MODEL.ROI_DENSEPOSE_HEAD.{name} {keys[name]} must be an {allowed} number."
            )
    if keys.DECODER_ON:
        name = "MODEL.ROI_DENSEPOSE_HEAD.DECODER_CONV_DIMS"
        check_groups(name, keys.DECODER_CONV_DIMS, keys.DECODER_NORM)
