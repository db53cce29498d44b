"""Data loaders for training and testing, from a config or from parts."""

import logging
import operator
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler

from detectron2._absent import module_getattr
from detectron2.config import configurable
from detectron2.utils.comm import get_world_size
from detectron2.utils.env import seed_all_rng

from . import samplers
from ._dataset_dicts import (  # noqa: F401
    filter_images_with_few_keypoints,
    filter_images_with_only_crowd_annotations,
    get_detection_dataset_dicts,
    print_instances_class_histogram,
)
from ._proposals import load_proposals_into_dataset  # noqa: F401
from .common import AspectRatioGroupedDataset, DatasetFromList, MapDataset, ToIterableDataset
from .dataset_mapper import DatasetMapper

__all__ = ["build_batch_data_loader", "build_detection_test_loader", "build_detection_train_loader"]


def trivial_batch_collator(batch: list) -> list:
    """Return the list of samples as it is: models take images of different sizes one by one."""
    return batch


def worker_init_reset_seed(worker_id: int) -> None:
    """Seed Python, NumPy and torch in a worker; torch alone would do so for itself only."""
    seed_all_rng(torch.initial_seed() % 2**31 + worker_id)


def build_batch_data_loader(
    dataset: Dataset,
    sampler: Sampler | None,
    total_batch_size: int | None,
    *,
    aspect_ratio_grouping: bool = False,
    collate_fn: Callable | None = None,
    drop_last: bool = True,
    single_gpu_batch_size: int | None = None,
    seed: int | None = None,
    **kwargs: Any,
) -> Iterable[list]:
    """Build a loader of batches, each a list of samples.

    Args:
        dataset: indexed, or a stream.
        sampler: the order of an indexed one; None for a stream.
        total_batch_size: samples per batch over all processes.
        aspect_ratio_grouping: see `build_detection_train_loader`.
        collate_fn: makes something else of the list.
        drop_last: whether to leave out a last batch that is not full.
        single_gpu_batch_size: samples per batch in this process, instead of `total_batch_size`.
        seed: of the workers' random numbers; by default torch's global generator gives it.
        **kwargs: for `torch.utils.data.DataLoader`, such as `num_workers`, `prefetch_factor` and
            `pin_memory`.

    Raises:
        ValueError: the batch sizes are both given, or do not divide among the processes; a stream
            has a sampler; or grouping is asked for together with incomplete batches.
    """
    processes = get_world_size()
    share, rest = divmod(total_batch_size or 0, processes)
    batch_size = single_gpu_batch_size or share
    if rest or batch_size <= 0 or (single_gpu_batch_size and total_batch_size):
        raise ValueError(
            f"give single_gpu_batch_size or a positive multiple of {processes} (processes) as "
            f"total_batch_size, got {single_gpu_batch_size} and {total_batch_size}"
        )
    logging.getLogger(__name__).info(f"Batches of {batch_size} images per process")
    if not isinstance(dataset, IterableDataset):
        dataset = ToIterableDataset(dataset, sampler, shard_chunk_size=batch_size)
    elif sampler is not None:
        raise ValueError(f"an iterable data set has an order of its own; got sampler {sampler!r}")
    kwargs["worker_init_fn"] = worker_init_reset_seed
    kwargs["generator"] = None if seed is None else torch.Generator().manual_seed(seed)
    if not aspect_ratio_grouping:
        collate_fn = collate_fn or trivial_batch_collator
        return DataLoader(dataset, batch_size, drop_last=drop_last, collate_fn=collate_fn, **kwargs)
    if not drop_last:
        raise ValueError("aspect_ratio_grouping always drops incomplete batches; set drop_last")
    # The workers give single samples (in lists of one), this process groups them.
    singles = DataLoader(dataset, collate_fn=operator.itemgetter(0), **kwargs)
    grouped = AspectRatioGroupedDataset(singles, batch_size)
    return grouped if collate_fn is None else MapDataset(grouped, collate_fn)


def _mapped(dataset, mapper, sampler, default_sampler) -> tuple[Dataset, Sampler | None]:
    """Return the mapped data set and its order, which a stream has of its own."""
    source = DatasetFromList(dataset, copy=False) if isinstance(dataset, list) else dataset
    mapped = source if mapper is None else MapDataset(source, mapper)
    if sampler is None and not isinstance(mapped, IterableDataset):
        sampler = default_sampler(len(mapped))
    return mapped, sampler


def _train_sampler(cfg, dataset: list[dict] | Dataset) -> Sampler | None:
    if isinstance(dataset, IterableDataset):
        return None
    loader, size = cfg.DATALOADER, len(dataset)
    match loader.SAMPLER_TRAIN:
        case "TrainingSampler":
            return samplers.TrainingSampler(size, seed=cfg.SEED)
        case "RandomSubsetTrainingSampler":
            return samplers.RandomSubsetTrainingSampler(size, loader.RANDOM_SUBSET_RATIO)
        case "RepeatFactorTrainingSampler":
            factors = samplers.RepeatFactorTrainingSampler.repeat_factors_from_category_frequency
            repeat = factors(dataset, loader.REPEAT_THRESHOLD, sqrt=loader.REPEAT_SQRT)
            return samplers.RepeatFactorTrainingSampler(repeat, seed=cfg.SEED)
    raise ValueError(
        "DATALOADER.SAMPLER_TRAIN must be TrainingSampler, RandomSubsetTrainingSampler or "
        f"RepeatFactorTrainingSampler, got {loader.SAMPLER_TRAIN!r}"
    )


def _train_loader_from_config(cfg, mapper=None, *, dataset=None, sampler=None) -> dict[str, Any]:
    loader, model = cfg.DATALOADER, cfg.MODEL
    if dataset is None:
        dataset = get_detection_dataset_dicts(
            cfg.DATASETS.TRAIN,
            loader.FILTER_EMPTY_ANNOTATIONS,
            model.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE if model.KEYPOINT_ON else 0,
            cfg.DATASETS.PROPOSAL_FILES_TRAIN if model.LOAD_PROPOSALS else None,
        )
    return {
        "dataset": dataset,
        "mapper": DatasetMapper(cfg, True) if mapper is None else mapper,
        "sampler": _train_sampler(cfg, dataset) if sampler is None else sampler,
        "total_batch_size": cfg.SOLVER.IMS_PER_BATCH,
        "aspect_ratio_grouping": loader.ASPECT_RATIO_GROUPING,
        "num_workers": loader.NUM_WORKERS,
    }


@configurable(from_config=_train_loader_from_config)
def build_detection_train_loader(
    dataset: list | Dataset,
    *,
    mapper: Callable[[dict], Any] | None,
    sampler: Sampler | None = None,
    total_batch_size: int,
    aspect_ratio_grouping: bool = True,
    **kwargs: Any,
) -> Iterable[list]:
    """Build the endless loader of a training; call it with these arguments or with a config.

    Args:
        dataset: a list of data set dicts, or a torch data set.
        mapper: makes a model's input of a dict; from a config it is `DatasetMapper(cfg, True)`.
        sampler: `TrainingSampler` if None; must be None for a stream.
        total_batch_size: images per iteration over all processes.
        aspect_ratio_grouping: whether a batch holds only wide or only high images; a sample must
            then be a dict with "width" and "height".
        **kwargs: for `build_batch_data_loader`, such as `num_workers` and `collate_fn`.
    """
    kwargs["aspect_ratio_grouping"] = aspect_ratio_grouping
    parts = _mapped(dataset, mapper, sampler, samplers.TrainingSampler)
    return build_batch_data_loader(*parts, total_batch_size, **kwargs)


def _test_loader_from_config(cfg, dataset_name, mapper=None) -> dict[str, Any]:
    """Take the name apart from the config: each test set is evaluated by itself."""
    names = [dataset_name] if isinstance(dataset_name, str) else list(dataset_name)
    file_of = dict(zip(cfg.DATASETS.TEST, cfg.DATASETS.PROPOSAL_FILES_TEST, strict=False))
    files = [file_of[name] for name in names if name in file_of]
    return {
        "dataset": get_detection_dataset_dicts(
            names, filter_empty=False, proposal_files=files if cfg.MODEL.LOAD_PROPOSALS else None
        ),
        "mapper": DatasetMapper(cfg, False) if mapper is None else mapper,
        "num_workers": cfg.DATALOADER.NUM_WORKERS,
    }


@configurable(from_config=_test_loader_from_config)
def build_detection_test_loader(
    dataset: list | Dataset,
    *,
    mapper: Callable[[dict], Any] | None,
    sampler: Sampler | None = None,
    batch_size: int = 1,
    num_workers: int = 0,
    collate_fn: Callable | None = None,
) -> DataLoader:
    """Build the loader of an evaluation, every image once; call it so, or with a config and a name.

    Args:
        dataset: a list of data set dicts, or a torch data set.
        mapper: makes a model's input of a dict; from a config it is `DatasetMapper(cfg, False)`.
        sampler: `InferenceSampler` if None, which shares the images out among processes.
        batch_size: images per batch in each process. 1 is what papers time.
        num_workers: processes that read data, per process that takes it.
        collate_fn: makes something else of a batch, which is a list.
    """
    images, order = _mapped(dataset, mapper, sampler, samplers.InferenceSampler)
    collate_fn = collate_fn or trivial_batch_collator
    return DataLoader(
        images, batch_size, sampler=order, num_workers=num_workers, collate_fn=collate_fn
    )


__getattr__ = module_getattr(__name__)
