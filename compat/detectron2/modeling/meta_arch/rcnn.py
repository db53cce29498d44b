"""Two-stage detectors: backbone, then region proposals, then per-region heads.

Letters: N images of the batch, C channels, H and W height and width of the padded batch in pixels.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torchvision.utils import draw_bounding_boxes

from detectron2._absent import module_getattr
from detectron2.config import CfgNode, configurable
from detectron2.structures import Boxes, ImageList, Instances
from detectron2.utils.events import get_event_storage

from ..backbone import Backbone, build_backbone
from ..postprocessing import detector_postprocess
from ..proposal_generator import build_proposal_generator
from ..roi_heads import build_roi_heads
from .build import META_ARCH_REGISTRY

__all__ = ["GeneralizedRCNN", "ProposalNetwork"]

_DRAWN_PROPOSALS = 20


def _output_sizes(batched_inputs: list[dict], image_sizes: list[tuple[int, int]]):
    # A data set gives the size of the image file; the network's input may have been resized.
    for one, (height, width) in zip(batched_inputs, image_sizes, strict=True):
        yield one.get("height", height), one.get("width", width)


class _TwoStageModel(nn.Module):
    """What both architectures share: a normalised, padded batch in, boxes of some size out."""

    def __init__(
        self,
        backbone: Backbone,
        proposal_generator: nn.Module | None,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
    ):
        super().__init__()
        if len(pixel_mean) != len(pixel_std):
            raise ValueError(f"pixel_mean {pixel_mean} and pixel_std {pixel_std} differ in length")
        self.backbone = backbone
        self.proposal_generator = proposal_generator
        # Not in the state dict: a checkpoint must not override what the config says.
        for name, values in (("pixel_mean", pixel_mean), ("pixel_std", pixel_std)):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        backbone = build_backbone(cfg)
        return {
            "backbone": backbone,
            "proposal_generator": build_proposal_generator(cfg, backbone.output_shape()),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
        }

    @property
    def device(self) -> torch.device:
        """Where the model's buffers are, and so where its inputs go."""
        return self.pixel_mean.device

    def preprocess_image(self, batched_inputs: list[dict]) -> ImageList:
        """Normalise the (C, h, w) images and pad them to one (N, C, H, W) batch."""
        normalised = [
            (one["image"].to(self.device) - self.pixel_mean) / self.pixel_std
            for one in batched_inputs
        ]
        return ImageList.from_tensors(
            normalised,
            self.backbone.size_divisibility,
            padding_constraints=self.backbone.padding_constraints,
        )

    def _see(self, batched_inputs: list[dict]) -> tuple[ImageList, dict[str, torch.Tensor]]:
        images = self.preprocess_image(batched_inputs)
        return images, self.backbone(images.tensor)

    def _instances_of(self, batched_inputs: list[dict], key: str) -> list[Instances] | None:
        if key not in batched_inputs[0]:
            return None
        return [one[key].to(self.device) for one in batched_inputs]


@META_ARCH_REGISTRY.register()
class GeneralizedRCNN(_TwoStageModel):
    """Fast, Faster, Mask and Keypoint R-CNN.

    Args:
        backbone: images to a dict of feature maps.
        proposal_generator: features to proposals; None when every input brings its ``proposals``.
        roi_heads: features and proposals to losses or detections.
        pixel_mean: per channel, on the scale of the input images.
        pixel_std: as ``pixel_mean``.
        input_format: channel order of the images ("BGR", "RGB"); only drawing needs it.
        vis_period: draw ground truth and proposals every so many iterations; 0 for never.

    Raises:
        ValueError: mean and standard deviation differ in length, or drawing without a format.
    """

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        proposal_generator: nn.Module | None,
        roi_heads: nn.Module,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        input_format: str | None = None,
        vis_period: int = 0,
    ):
        super().__init__(backbone, proposal_generator, pixel_mean, pixel_std)
        if vis_period > 0 and input_format is None:
            raise ValueError(f"vis_period {vis_period} needs input_format, such as 'BGR'")
        self.roi_heads = roi_heads
        self.input_format = input_format
        self.vis_period = vis_period

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
        if self.vis_period > 0 and get_event_storage().iter % self.vis_period == 0:
            self.visualize_training(batched_inputs, proposals)
        return {**losses, **proposal_losses}

    def inference(
        self,
        batched_inputs: list[dict],
        detected_instances: list[Instances] | None = None,
        do_postprocess: bool = True,
    ) -> list[dict] | list[Instances]:
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
        if detected_instances is None:
            proposals, _ = self._propose(batched_inputs, images, features, None)
            results, _ = self.roi_heads(images, features, proposals, None)
        else:
            known = [one.to(self.device) for one in detected_instances]
            results = self.roi_heads.forward_with_given_boxes(features, known)
        if not do_postprocess:
            return results
        return self._postprocess(results, batched_inputs, images.image_sizes)

    def _propose(self, batched_inputs, images, features, targets):
        if self.proposal_generator is not None:
            return self.proposal_generator(images, features, targets)
        proposals = self._instances_of(batched_inputs, "proposals")
        if proposals is None:
            raise ValueError(
                f"Without a proposal generator every input needs 'proposals'; "
                f"the first has {sorted(batched_inputs[0])}"
            )
        return proposals, {}

    @staticmethod
    def _postprocess(instances, batched_inputs, image_sizes):
        sizes = _output_sizes(batched_inputs, image_sizes)
        return [
            {"instances": detector_postprocess(found, *size)}
            for found, size in zip(instances, sizes, strict=True)
        ]

    def visualize_training(self, batched_inputs: list[dict], proposals: list[Instances]) -> None:
        """Put the first image into the event storage, ground truth left, best proposals right."""
        image = batched_inputs[0]["image"].cpu().clamp(0, 255).to(torch.uint8)
        if self.input_format == "BGR":
            image = image.flip(0)

        def drawn(boxes: Boxes) -> torch.Tensor:
            return draw_bounding_boxes(image, boxes.tensor.cpu()) if len(boxes) else image

        truth = drawn(batched_inputs[0]["instances"].gt_boxes)
        found = drawn(proposals[0].proposal_boxes[:_DRAWN_PROPOSALS])
        picture = torch.cat([truth, found], dim=2).numpy()
        get_event_storage().put_image(
            "Left: GT bounding boxes;  Right: Predicted proposals", picture
        )


@META_ARCH_REGISTRY.register()
class ProposalNetwork(_TwoStageModel):
    """The first stage alone, to train a region proposal network or to store its proposals.

    Args:
        backbone: images to a dict of feature maps.
        proposal_generator: features to proposals.
        pixel_mean: per channel, on the scale of the input images.
        pixel_std: as ``pixel_mean``.
    """

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        proposal_generator: nn.Module,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
    ):
        super().__init__(backbone, proposal_generator, pixel_mean, pixel_std)

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
        sizes = _output_sizes(batched_inputs, images.image_sizes)
        return [
            {"proposals": detector_postprocess(found, *size)}
            for found, size in zip(proposals, sizes, strict=True)
        ]


__getattr__ = module_getattr(__name__)
