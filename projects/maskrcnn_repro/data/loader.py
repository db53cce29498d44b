"""Loaders of training and test data; images from disk or kept in memory, perhaps stored proposals.

H, W = height and width of an image in pixels. Boxes are xyxy in pixels of the resized image.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from maskrcnn_repro.data.cached_images import CachedImages
from maskrcnn_repro.data.densepose.truth import with_surfaces
from maskrcnn_repro.data.image_file import ImageFiles
from maskrcnn_repro.data.image_source import LeavingOutBroken, Source, WithSource
from maskrcnn_repro.data.mapper import TrainMapper
from maskrcnn_repro.data.panoptic.labels import with_labels
from maskrcnn_repro.data.proposals.mapper import WithStoredProposals, placed
from maskrcnn_repro.data.proposals.prepare import open_store, stores_of
from maskrcnn_repro.data.proposals.store import ProposalStore
from maskrcnn_repro.data.stream import build_sample_loader
from maskrcnn_repro.data.watched_loader import WatchedLoader
from maskrcnn_repro.data.worker_notes import WorkerNotes
from maskrcnn_repro.data.workers import standing_apart

from detectron2.config import CfgNode
from detectron2.data import build_detection_test_loader, get_detection_dataset_dicts

Mapper = Callable[[dict[str, Any]], dict[str, Any]]
"""Makes the model's input of a dataset dict."""


def build_train_loader(
    cfg: CfgNode, first: int = 0, mapper: Mapper | None = None
) -> Iterable[list[dict[str, Any]]]:
    """Return Detectron2's endless training loader over ``cfg.DATASETS.TRAIN``.

    With ``MODEL.LOAD_PROPOSALS`` each image brings its stored ``proposals``.

    Args:
        cfg: the config.
        first: the iteration whose batch comes first.
        mapper: makes the model's input of a dataset dict; by default :class:`TrainMapper`.

    Raises:
        ConfigError: ``DATALOADER.CACHE_IMAGES`` is set and the images do not fit into memory.
        DataError: stored proposals cannot be read or miss images. While it is iterated: a broken image, or
            with ``DATALOADER.SKIP_BROKEN`` too many of them; a worker died.
    """
    stores = stores_of(cfg, "TRAIN") if cfg.MODEL.LOAD_PROPOSALS else []
    records = training_records(cfg, stores)
    notes = WorkerNotes(cfg.DATALOADER.NUM_WORKERS)
    mapper = with_sources(cfg, mapper or TrainMapper(cfg, True), records, stores, notes)
    loader = build_sample_loader(cfg, records, mapper, first=first)
    return WatchedLoader(loader, notes, len(records))


def build_test_loader(
    cfg: CfgNode, name: str, mapper: Mapper | None = None
) -> Iterable[list[dict[str, Any]]]:
    """Return Detectron2's loader of all images of a data set, for evaluation.

    Images are resized to ``INPUT.MIN_SIZE_TEST``, with ``TEST.AUG.ENABLED`` they are as in their files.
    With ``MODEL.LOAD_PROPOSALS`` each image brings its stored ``proposals``; the data set is then one of
    ``cfg.DATASETS.TEST``.

    Args:
        cfg: the config.
        name: of the data set.
        mapper: makes the model's input of a dataset dict; by default Detectron2's.

    Raises:
        DataError: stored proposals cannot be read or miss images. While it is iterated: a broken image, or
            with ``DATALOADER.SKIP_BROKEN``, which leaves it out, too many of them; a worker died.
    """
    # Images without objects, too: what is detected in them is wrong, and counts.
    records = get_detection_dataset_dicts([name], filter_empty=False)
    notes = WorkerNotes(cfg.DATALOADER.NUM_WORKERS)
    mapper = WithSource(mapper or inference_mapper(cfg, name), image_files(cfg), notes)
    if cfg.MODEL.LOAD_PROPOSALS:
        place = list(cfg.DATASETS.TEST).index(name)
        store = open_store(cfg.DATASETS.PROPOSAL_FILES_TEST[place])
        records, mapper = placed(records, store, 0), WithStoredProposals(mapper, [store])
    if cfg.DATALOADER.SKIP_BROKEN:
        mapper = LeavingOutBroken(mapper)
    workers = cfg.DATALOADER.NUM_WORKERS
    loader = standing_apart(
        build_detection_test_loader(records, mapper=mapper, num_workers=workers)
    )
    return WatchedLoader(loader, notes, len(loader))


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

    names, labelled = cfg.DATASETS.TRAIN, cfg.DATASETS.WITH_SEM_SEG
    if not stores and not labelled and not cfg.MODEL.DENSEPOSE_ON:
        return chosen(names)
    # One by one: two data sets may use the same image ids.
    lists = [chosen([name]) for name in names]
    if labelled:
        lists = [with_labels(*pair) for pair in zip(lists, names, strict=True)]
    if cfg.MODEL.DENSEPOSE_ON:
        lists = [with_surfaces(*pair) for pair in zip(lists, names, strict=True)]
    if stores:
        pairs = zip(lists, stores, strict=True)
        lists = [placed(records, store, i) for i, (records, store) in enumerate(pairs)]
    return list(itertools.chain.from_iterable(lists))


def with_sources(
    cfg: CfgNode,
    mapper: Mapper,
    records: Sequence[dict[str, Any]],
    stores: Sequence[ProposalStore] = (),
    notes: WorkerNotes | None = None,
) -> Mapper:
    """Return ``mapper`` with what it reads: images from files or memory, stored proposals.

    Args:
        cfg: the config.
        mapper: makes the model's input of a dataset dict.
        records: all that it will be given, see :func:`training_records`.
        stores: as there.
        notes: get the names of the images that workers are on.
    """
    source: Source = image_files(cfg)
    if cfg.DATALOADER.CACHE_IMAGES:
        source = CachedImages(
            records,
            cfg.INPUT.FORMAT,
            image_files(cfg),
            workers=cfg.DATALOADER.NUM_WORKERS,
            skip_broken=cfg.DATALOADER.SKIP_BROKEN,
        )
    mapper = WithSource(mapper, source, notes)
    return WithStoredProposals(mapper, stores) if stores else mapper


def image_files(cfg: CfgNode) -> ImageFiles:
    """Return the reader of image files that training, evaluation and drawing share."""
    return ImageFiles(tuple(cfg.INPUT.PIXEL_RANGE))


def min_keypoints(cfg: CfgNode) -> int:
    """Return how many annotated keypoints an image needs to be trained on; 0: it needs none.

    All four rows of Table 5 learn from the images with keypoints (Sec. 5), with a keypoint head or without.
    """
    least = int(cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE)
    if cfg.DATASETS.ONLY_WITH_KEYPOINTS:
        return max(least, 1)
    return least if cfg.MODEL.KEYPOINT_ON else 0


def inference_mapper(cfg: CfgNode, name: str) -> Mapper:
    """Return what makes the model's input of a dataset dict of a test set, by its name."""
    # With several views of an image, each is made of the file's pixels, not of resized ones.
    resizing: dict[str, Any] = {"augmentations": []} if cfg.TEST.AUG.ENABLED else {}
    # Detectron2's mapper asks the training sets what a mirror swaps; there may be none.
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATASETS.TRAIN = (name,)
    return TrainMapper(cfg, False, **resizing)
