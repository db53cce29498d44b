"""Detectron2's mapper, for images without objects, too."""

from __future__ import annotations

from typing import Any

from maskrcnn_repro.data.resize import with_resizing

from detectron2.config import CfgNode
from detectron2.data import DatasetMapper
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T


class TrainMapper(DatasetMapper):
    """Detectron2's mapper, which resizes as ``INPUT.RESIZE`` says.

    Images without objects pass in training with ``INPUT.CROP`` as well: with a crop Detectron2 draws boxes anew
    around the masks, which such an image does not have.
    """

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict[str, Any]:
        """Read what Detectron2 reads, and ``INPUT.RESIZE``."""
        parts: dict[str, Any] = super().from_config(cfg, is_train)
        steps = with_resizing(cfg, parts["augmentations"], is_train=is_train)
        return parts | {"augmentations": steps}

    def _transform_annotations(
        self, dataset_dict: dict[str, Any], transforms: T.TransformList, image_shape: Any
    ) -> None:
        # Detectron2 leaves crowds out before it looks at the masks: with nothing else there are no objects.
        if all(annotation.get("iscrowd", 0) for annotation in dataset_dict["annotations"]):
            del dataset_dict["annotations"]
            empty = utils.annotations_to_instances([], image_shape, self.instance_mask_format)
            dataset_dict["instances"] = empty
        else:
            super()._transform_annotations(dataset_dict, transforms, image_shape)
