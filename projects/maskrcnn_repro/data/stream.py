"""The endless stream of training samples, which can start at any iteration.

Detectron2's sampler gives the order, and indices are batched before any image is read. The batch of
iteration i and the random numbers of its images therefore depend on i alone: a resumed run skips earlier
images without decoding them, and the number of data-loader workers does not change the batches.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from maskrcnn_repro.data.workers import standing_apart
from maskrcnn_repro.utils.randomness import Purpose, seeded

from detectron2.config import CfgNode
from detectron2.data import DatasetFromList, build_detection_train_loader
from detectron2.utils import comm
from torch.utils.data import IterableDataset, get_worker_info

Sample = dict[str, Any]
Batch = list[tuple[int, int]]
"""For each image its number in the order that all processes share, and the index of its record."""


class SampleStream(IterableDataset):
    """The training samples of one process, batch after batch.

    Args:
        records: the dataset dicts.
        mapper: maps a record to the model's input.
        order: indices of records for this process, as from Detectron2's training samplers: every n-th
            index of an order that n processes share.
        groups: of each record; all images of a batch are of the same group.
        batch_size: images per iteration in this process.
        seed: of the augmentations, 0 or more.
        first: the iteration to start at.
    """

    def __init__(
        self,
        records: Sequence[Sample],
        mapper: Callable[[Sample], Sample],
        order: Iterable[int],
        *,
        groups: Sequence[int],
        batch_size: int,
        seed: int,
        first: int = 0,
    ) -> None:
        # Items are deserialised on access: there is nothing to copy.
        self.records = DatasetFromList(records, copy=False)
        self.mapper = mapper
        self.order = order
        self.groups = bytes(groups)
        self.batch_size = batch_size
        self.seed = seed
        self.first = first
        # Read here: data-loader workers do not belong to the process group.
        self.rank, self.world_size = comm.get_rank(), comm.get_world_size()

    def __iter__(self) -> Iterator[Sample]:
        """Yield samples; in a data-loader worker, those of every n-th batch."""
        worker = get_worker_info()
        turn, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        for batch in itertools.islice(self.batches(), self.first + turn, None, workers):
            for number, index in batch:
                with seeded(self.seed, Purpose.SAMPLE, number):
                    sample = self.mapper(self.records[index])
                yield sample

    def batches(self) -> Iterator[Batch]:
        """Yield the batch of each iteration, from iteration 0 on."""
        waiting: dict[int, Batch] = {group: [] for group in self.groups}
        numbers = itertools.count(self.rank, self.world_size)
        # `numbers` is endless, and so is the order of a training sampler.
        for number, index in zip(numbers, self.order, strict=False):
            batch = waiting[group := self.groups[index]]
            batch.append((number, index))
            if len(batch) == self.batch_size:
                waiting[group] = []
                yield batch


def build_sample_loader(
    cfg: CfgNode, records: list[Sample], mapper: Callable[[Sample], Sample], *, first: int = 0
) -> Iterable[list[Sample]]:
    """Return Detectron2's training loader over a :class:`SampleStream`.

    Args:
        cfg: the config; the order is DATALOADER.SAMPLER_TRAIN's, its seed and that of the augmentations
            SEED (drawn if negative).
        records: the dataset dicts.
        mapper: maps a record to the model's input.
        first: the iteration to start at.
    """
    # 0 is a seed like any other; a drawn one is the same in all processes.
    seed = int(cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed())
    with seeded(seed, Purpose.ORDER):
        parts = build_detection_train_loader.from_config(cfg, mapper=mapper, dataset=records)
    # The stream groups by aspect ratio itself: Detectron2's grouping works on images that are mapped.
    by_shape = parts.pop("aspect_ratio_grouping")
    # Landscape images in one group, portrait and square ones in the other, as in Detectron2.
    stream = SampleStream(
        parts.pop("dataset"),
        parts.pop("mapper"),
        parts.pop("sampler"),
        groups=[by_shape and record["width"] > record["height"] for record in records],
        batch_size=cfg.SOLVER.IMS_PER_BATCH // comm.get_world_size(),
        seed=seed,
        first=first,
    )
    # Without this seed the loader would draw one from the generator that the model uses.
    return standing_apart(
        build_detection_train_loader(
            stream, mapper=None, aspect_ratio_grouping=False, seed=seed, **parts
        )
    )
