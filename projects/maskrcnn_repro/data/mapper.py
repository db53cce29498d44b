"""Detectron2's mapper, for images without objects, too."""

from __future__ import annotations

from typing import Any

from detectron2.data import DatasetMapper
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T


class TrainMapper(DatasetMapper):
    """Detectron2's mapper; images without objects pass in training with ``INPUT.CROP`` as well.

    With a crop Detectron2 draws boxes anew around the masks, which an image without objects does not have.
    """

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
