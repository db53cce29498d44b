"""Detectron2's mapper, for images without objects, too, and with fewer copies of the image."""

from __future__ import annotations

import copy
from typing import Any

from maskrcnn_repro.data.densepose.surface import Mirror
from maskrcnn_repro.data.densepose.truth import mirror_of
from maskrcnn_repro.data.mapped_objects import instances_at_once, instances_with_surfaces
from maskrcnn_repro.data.resize import planes, with_resizing

from detectron2.config import CfgNode, configurable
from detectron2.data import DatasetMapper
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T


class TrainMapper(DatasetMapper):
    """Detectron2's mapper, which resizes as ``INPUT.RESIZE`` says.

    Images without objects pass in training with ``INPUT.CROP`` as well: with a crop Detectron2 draws boxes anew
    around the masks, which such an image does not have.

    Args:
        is_train: whether annotations are wanted.
        with_surfaces: whether objects get their surface coordinates as ``gt_densepose``.
        surface_mirror: what a mirror makes of these; None where no image is mirrored.
        **parts: those of ``DatasetMapper``.
    """

    @configurable
    def __init__(
        self,
        is_train: bool,
        *,
        with_surfaces: bool = False,
        surface_mirror: Mirror | None = None,
        **parts: Any,
    ) -> None:
        super().__init__(is_train, **parts)
        self.with_surfaces = with_surfaces
        self.surface_mirror = surface_mirror

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict[str, Any]:
        """Read what Detectron2 reads, ``INPUT.RESIZE`` and ``MODEL.DENSEPOSE_ON``."""
        parts: dict[str, Any] = super().from_config(cfg, is_train)
        steps = with_resizing(cfg, parts["augmentations"], is_train=is_train)
        parts |= {"augmentations": steps}
        if is_train and cfg.MODEL.DENSEPOSE_ON:
            parts["with_surfaces"] = True
            if cfg.INPUT.RANDOM_FLIP == "horizontal":
                parts["surface_mirror"] = mirror_of(cfg.DATASETS.TRAIN[0])
        return parts

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """Map a dataset dict, which is not changed, to what Detectron2's mapper makes of it."""
        if "sem_seg_file_name" in dataset_dict or self.proposal_topk is not None:
            return super().__call__(dataset_dict)
        annotations = dataset_dict.get("annotations")
        record: dict[str, Any] = copy.deepcopy(
            {key: value for key, value in dataset_dict.items() if key != "annotations"}
        )
        seen = T.AugInput(utils.read_image(record["file_name"], self.image_format))
        utils.check_image_size(record, seen.image)
        transforms = self.augmentations(seen)
        record["image"] = planes(seen.image)
        if self.is_train and annotations is not None:
            record["annotations"] = annotations
            self._transform_annotations(record, transforms, seen.image.shape[:2])
        return record

    def _transform_annotations(
        self, dataset_dict: dict[str, Any], transforms: T.TransformList, image_shape: Any
    ) -> None:
        # Detectron2 leaves crowds out before it looks at the masks: with nothing else there are no objects.
        objects = [each for each in dataset_dict["annotations"] if not each.get("iscrowd", 0)]
        instances = None
        if self.with_surfaces:
            kept = {"segmentation": self.use_instance_mask, "keypoints": self.use_keypoint}
            instances = instances_with_surfaces(
                [{k: v for k, v in each.items() if kept.get(k, True)} for each in objects],
                transforms,
                image_shape,
                mirror=self.surface_mirror,
                mask_format=self.instance_mask_format,
                keypoint_flip=self.keypoint_hflip_indices,
            )
        elif not objects:
            instances = utils.annotations_to_instances([], image_shape, self.instance_mask_format)
        elif self._takes_polygons():
            instances = instances_at_once(objects, transforms, image_shape)
        if instances is None:
            # Transforms may change the lists in place.
            dataset_dict["annotations"] = copy.deepcopy(objects)
            super()._transform_annotations(dataset_dict, transforms, image_shape)
        else:
            del dataset_dict["annotations"]
            dataset_dict["instances"] = instances

    def _takes_polygons(self) -> bool:
        polygons = self.use_instance_mask and self.instance_mask_format == "polygon"
        return polygons and not (self.use_keypoint or self.recompute_boxes)
