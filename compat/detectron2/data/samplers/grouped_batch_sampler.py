"""Batches whose elements all belong to one group."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import BatchSampler, Sampler

from detectron2._absent import module_getattr

__all__ = ["GroupedBatchSampler"]


class GroupedBatchSampler(BatchSampler):
    """Collect another sampler's indices by group and give a batch whenever a group has enough.

    Indices that do not fill a batch stay for the next iteration.

    Args:
        sampler: gives indices in [0, N).
        group_ids: N numbers, the group of each index.
        batch_size: indices per batch.
    """

    def __init__(self, sampler: Sampler, group_ids: Sequence[int], batch_size: int):
        super().__init__(sampler, batch_size, drop_last=True)
        self._group_of = np.asarray(group_ids).tolist()
        self._waiting = defaultdict(list)

    def __iter__(self) -> Iterator[list[int]]:
        for index in self.sampler:
            group = self._group_of[index]
            self._waiting[group].append(index)
            if len(self._waiting[group]) == self.batch_size:
                yield self._waiting.pop(group)

    def __len__(self) -> int:
        raise NotImplementedError("how many batches there will be depends on the groups")


__getattr__ = module_getattr(__name__)
