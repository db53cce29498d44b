"""Stored proposals: from their file to the records, and from a record to the model's input.

P = proposals of one image.
"""

import logging

import numpy as np
import torch

from detectron2.checkpoint._pickle import load_arrays
from detectron2.structures import Boxes, BoxMode, Instances
from detectron2.utils.file_io import PathManager

from . import transforms as T

__all__ = ["load_proposals_into_dataset"]

# Names of Detectron's proposal files, and what they are called since.
_OLD_NAMES = {"indexes": "ids", "scores": "objectness_logits"}


def load_proposals_into_dataset(dataset_dicts: list[dict], proposal_file: str) -> list[dict]:
    """Add the proposals of a file to the images, in place, best first.

    The file is a pickled dict of equally long lists, an entry per image, and a mode:

    - "ids": image ids, int or str;
    - "boxes": arrays (P, 4);
    - "objectness_logits": arrays (P,);
    - "bbox_mode": the `BoxMode` of all boxes, XYXY_ABS if missing.

    An image gets "proposal_boxes" (P, 4), "proposal_objectness_logits" (P,) and
    "proposal_bbox_mode".

    Raises:
        KeyError: the file has nothing for one of the images.
        pickle.UnpicklingError: the file holds more than arrays, plain containers and a `BoxMode`.
    """
    logging.getLogger(__name__).info(f"Loading proposals from {proposal_file}")
    with PathManager.open(proposal_file, "rb") as stream:
        content = load_arrays(stream, {(BoxMode.__module__, BoxMode.__name__): BoxMode}).items()
    stored = {_OLD_NAMES.get(name, name): value for name, value in content}
    row_of = {str(image_id): row for row, image_id in enumerate(stored["ids"])}
    for image in dataset_dicts:
        row = row_of.get(str(image["image_id"]))
        if row is None:
            raise KeyError(f"{proposal_file} has no proposals for image {image['image_id']!r}")
        logits = np.asarray(stored["objectness_logits"][row])
        best_first = logits.argsort()[::-1]
        image["proposal_boxes"] = np.asarray(stored["boxes"][row])[best_first]
        image["proposal_objectness_logits"] = logits[best_first]
        image["proposal_bbox_mode"] = BoxMode(stored.get("bbox_mode", BoxMode.XYXY_ABS))
    return dataset_dicts


def transform_proposals(
    dataset_dict: dict,
    image_shape: tuple[int, int],
    transforms: T.TransformList,
    *,
    proposal_topk: int,
    min_box_size: float = 0,
) -> None:
    """Replace "proposal_boxes" and its like by "proposals", `Instances` in the transformed image.

    Does nothing without "proposal_boxes".

    Args:
        dataset_dict: see `load_proposals_into_dataset`; changed in place.
        image_shape: (H, W) of the transformed image, to which boxes are clipped.
        transforms: what was done to the image.
        proposal_topk: how many to keep, of those sorted best first.
        min_box_size: boxes must be wider and higher than this, in pixels.
    """
    if "proposal_boxes" not in dataset_dict:
        return
    stored, mode = dataset_dict.pop("proposal_boxes"), dataset_dict.pop("proposal_bbox_mode")
    logits = dataset_dict.pop("proposal_objectness_logits").astype("float32")
    boxes = Boxes(transforms.apply_box(BoxMode.convert(stored, mode, BoxMode.XYXY_ABS)))
    boxes.clip(image_shape)
    kept = boxes.nonempty(threshold=min_box_size).nonzero().flatten()[:proposal_topk]
    dataset_dict["proposals"] = Instances(
        image_shape, proposal_boxes=boxes[kept], objectness_logits=torch.as_tensor(logits)[kept]
    )
