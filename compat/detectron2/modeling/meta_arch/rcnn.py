"""Two-stage detectors: backbone, then region proposals, then per-region heads.

Letters: N images of the batch, C channels, H and W height and width of the padded batch in pixels.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from detectron2._absent import hint, module_getattr
from detectron2.config import CfgNode, configurable
from detectron2.structures import ImageList, Instances

from ..backbone import Backbone, build_backbone
from ..postprocessing import detector_postprocess
from ..proposal_generator import build_proposal_generator
from ..roi_heads import build_roi_heads
from .build import META_ARCH_REGISTRY


class _TwoStageModel(nn.Module):
    """What both architectures share: a normalised, padded batch in, boxes of some size out."""

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        proposal_generator: nn.Module | None,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
    ):
        super().__init__()
        if len(pixel_mean) != len(pixel_std):
            raise ValueError(f"pixel_mean {pixel_mean} and pixel_std {pixel_std} differ in length")
        self.backbone, self.proposal_generator = backbone, proposal_generator
        # Not in the state dict: a checkpoint must not override what the config says.
        for name, values in (("pixel_mean", pixel_mean), ("pixel_std", pixel_std)):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        parts = {"backbone": build_backbone(cfg)}
        shapes = parts["backbone"].output_shape()
        parts["proposal_generator"] = build_proposal_generator(cfg, shapes)
        return parts | {name: cfg.MODEL[name.upper()] for name in ("pixel_mean", "pixel_std")}

    @property
    def device(self) -> torch.device:
        """Where the model's buffers are, and so where its inputs go."""
        return self.pixel_mean.device

    def preprocess_image(self, batched_inputs: list[dict]) -> ImageList:
        """Normalise the (C, h, w) images and pad them to one (N, C, H, W) batch."""
        images = [item["image"].to(self.device) for item in batched_inputs]
        normalised = [(image - self.pixel_mean) / self.pixel_std for image in images]
        divisor, others = self.backbone.size_divisibility, self.backbone.padding_constraints
        return ImageList.from_tensors(normalised, divisor, padding_constraints=others)

    def _see(self, batched_inputs: list[dict]) -> tuple[ImageList, dict[str, torch.Tensor]]:
        images = self.preprocess_image(batched_inputs)
        return images, self.backbone(images.tensor)

    def _instances_of(self, batched_inputs: list[dict], key: str) -> list[Instances] | None:
        if key not in batched_inputs[0]:
            return None
        return [item[key].to(self.device) for item in batched_inputs]

    @staticmethod
    def _postprocess(instances, batched_inputs, image_sizes, key="instances"):
        results = []
        for image_instances, item, (height, width) in zip(
            instances, batched_inputs, image_sizes, strict=True
        ):
            # A data set gives the size of the image file; the network's input may be another.
            size = item.get("height", height), item.get("width", width)
            results.append({key: detector_postprocess(image_instances, *size)})
        return results


@META_ARCH_REGISTRY.register()
class GeneralizedRCNN(_TwoStageModel):
    """Fast, Faster, Mask and Keypoint R-CNN.

    Args:
        backbone: images to a dict of feature maps.
        proposal_generator: features to proposals; None when every input brings its ``proposals``.
        roi_heads: features and proposals to losses or detections.
        pixel_mean: per channel, on the scale of the input images.
        pixel_std: as ``pixel_mean``.
        input_format: channel order of the images ("BGR", "RGB"), for those who ask the model.
        vis_period: drawing during training, which the subset does not have: 0.

    Raises:
        ValueError: mean and standard deviation differ in length.
        NotImplementedError: a ``vis_period`` above 0.
    """

    @configurable
    def __init__(
        self, *, roi_heads: nn.Module, input_format: str | None = None, vis_period=0, **kwargs
    ):
        super().__init__(**kwargs)
        if vis_period > 0:
            raise NotImplementedError(hint("Drawing during training (VIS_PERIOD)"))
        self.roi_heads, self.input_format = roi_heads, input_format

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        parts = super().from_config(cfg)
        parts["roi_heads"] = build_roi_heads(cfg, parts["backbone"].output_shape())
        return parts | {"input_format": cfg.INPUT.FORMAT, "vis_period": cfg.VIS_PERIOD}

    def forward(self, batched_inputs: list[dict]) -> dict[str, torch.Tensor] | list[dict]:
        """Train or detect, according to the module's mode.

        Args:
            batched_inputs: one dict per image. ``image`` (C, h, w); when training ``instances``,
                the ground truth; without a proposal generator ``proposals``; when detecting
                optionally ``height`` and ``width``, the size in pixels that results are wanted in.

        Returns:
            In training the losses by name. Otherwise one ``{"instances": Instances}`` per image
            with ``pred_boxes``, ``scores``, ``pred_classes`` and what the heads add
            (``pred_masks``, ``pred_keypoints``).
        """
        if not self.training:
            return self.inference(batched_inputs)
        images, features = self._see(batched_inputs)
        targets = self._instances_of(batched_inputs, "instances")
        proposals, proposal_losses = self._propose(batched_inputs, images, features, targets)
        _, losses = self.roi_heads(images, features, proposals, targets)
        return {**losses, **proposal_losses}

    def inference(self, batched_inputs: list[dict], detected_instances=None, do_postprocess=True):
        """Detect objects.

        Args:
            batched_inputs: as for :meth:`forward`.
            detected_instances: per image, boxes that are known already (``pred_boxes``,
                ``pred_classes``, in pixels of the network's input); then only masks and keypoints
                are predicted for them.
            do_postprocess: False returns the heads' own ``Instances``, in pixels of the network's
                input and with masks (R, 1, M, M) inside their boxes.

        Raises:
            RuntimeError: the model is in training mode.
        """
        if self.training:
            raise RuntimeError("inference() needs the model in evaluation mode; call eval() first")
        images, features = self._see(batched_inputs)
        if detected_instances is not None:
            given = [image_instances.to(self.device) for image_instances in detected_instances]
            results = self.roi_heads.forward_with_given_boxes(features, given)
        else:
            proposals, _ = self._propose(batched_inputs, images, features, None)
            results, _ = self.roi_heads(images, features, proposals)
        if do_postprocess:
            results = self._postprocess(results, batched_inputs, images.image_sizes)
        return results

    def _propose(self, batched_inputs, images, features, targets):
        if self.proposal_generator is not None:
            return self.proposal_generator(images, features, targets)
        given = self._instances_of(batched_inputs, "proposals")
        if given is None:
            keys = f"needs 'proposals'; the first has {sorted(batched_inputs[0])}"
            raise ValueError(f"Without a proposal generator every input {keys}")
        return given, {}


@META_ARCH_REGISTRY.register()
class ProposalNetwork(_TwoStageModel):
    """The first stage alone, to train a region proposal network or to store its proposals.

    Args:
        backbone: images to a dict of feature maps.
        proposal_generator: features to proposals.
        pixel_mean: per channel, on the scale of the input images.
        pixel_std: as ``pixel_mean``.
    """

    def forward(self, batched_inputs: list[dict]) -> dict[str, torch.Tensor] | list[dict]:
        """Return losses in training, otherwise one ``{"proposals": Instances}`` per image.

        The inputs are those of :meth:`GeneralizedRCNN.forward`; the proposals have
        ``proposal_boxes`` and ``objectness_logits``.
        """
        images, features = self._see(batched_inputs)
        targets = self._instances_of(batched_inputs, "instances")
        proposals, losses = self.proposal_generator(images, features, targets)
        if self.training:
            return losses
        return self._postprocess(proposals, batched_inputs, images.image_sizes, "proposals")


__getattr__ = module_getattr(__name__)
