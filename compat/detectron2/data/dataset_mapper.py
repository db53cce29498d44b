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

logger = logging.getLogger(__name__)


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
        use_instance_mask: bool = False,
        use_keypoint: bool = False,
        instance_mask_format: str = "polygon",
        keypoint_hflip_indices: Sequence[int] | None = None,
        precomputed_proposal_topk: int | None = None,
        recompute_boxes: bool = False,
    ):
        """Initialize; call it with these arguments or with a config and `is_train`.

        Args:
            is_train: whether annotations are wanted.
            augmentations: what to do to the image, in this order.
            image_format: see `detection_utils.read_image`.
            use_instance_mask: whether to keep segmentations.
            use_keypoint: whether to keep keypoints.
            instance_mask_format: "polygon" or "bitmask".
            keypoint_hflip_indices: see `detection_utils.create_keypoint_hflip_indices`.
            precomputed_proposal_topk: how many of the image's proposals to keep; None for no proposals.
            recompute_boxes: whether to draw boxes anew around the masks, which a crop may have cut.

        Raises:
            ValueError: `recompute_boxes` without `use_instance_mask`.
        """
        if recompute_boxes and not use_instance_mask:
            raise ValueError("recompute_boxes needs use_instance_mask: boxes come from masks")
        self.is_train, self.image_format = is_train, image_format
        self.augmentations = T.AugmentationList(augmentations)
        self.use_instance_mask, self.use_keypoint = use_instance_mask, use_keypoint
        self.instance_mask_format, self.recompute_boxes = instance_mask_format, recompute_boxes
        self.keypoint_hflip_indices = keypoint_hflip_indices
        self.proposal_topk = precomputed_proposal_topk
        purpose = "training" if is_train else "inference"
        logger.info(f"Augmentations in {purpose}: {list(augmentations)}")

    @classmethod
    def from_config(cls, cfg, is_train: bool = True) -> dict[str, Any]:
        inputs, model, data = cfg.INPUT, cfg.MODEL, cfg.DATASETS
        augmentations = utils.build_augmentation(cfg, is_train)
        crops = is_train and inputs.CROP.ENABLED
        if crops:
            augmentations.insert(0, T.RandomCrop(inputs.CROP.TYPE, inputs.CROP.SIZE))
        arguments = {
            "is_train": is_train,
            "augmentations": augmentations,
            "image_format": inputs.FORMAT,
            "use_instance_mask": model.MASK_ON,
            "use_keypoint": model.KEYPOINT_ON,
            "instance_mask_format": inputs.MASK_FORMAT,
            "recompute_boxes": crops and model.MASK_ON,
        }
        if model.KEYPOINT_ON:
            arguments["keypoint_hflip_indices"] = utils.create_keypoint_hflip_indices(data.TRAIN)
        if model.LOAD_PROPOSALS:
            train, test = data.PRECOMPUTED_PROPOSAL_TOPK_TRAIN, data.PRECOMPUTED_PROPOSAL_TOPK_TEST
            arguments["precomputed_proposal_topk"] = train if is_train else test
        return arguments

    def __call__(self, dataset_dict: dict) -> dict:
        """Map one record; the record itself is not changed.

        Returns:
            A copy with "image" (C, H, W) in the image's type; in training "instances" instead of "annotations",
            crowds and empty ones left out; "proposals" and "sem_seg" (H, W) int64 where the record has them.

        Raises:
            SizeMismatchError: the image is not as large as the record says.
        """
        record = copy.deepcopy(dataset_dict)
        image = utils.read_image(record["file_name"], format=self.image_format)
        utils.check_image_size(record, image)
        labels = None
        if "sem_seg_file_name" in record:
            labels = utils.read_image(record.pop("sem_seg_file_name"), "L").squeeze(2)
        seen = T.AugInput(image, sem_seg=labels)
        transforms = self.augmentations(seen)
        image_size = seen.image.shape[:2]
        # Tensors, because a worker hands them over in shared memory and anything else as a pickle.
        record["image"] = torch.as_tensor(seen.image.transpose(2, 0, 1).copy())
        if seen.sem_seg is not None:
            record["sem_seg"] = torch.as_tensor(seen.sem_seg.astype("long"))
        if self.proposal_topk is not None:
            utils.transform_proposals(
                record, image_size, transforms, proposal_topk=self.proposal_topk
            )
        if not self.is_train:
            record.pop("annotations", None)
        elif "annotations" in record:
            self._transform_annotations(record, transforms, image_size)
        return record

    def _transform_annotations(
        self, dataset_dict: dict, transforms: T.TransformList, image_shape: tuple[int, int]
    ) -> None:
        """Replace "annotations" by "instances"."""
        unused = set() if self.use_instance_mask else {"segmentation"}
        if not self.use_keypoint:
            unused.add("keypoints")
        moved = [
            utils.transform_instance_annotations(
                {key: value for key, value in annotation.items() if key not in unused},
                transforms,
                image_shape,
                keypoint_hflip_indices=self.keypoint_hflip_indices,
            )
            for annotation in dataset_dict.pop("annotations")
            if annotation.get("iscrowd", 0) == 0
        ]
        instances = utils.annotations_to_instances(
            moved, image_shape, mask_format=self.instance_mask_format
        )
        # The tight box of what a crop left of a mask is smaller than what it left of the box.
        if self.recompute_boxes and instances.has("gt_masks"):
            instances.gt_boxes = instances.gt_masks.get_bounding_boxes()
        dataset_dict["instances"] = utils.filter_empty_instances(instances)


__getattr__ = module_getattr(__name__)
