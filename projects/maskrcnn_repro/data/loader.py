"""Loaders of training and test data; images from disk or kept in memory, perhaps stored proposals.

H, W = height and width of an image in pixels. Boxes are xyxy in pixels of the resized image.
"""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from maskrcnn_repro.data.proposals.mapper import WithStoredProposals, placed
from maskrcnn_repro.data.proposals.prepare import open_store, stores_of
from maskrcnn_repro.data.proposals.store import ProposalStore
from maskrcnn_repro.data.stream import build_sample_loader
from maskrcnn_repro.errors import ConfigError

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetMapper, build_detection_test_loader, get_detection_dataset_dicts
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T
from detectron2.structures import Instances

logger = logging.getLogger(__name__)
Mapper = Callable[[dict[str, Any]], dict[str, Any]]
"""Makes the model's input of a dataset dict."""
CHANNELS = {"BGR": 3, "RGB": 3, "L": 1}
"""Values of INPUT.FORMAT, to the channels of an image; ``L`` is grey."""
MEMORY_SHARE = 0.5
"""Fraction of the machine's memory that cached images may take."""


def build_train_loader(cfg: CfgNode, first: int = 0) -> Iterable[list[dict[str, Any]]]:
    """Return Detectron2's endless training loader over ``cfg.DATASETS.TRAIN``.

    With ``MODEL.LOAD_PROPOSALS`` each image brings its stored ``proposals``.

    Args:
        cfg: the config.
        first: the iteration whose batch comes first.

    Raises:
        ConfigError: ``DATALOADER.CACHE_IMAGES`` is set and the images do not fit into memory.
        DataError: stored proposals cannot be read or miss images.
    """
    stores = stores_of(cfg, "TRAIN") if cfg.MODEL.LOAD_PROPOSALS else []
    records = training_records(cfg, stores)
    mapper = training_mapper(cfg, records, stores)
    return build_sample_loader(cfg, records, mapper, first=first)


def build_test_loader(cfg: CfgNode, name: str) -> Iterable[list[dict[str, Any]]]:
    """Return Detectron2's loader of all images of a data set, for evaluation.

    Images are resized to ``INPUT.MIN_SIZE_TEST``, with ``TEST.AUG.ENABLED`` they are as in their files.
    With ``MODEL.LOAD_PROPOSALS`` each image brings its stored ``proposals``; the data set is then one of
    ``cfg.DATASETS.TEST``.

    Raises:
        DataError: stored proposals cannot be read or miss images.
    """
    records = get_detection_dataset_dicts([name], filter_empty=False)
    # With several views of an image, each is made of the file's pixels, not of resized ones.
    resizing: dict[str, Any] = {"augmentations": []} if cfg.TEST.AUG.ENABLED else {}
    # Detectron2's mapper asks the training sets what a mirror swaps; there may be none.
    tested = cfg.clone()
    tested.defrost()
    tested.DATASETS.TRAIN = (name,)
    mapper: Mapper = DatasetMapper(tested, False, **resizing)
    if cfg.MODEL.LOAD_PROPOSALS:
        place = list(cfg.DATASETS.TEST).index(name)
        store = open_store(cfg.DATASETS.PROPOSAL_FILES_TEST[place])
        records, mapper = placed(records, store, 0), WithStoredProposals(mapper, [store])
    return build_detection_test_loader(
        records, mapper=mapper, num_workers=cfg.DATALOADER.NUM_WORKERS
    )


def training_records(cfg: CfgNode, stores: Sequence[ProposalStore] = ()) -> list[dict[str, Any]]:
    """Return the dataset dicts of ``cfg.DATASETS.TRAIN`` that are trained on, in their order.

    Args:
        cfg: the config.
        stores: stored proposals, one store per data set; each record then says where its own lie.
    """

    def chosen(names: Sequence[str]) -> list[dict[str, Any]]:
        return get_detection_dataset_dicts(
            names,
            filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS,
            min_keypoints=min_keypoints(cfg),
        )

    if not stores:
        return chosen(cfg.DATASETS.TRAIN)
    # One by one: two data sets may use the same image ids.
    pairs = zip(cfg.DATASETS.TRAIN, stores, strict=True)
    lists = [placed(chosen([name]), store, i) for i, (name, store) in enumerate(pairs)]
    return list(itertools.chain.from_iterable(lists))


def training_mapper(
    cfg: CfgNode, records: Sequence[dict[str, Any]], stores: Sequence[ProposalStore] = ()
) -> Mapper:
    """Return what makes the model's input of one of ``records``, see :func:`training_records`."""
    mapper: Mapper = DatasetMapper(cfg, True)
    if cfg.DATALOADER.CACHE_IMAGES:
        images = DecodedImages(records, cfg.INPUT.FORMAT)
        mapper = CachedMapper(images, **DatasetMapper.from_config(cfg, is_train=True))
    return WithStoredProposals(mapper, stores) if stores else mapper


def min_keypoints(cfg: CfgNode) -> int:
    """Return how many annotated keypoints an image needs to be trained on; 0: it needs none.

    All four rows of Table 5 learn from the images with keypoints (Sec. 5), with a keypoint head or without.
    """
    least = int(cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE)
    if cfg.DATASETS.ONLY_WITH_KEYPOINTS:
        return max(least, 1)
    return least if cfg.MODEL.KEYPOINT_ON else 0


class DecodedImages:
    """Images by file name, decoded once into one block of memory that data-loader workers share.

    One block, because every tensor sent to a spawned worker costs a file descriptor.

    Args:
        records: dataset dicts with ``file_name``, ``height`` and ``width``.
        image_format: one of :data:`CHANNELS`.
    """

    def __init__(self, records: Sequence[dict[str, Any]], image_format: str) -> None:
        channels = CHANNELS[image_format]
        sizes = {r["file_name"]: (r["height"], r["width"], channels) for r in records}
        ends = np.cumsum([int(np.prod(size)) for size in sizes.values()])
        _check_memory(int(ends[-1]), len(sizes))
        self._block = torch.empty(int(ends[-1]), dtype=torch.uint8).share_memory_()
        self._places = {
            name: (int(end) - int(np.prod(size)), int(end), size)
            for (name, size), end in zip(sizes.items(), ends, strict=True)
        }
        for record in records:
            image = utils.read_image(record["file_name"], format=image_format)
            utils.check_image_size(record, image)
            self[record["file_name"]][:] = image
        logger.info("Cached %d decoded images, %.1f MB", len(sizes), ends[-1] / 1e6)

    def __getitem__(self, file_name: str) -> np.ndarray:
        """Return the (H, W, channels) uint8 image; a view, not to be changed."""
        begin, end, size = self._places[file_name]
        return self._block[begin:end].numpy().reshape(size)


class CachedMapper:
    """Turns a dataset dict into the model's training input, as Detectron2's mapper does.

    Args:
        images: the decoded images.
        **parts: Detectron2's arguments of ``DatasetMapper``.
    """

    def __init__(
        self,
        images: DecodedImages,
        *,
        augmentations: Sequence[T.Augmentation],
        use_instance_mask: bool,
        instance_mask_format: str,
        use_keypoint: bool,
        recompute_boxes: bool,
        keypoint_hflip_indices: np.ndarray | None = None,
        precomputed_proposal_topk: int | None = None,
        **_: Any,
    ) -> None:
        self.images = images
        self.augment = T.AugmentationList(augmentations)
        unused = {"segmentation": use_instance_mask, "keypoints": use_keypoint}
        self.dropped = {key for key, used in unused.items() if not used}
        self.mask_format = instance_mask_format
        self.recompute_boxes = recompute_boxes
        self.flip_indices = keypoint_hflip_indices
        self.proposal_topk = precomputed_proposal_topk

    def __call__(self, record: dict[str, Any]) -> dict[str, Any]:
        """Return ``record`` with ``image`` (channels, H, W) uint8 and ``instances`` in place of annotations."""
        # Copied: augmentations may write into the image.
        view = T.AugInput(self.images[record["file_name"]].copy())
        transforms = self.augment(view)
        result = {key: value for key, value in record.items() if key != "annotations"}
        result["image"] = torch.from_numpy(np.ascontiguousarray(view.image.transpose(2, 0, 1)))
        size = view.image.shape[:2]
        if self.proposal_topk is not None:
            utils.transform_proposals(result, size, transforms, proposal_topk=self.proposal_topk)
        if "annotations" in record:
            result["instances"] = self._instances(record["annotations"], transforms, size)
        return result

    def _instances(
        self, annotations: list[dict[str, Any]], transforms: T.TransformList, size: tuple[int, int]
    ) -> Instances:
        kept = [
            {key: value for key, value in annotation.items() if key not in self.dropped}
            for annotation in annotations
            if not annotation.get("iscrowd", 0)
        ]
        moved = [
            utils.transform_instance_annotations(
                annotation, transforms, size, keypoint_hflip_indices=self.flip_indices
            )
            for annotation in kept
        ]
        instances = utils.annotations_to_instances(moved, size, mask_format=self.mask_format)
        if self.recompute_boxes:  # a crop cuts masks, so their boxes may shrink
            instances.gt_boxes = instances.gt_masks.get_bounding_boxes()
        return utils.filter_empty_instances(instances)


def _check_memory(needed: int, count: int) -> None:
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > MEMORY_SHARE * total:
        raise ConfigError(
            f"DATALOADER.CACHE_IMAGES True would keep {count} images of {needed / 1e9:.1f} GB in "
            f"{total / 1e9:.1f} GB of memory; set it to False."
        )
