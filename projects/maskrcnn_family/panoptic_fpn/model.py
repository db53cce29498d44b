"""Mask R-CNN with a semantic branch on the same pyramid (Panoptic FPN, Sec. 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from maskrcnn_repro.errors import ConfigError, DataError, check_choice
from maskrcnn_repro.modeling.meta_arch import MaskRCNN, in_float32
from maskrcnn_repro.modeling.tta import ViewDetections

from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, SEM_SEG_HEADS_REGISTRY, build_sem_seg_head
from detectron2.modeling.postprocessing import sem_seg_postprocess
from detectron2.structures import ImageList, Instances
from torch import Tensor, nn

from maskrcnn_family.panoptic_fpn.fusion import Fusion

Inputs = list[dict[str, Any]]


@META_ARCH_REGISTRY.register()
class FamilyPanopticFPN(MaskRCNN):
    """Boxes and masks of things, semantic labels, and both in one panoptic map.

    Parameters have the names of Detectron2's ``PanopticFPN``.

    Args:
        sem_seg_head: maps to semantic logits, or to their loss.
        num_semantic_classes: K, all things being one of them.
        fusion: joins detections and labels.
        instance_loss_weight: factor on the losses of the RoI heads, λ_i of Sec. 3.2.
        **parts: those of ``MaskRCNN``.
    """

    makes_panoptic = True
    takes_sem_seg = True

    @configurable
    def __init__(
        self,
        *,
        sem_seg_head: nn.Module,
        num_semantic_classes: int,
        fusion: Fusion,
        instance_loss_weight: float = 1.0,
        **parts: Any,
    ) -> None:
        super().__init__(**parts)
        self.sem_seg_head, self.fusion = sem_seg_head, fusion
        self.num_semantic_classes = num_semantic_classes
        self.instance_loss_weight = instance_loss_weight

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Read ``MODEL.PANOPTIC_FPN`` and ``MODEL.SEM_SEG_HEAD`` beside what the parent reads.

        Raises:
            ConfigError: see :func:`check_panoptic`.
        """
        check_panoptic(cfg)
        parts = super().from_config(cfg)
        return {
            **parts,
            "sem_seg_head": build_sem_seg_head(cfg, parts["backbone"].output_shape()),
            "num_semantic_classes": cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
            "fusion": Fusion.of(cfg),
            "instance_loss_weight": cfg.MODEL.PANOPTIC_FPN.INSTANCE_LOSS_WEIGHT,
        }

    def forward(self, batched_inputs: Inputs) -> Any:
        """Return losses in training, otherwise results; see ``GeneralizedRCNN.forward``.

        Args:
            batched_inputs: those of ``GeneralizedRCNN``, in training also ``sem_seg`` (h, w) int64.

        Returns:
            Of each image, beside ``instances``, ``sem_seg``: logits (K, H, W), and ``panoptic_seg``: see
            :class:`Fusion`.

        Raises:
            DataError: an image without labels, or with one that is no class.
        """
        if not self.training:
            return self.inference(batched_inputs)
        labels = self._labels(batched_inputs)
        images = self.preprocess_image(batched_inputs)
        features = self.backbone(images.tensor)
        _, losses = self.sem_seg_head(features, labels)
        truth = [item["instances"].to(self.device) for item in batched_inputs]
        proposals, proposal_losses = self._proposals_of(images, features, batched_inputs, truth)
        _, head_losses = self.roi_heads(images, features, proposals, truth)
        weighed = {name: self.instance_loss_weight * loss for name, loss in head_losses.items()}
        return {**losses, **proposal_losses, **weighed}

    def inference(
        self,
        batched_inputs: Inputs,
        detected_instances: list[Instances] | None = None,
        do_postprocess: bool = True,
    ) -> list[Any]:
        """Return the parent's results with ``sem_seg`` and ``panoptic_seg``.

        With ``detected_instances`` or without ``do_postprocess`` they are the parent's alone.
        """
        if detected_instances is not None or not do_postprocess:
            return super().inference(batched_inputs, detected_instances, do_postprocess)
        with self.autocast():
            images = self.preprocess_image(batched_inputs)
            features = self.backbone(images.tensor)
            logits, _ = self.sem_seg_head(features)
            proposals, _ = self._proposals_of(images, features, batched_inputs, None)
            instances, _ = self.roi_heads(images, features, proposals, None)
        results = []
        for item, detections, scores, size in zip(
            batched_inputs, instances, logits, images.image_sizes, strict=True
        ):
            result = self.postprocess(in_float32(detections), item)
            shape = result["instances"].image_size
            self._add_labels(result, sem_seg_postprocess(scores.float(), size, *shape))
            results.append(result)
        return results

    def add_views(self, result: dict[str, Any], views: Sequence[ViewDetections]) -> None:
        """Add the mean logits of several views of an image, and the panoptic map of them and the merged detections."""
        shape = result["instances"].image_size
        total: Any = 0
        for view in views:
            with self.autocast():
                logits, _ = self.sem_seg_head(view.features)
            scores = sem_seg_postprocess(logits[0].float(), view.size, *shape)
            total = total + (scores.flip(dims=[2]) if view.flip else scores)
        self._add_labels(result, total / len(views))

    def _add_labels(self, result: dict[str, Any], logits: Tensor) -> None:
        result["sem_seg"] = logits
        result["panoptic_seg"] = self.fusion(result["instances"], logits.argmax(dim=0))

    def _proposals_of(
        self,
        images: ImageList,
        features: dict[str, Tensor],
        batched_inputs: Inputs,
        truth: list[Instances] | None,
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        if self.proposal_generator is None:
            return [item["proposals"].to(self.device) for item in batched_inputs], {}
        return self.proposal_generator(images, features, truth)

    def _labels(self, batched_inputs: Inputs) -> Tensor:
        """Return the semantic labels of a batch, (N, H, W), the padding ignored."""
        head: Any = self.sem_seg_head
        for item in batched_inputs:
            check_labels(item, self.num_semantic_classes, head.ignore_value)
        return ImageList.from_tensors(
            [item["sem_seg"].to(self.device) for item in batched_inputs],
            self.backbone.size_divisibility,
            head.ignore_value,
            self.backbone.padding_constraints,
        ).tensor


def check_labels(item: dict[str, Any], classes: int, ignored: int) -> None:
    """Raise DataError unless a training image has semantic labels, all of them classes or the ignored one."""
    name = item.get("file_name", "?")
    if "sem_seg" not in item:
        raise DataError(f"Image {name!r} has no semantic labels; set DATASETS.WITH_SEM_SEG True.")
    labels = item["sem_seg"]
    wrong = labels[(labels != ignored) & ((labels < 0) | (labels >= classes))]
    if len(wrong):
        raise DataError(
            f"Image {name!r} has the semantic label {int(wrong[0])}, but MODEL.SEM_SEG_HEAD.NUM_CLASSES is {classes}: "
            f"labels are 0 to {classes - 1}, and {ignored} where nothing is labelled."
        )


def check_panoptic(cfg: CfgNode) -> None:
    """Raise ConfigError if keys of a panoptic model contradict each other."""
    names = [name for name, _ in SEM_SEG_HEADS_REGISTRY]
    check_choice("MODEL.SEM_SEG_HEAD.NAME", cfg.MODEL.SEM_SEG_HEAD.NAME, names)
    needed = {
        "DATASETS.WITH_SEM_SEG": (cfg.DATASETS.WITH_SEM_SEG, True, "learns from semantic labels"),
        "MODEL.MASK_ON": (cfg.MODEL.MASK_ON, True, "fuses masks"),
        "MODEL.PANOPTIC_FPN.COMBINE.ENABLED": (
            cfg.MODEL.PANOPTIC_FPN.COMBINE.ENABLED,
            True,
            "always fuses",
        ),
    }
    for key, (value, wanted, reason) in needed.items():
        if value != wanted:
            raise ConfigError(
                f"{key} is {value}, but FamilyPanopticFPN {reason}; set it to {wanted}."
            )
