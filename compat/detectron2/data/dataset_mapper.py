"""The default way from a data set dict to what a model takes.

H, W = height and width of the transformed image, C = channels.
"""

import copy
import logging
from collections.abc import Sequence
from typing import Any

import torch

from detectron2._absent import module_getattr
from detectron2.config import configurable

from . import detection_utils as utils
from . import transforms as T

__all__ = ["DatasetMapper"]


class DatasetMapper:
    """Read an image, augment it, and move its annotations along.

    A subclass that reads other files or wants other annotations overrides `__call__` or
    `_transform_annotations`.
    """

    @configurable
    def __init__(
        self,
        is_train: bool,
        *,
        augmentations: Sequence[T.Augmentation | T.Transform],
        image_format: str,
        use_keypoint: bool = False,
        keypoint_hflip_indices: Sequence[int] | None = None,
        use_instance_mask: bool = False,
        recompute_boxes: bool = False,
        instance_mask_format: str = "polygon",
        precomputed_proposal_topk: int | None = None,
    ):
        """Initialize; call it with these arguments or with a config and `is_train`.

        Args:
            is_train: whether annotations are wanted.
            augmentations: what to do to the image, in this order.
            image_format: see `detection_utils.read_image`.
            use_keypoint: whether to keep keypoints.
            keypoint_hflip_indices: see `detection_utils.create_keypoint_hflip_indices`.
            use_instance_mask: whether to keep segmentations.
            recompute_boxes: whether to draw boxes anew around the masks, which a crop may have cut.
            instance_mask_format: "polygon" or "bitmask".
            precomputed_proposal_topk: how many stored proposals to keep; None for no proposals.

        Raises:
            ValueError: `recompute_boxes` without `use_instance_mask`.
        """
        if recompute_boxes and not use_instance_mask:
            raise ValueError("recompute_boxes needs use_instance_mask: boxes come from masks")
        self.is_train, self.image_format = is_train, image_format
        self.use_keypoint, self.keypoint_hflip_indices = use_keypoint, keypoint_hflip_indices
        self.use_instance_mask, self.recompute_boxes = use_instance_mask, recompute_boxes
        self.instance_mask_format = instance_mask_format
        self.proposal_topk = precomputed_proposal_topk
        self.augmentations = T.AugmentationList(list(augmentations))
        purpose = "training" if is_train else "inference"
        logging.getLogger(__name__).info(f"Augmentations in {purpose}: {self.augmentations}")

    @classmethod
    def from_config(cls, cfg, is_train: bool = True) -> dict[str, Any]:
        inputs, model, data = cfg.INPUT, cfg.MODEL, cfg.DATASETS
        augmentations = utils.build_augmentation(cfg, is_train)
        crops = is_train and inputs.CROP.ENABLED
        if crops:
            augmentations.insert(0, T.RandomCrop(inputs.CROP.TYPE, inputs.CROP.SIZE))
        topk = data[f"PRECOMPUTED_PROPOSAL_TOPK_{'TRAIN' if is_train else 'TEST'}"]
        mirror = utils.create_keypoint_hflip_indices(data.TRAIN) if model.KEYPOINT_ON else None
        return {
            "augmentations": augmentations,
            "image_format": inputs.FORMAT,
            "instance_mask_format": inputs.MASK_FORMAT,
            "is_train": is_train,
            "keypoint_hflip_indices": mirror,
            "precomputed_proposal_topk": topk if model.LOAD_PROPOSALS else None,
            "recompute_boxes": crops and model.MASK_ON,
            "use_instance_mask": model.MASK_ON,
            "use_keypoint": model.KEYPOINT_ON,
        }

    def __call__(self, dataset_dict: dict) -> dict:
        """Map one record; the record itself is not changed.

        Returns:
            A copy with "image" (C, H, W) in the image's type; in training "instances" instead of
            "annotations", crowds and empty ones left out; "proposals" and "sem_seg" (H, W) int64
            where the record has them.

        Raises:
            SizeMismatchError: the image is not as large as the record says.
        """
        record = copy.deepcopy(dataset_dict)
        seen = T.AugInput(utils.read_image(record["file_name"], self.image_format))
        utils.check_image_size(record, seen.image)
        if label_file := record.pop("sem_seg_file_name", None):
            seen.sem_seg = utils.read_image(label_file, "L")[:, :, 0]
        transforms = self.augmentations(seen)
        size = seen.image.shape[:2]
        # Tensors, because a worker hands them over in shared memory and anything else as a pickle.
        record["image"] = torch.as_tensor(seen.image.transpose(2, 0, 1).copy())
        if seen.sem_seg is not None:
            record["sem_seg"] = torch.as_tensor(seen.sem_seg.astype("long"))
        if (topk := self.proposal_topk) is not None:
            utils.transform_proposals(record, size, transforms, proposal_topk=topk)
        if self.is_train and "annotations" in record:
            self._transform_annotations(record, transforms, size)
        record.pop("annotations", None)
        return record

    def _transform_annotations(
        self, dataset_dict: dict, transforms: T.TransformList, image_shape: tuple[int, int]
    ) -> None:
        """Replace "annotations" by "instances"."""
        used = {"segmentation": self.use_instance_mask, "keypoints": self.use_keypoint}
        flip = {"keypoint_hflip_indices": self.keypoint_hflip_indices}
        objects = [obj for obj in dataset_dict.pop("annotations") if not obj.get("iscrowd", 0)]
        for obj in objects:
            for key in (key for key, wanted in used.items() if not wanted):
                obj.pop(key, None)
            obj.update(utils.transform_instance_annotations(obj, transforms, image_shape, **flip))
        targets = utils.annotations_to_instances(objects, image_shape, self.instance_mask_format)
        # The tight box of what a crop left of a mask is smaller than what it left of the box.
        if self.recompute_boxes and targets.has("gt_masks"):
            targets.gt_boxes = targets.gt_masks.get_bounding_boxes()
        dataset_dict["instances"] = utils.filter_empty_instances(targets)


__getattr__ = module_getattr(__name__)
