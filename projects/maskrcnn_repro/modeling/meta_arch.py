"""The whole model: Detectron2's two-stage detector, with precision, memory layout and output of our own.

Shape legend: N images of a batch, C channels, h, w height and width of an input image, H, W those that
results are wanted in, all in pixels; R detections of an image, m side of a predicted mask in cells.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

from maskrcnn_repro.errors import ConfigError, check_choice
from maskrcnn_repro.modeling.norms import set_eps
from maskrcnn_repro.modeling.paste import paste_to_rles

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, GeneralizedRCNN, detector_postprocess
from detectron2.structures import ImageList, Instances, ROIMasks
from torch import nn

PRECISIONS = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "auto": torch.float32,
}
"""``MODEL.INFERENCE.PRECISION`` -> what convolutions and matrix products compute in.

``auto`` is the choice of a predictor; a training's evaluation and every table compute in float32.
"""
UNLABELLED = 255
"""Semantic label of pixels that have none, the padding among them."""
MASK_OUTPUTS = ("bitmap", "rle")
"""What ``MODEL.INFERENCE.MASK_OUTPUT`` may be."""


class LabelledImages(ImageList):
    """A batch with semantic labels, as RoI heads get it in training with ``DATASETS.WITH_SEM_SEG``.

    Args:
        images: the padded batch.
        sem_seg: (N, H, W) int64 of the same size, :data:`UNLABELLED` in the padding.
    """

    def __init__(self, images: ImageList, sem_seg: torch.Tensor) -> None:
        super().__init__(images.tensor, images.image_sizes)
        self.sem_seg = sem_seg


@META_ARCH_REGISTRY.register()
class MaskRCNN(GeneralizedRCNN):
    """Fast, Faster, Mask and Keypoint R-CNN; with its defaults Detectron2's numbers, bit for bit.

    Args:
        precision: of inference alone: ``"float32"`` or ``"auto"``, or autocast to ``"bfloat16"`` or ``"float16"``.
            Results are float32 in any case, and training is not touched.
        channels_last: keep weights and the batch of images in channels-last memory.
        mask_output: ``pred_masks`` as ``"bitmap"``, an (R, H, W) bool tensor, or as ``"rle"``,
            :class:`~maskrcnn_repro.modeling.rle.RLEMasks` of the same pixels in a fraction of the
            memory and time.
        keep_images: give each result also the ``image`` that it belongs to, as it came in.
        **parts: those of ``GeneralizedRCNN``.

    Raises:
        ConfigError: a precision or an output that does not exist.
    """

    makes_panoptic = False
    """Whether results have Detectron2's ``panoptic_seg``; a class upon this one says so."""

    @configurable
    def __init__(
        self,
        *,
        precision: str = "float32",
        channels_last: bool = False,
        mask_output: Literal["bitmap", "rle"] = "bitmap",
        keep_images: bool = False,
        **parts: Any,
    ) -> None:
        _check_names(precision, mask_output)
        super().__init__(**parts)
        self.precision = PRECISIONS[precision]
        self.channels_last = channels_last
        self.mask_output = mask_output
        self.keep_images = keep_images
        if channels_last:
            self.to(memory_format=torch.channels_last)
        if self.precision != torch.float32:
            for predictor in _box_predictors(self.roi_heads):
                predictor.register_forward_hook(out_in_float32)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Read ``MODEL.INFERENCE``, ``CHANNELS_LAST`` and ``RESNETS.NORM_EPS`` beside what Detectron2 reads.

        Raises:
            ConfigError: see :func:`check_inference`.
        """
        check_inference(cfg)
        keys, parts = cfg.MODEL.INFERENCE, super().from_config(cfg)
        set_eps(parts["backbone"], cfg.MODEL.RESNETS.NORM_EPS)
        return {
            **parts,
            "precision": keys.PRECISION,
            "channels_last": cfg.MODEL.CHANNELS_LAST,
            "mask_output": keys.MASK_OUTPUT,
            "keep_images": keys.KEEP_IMAGES,
        }

    def preprocess_image(self, batched_inputs: list[dict[str, Any]]) -> ImageList:
        """Normalise the (C, h, w) images and pad them to one batch, in the memory layout of the weights.

        In training it is :class:`LabelledImages` where the inputs bring ``sem_seg``, (h, w) each.
        """
        images = super().preprocess_image(batched_inputs)
        if self.channels_last:
            images.tensor = images.tensor.contiguous(memory_format=torch.channels_last)
        if self.training and "sem_seg" in batched_inputs[0]:
            labels = [model_input["sem_seg"].to(self.device) for model_input in batched_inputs]
            sides = self.backbone.size_divisibility, UNLABELLED, self.backbone.padding_constraints
            return LabelledImages(images, ImageList.from_tensors(labels, *sides).tensor)
        return images

    def inference(
        self,
        batched_inputs: list[dict[str, Any]],
        detected_instances: list[Instances] | None = None,
        do_postprocess: bool = True,
    ) -> list[Any]:
        """Detect objects, or add masks and keypoints to detections; see ``GeneralizedRCNN.inference``.

        Args:
            batched_inputs: one dict per image: ``image``, optionally ``height`` and ``width`` (H, W), and
                ``proposals`` where the model has no proposal generator.
            detected_instances: of each image ``pred_boxes`` and ``pred_classes`` that are known already,
                in pixels of its input.
            do_postprocess: False returns the heads' own ``Instances``: boxes and keypoints in pixels of the
                input, masks as (R, 1, m, m) probabilities over their boxes.

        Returns:
            For each image ``{"instances": Instances}``, with ``keep_images`` also its ``image``.
        """
        with self.autocast():
            results = super().inference(batched_inputs, detected_instances, do_postprocess=False)
        results = [in_float32(instances) for instances in results]
        if not do_postprocess:
            return results
        pairs = zip(results, batched_inputs, strict=True)
        return [self.postprocess(instances, model_input) for instances, model_input in pairs]

    def postprocess(self, instances: Instances, model_input: dict[str, Any]) -> dict[str, Any]:
        """Scale an image's detections to the size that its input asks for.

        Args:
            instances: as :meth:`inference` returns them without postprocessing; may be changed.
            model_input: the dict of the image, with ``height`` and ``width`` (H, W) where they are not those
                of the input.

        Returns:
            As :meth:`inference`, for one image.
        """
        height, width = instances.image_size
        size = model_input.get("height", height), model_input.get("width", width)
        scale = detector_postprocess if self.mask_output == "bitmap" else postprocess_to_rles
        result = {"instances": scale(instances, *size)}
        if self.keep_images:
            result["image"] = model_input["image"]
        return result

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context of this model's precision, for those who call its parts one by one."""
        # Not even a disabled autocast for float32: one of the caller's stays as it is.
        if self.precision == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.precision)


def postprocess_to_rles(instances: Instances, height: int, width: int) -> Instances:
    """Return what ``detector_postprocess`` does, with masks as RLEs.

    Args:
        instances: of one image, in pixels of its input; masks, if any, as (R, 1, m, m) probabilities over
            their boxes. May be changed.
        height: H.
        width: W.
    """
    if not instances.has("pred_masks"):
        return detector_postprocess(instances, height, width)
    fields = dict(instances.get_fields())
    masks = fields.pop("pred_masks")
    # Under another name Detectron2 drops the masks of empty boxes, too, but does not paste the others.
    fields["roi_masks"] = masks.tensor if isinstance(masks, ROIMasks) else masks[:, 0]
    scaled = detector_postprocess(Instances(instances.image_size, **fields), height, width)
    roi_masks = scaled.roi_masks
    scaled.remove("roi_masks")
    scaled.pred_masks = paste_to_rles(roi_masks, scaled.pred_boxes.tensor, (height, width))
    return scaled


def in_float32(instances: Instances) -> Instances:
    """Return the instances with all tensors of lower precision as float32."""
    fields = {
        name: value.float()
        if isinstance(value, torch.Tensor) and value.is_floating_point()
        else value
        for name, value in instances.get_fields().items()
    }
    return Instances(instances.image_size, **fields)


def _box_predictors(roi_heads: nn.Module) -> list[nn.Module]:
    """Return the layers of class scores and boxes: one, or one of each stage of a cascade."""
    predictor = getattr(roi_heads, "box_predictor", None)
    if isinstance(predictor, nn.ModuleList):
        return list(predictor)
    return [predictor] if isinstance(predictor, nn.Module) else []


def out_in_float32(layer: nn.Module, _: Any, output: Any) -> Any:
    """Return class logits and box deltas in float32: a softmax in bfloat16 would tie the best scores."""
    return output if layer.training else tuple(tensor.float() for tensor in output)


def check_inference(cfg: CfgNode) -> None:
    """Raise ConfigError if a key of ``MODEL.INFERENCE`` has a value that no model can have.

    A reduced precision does not go with a keypoint head that would round coordinates to it.
    """
    keys, head = cfg.MODEL.INFERENCE, cfg.MODEL.ROI_KEYPOINT_HEAD.NAME
    _check_names(keys.PRECISION, keys.MASK_OUTPUT)
    reduced = keys.PRECISION not in ("float32", "auto")
    if cfg.MODEL.KEYPOINT_ON and reduced and head.startswith("KRCNN"):
        raise ConfigError(
            f"MODEL.INFERENCE.PRECISION {keys.PRECISION!r} would round keypoints to it in "
            f"Detectron2's {head!r}; set MODEL.ROI_KEYPOINT_HEAD.NAME 'FCNKeypointHead'."
        )


def _check_names(precision: str, mask_output: str) -> None:
    check_choice("MODEL.INFERENCE.PRECISION", precision, PRECISIONS)
    check_choice("MODEL.INFERENCE.MASK_OUTPUT", mask_output, MASK_OUTPUTS)
