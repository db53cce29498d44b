"""The endless stream of training samples, which can start at any iteration.

Detectron2's sampler gives the order, and indices are batched before any image is read. The batch of
iteration i and the random numbers of its images therefore depend on i alone: a resumed run skips earlier
images without decoding them, and the number of data-loader workers does not change the batches.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from maskrcnn_repro.data.image_file import ImageError
from maskrcnn_repro.data.image_source import BROKEN
from maskrcnn_repro.data.workers import standing_apart
from maskrcnn_repro.utils.randomness import Purpose, seeded

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetFromList, build_detection_train_loader
from detectron2.utils import comm
from torch.utils.data import IterableDataset, get_worker_info

Sample = dict[str, Any]
SUBSTITUTES = 20
"""Broken images in a row for which another one is drawn."""
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
        parts: of a batch, each of which is what a process of its own would have (SOLVER.ACCUMULATE).
        seed: of the augmentations, 0 or more.
        first: the iteration to start at.
        skip_broken: take another image of the group for a broken one, drawn from the seed; the sample names
            the broken ones under :data:`BROKEN`.
    """

    def __init__(
        self,
        records: Sequence[Sample],
        mapper: Callable[[Sample], Sample],
        order: Iterable[int],
        *,
        groups: Sequence[int],
        batch_size: int,
        parts: int = 1,
        seed: int,
        first: int = 0,
        skip_broken: bool = False,
    ) -> None:
        # Items are deserialised on access: there is nothing to copy.
        self.records = DatasetFromList(records, copy=False)
        self.mapper = mapper
        self.order = order
        # Not a list: counting the references to its items would copy its memory into every worker.
        self.groups = bytes(groups)
        self.part_size = batch_size // parts
        self.parts = parts
        self.seed = seed
        self.first = first
        self.skip_broken = skip_broken
        # Read here: data-loader workers do not belong to the process group.
        self.rank, self.world_size = comm.get_rank(), comm.get_world_size()

    def __iter__(self) -> Iterator[Sample]:
        """Yield samples; in a data-loader worker, those of every n-th batch."""
        worker = get_worker_info()
        turn, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        for batch in itertools.islice(self.batches(), self.first + turn, None, workers):
            for number, index in batch:
                yield self._sample(number, index)

    def _sample(self, number: int, index: int) -> Sample:
        broken: dict[str, str] = {}
        attempt = 0
        while True:
            record = self.records[index]
            try:
                with seeded(self.seed, Purpose.SAMPLE, number):
                    sample = self.mapper(record)
                return {**sample, BROKEN: broken} if broken else sample
            except ImageError as error:
                if not self.skip_broken or attempt == SUBSTITUTES:
                    raise
                attempt += 1
                broken[record["file_name"]] = str(error)
                index = self._substitute(number, index, attempt)

    def _substitute(self, number: int, index: int, attempt: int) -> int:
        """Return an index of the group of ``index``, which may be that itself."""
        group = np.flatnonzero(np.frombuffer(self.groups, np.uint8) == self.groups[index])
        random = np.random.default_rng((self.seed, Purpose.SUBSTITUTE, number, attempt))
        return int(random.choice(group))

    def batches(self) -> Iterator[Batch]:
        """Yield the batch of each iteration, from iteration 0 on, its parts one after the other."""
        parts = [self._part_batches(part) for part in range(self.parts)]
        for batches in zip(*parts, strict=True):  # all are endless
            yield list(itertools.chain.from_iterable(batches))

    def _part_batches(self, part: int) -> Iterator[Batch]:
        waiting: dict[int, Batch] = {group: [] for group in self.groups}
        step = self.world_size * self.parts
        numbers = itertools.count(self.rank + part * self.world_size, step)
        order = itertools.islice(self.order, part, None, self.parts)
        # `numbers` is endless, and so is the order of a training sampler.
        for number, index in zip(numbers, order, strict=False):
            batch = waiting[group := self.groups[index]]
            batch.append((number, index))
            if len(batch) == self.part_size:
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
        parts=cfg.SOLVER.ACCUMULATE,
        seed=seed,
        first=first,
        skip_broken=cfg.DATALOADER.SKIP_BROKEN,
    )
    # Without this seed the loader would draw one from the generator that the model uses.
    return standing_apart(
        build_detection_train_loader(
            stream, mapper=None, aspect_ratio_grouping=False, seed=seed, **parts
        )
    )
