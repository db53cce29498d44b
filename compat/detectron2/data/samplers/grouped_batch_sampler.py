"""Batches whose elements all belong to one group."""

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import BatchSampler, Sampler

from detectron2._absent import module_getattr


class GroupedBatchSampler(BatchSampler):
    """Collect another sampler's indices by group and give a batch whenever a group has enough.

    Indices that do not fill a batch stay for the next iteration.
    """

    def __init__(self, sampler: Sampler, group_ids: Sequence[int], batch_size: int):
        """Initialize.

        Args:
            sampler: gives indices in [0, N).
            group_ids: N of them, the group of each index.
            batch_size: indices per batch.

        Raises:
            TypeError: `sampler` is no Sampler.
            ValueError: `group_ids` is not a flat list.
        """
        if not isinstance(sampler, Sampler):
            raise TypeError(f"sampler must be a torch.utils.data.Sampler, got {sampler!r}")
        super().__init__(sampler, batch_size, drop_last=True)
        self.group_ids = np.asarray(group_ids)
        if self.group_ids.ndim != 1:
            raise ValueError(f"group_ids must be a flat list, got shape {self.group_ids.shape}")
        self.buffer_per_group = {group: [] for group in np.unique(self.group_ids).tolist()}

    def __iter__(self) -> Iterator[list[int]]:
        for index in self.sampler:
            waiting = self.buffer_per_group[self.group_ids[index]]
            waiting.append(index)
            if len(waiting) == self.batch_size:
                batch = waiting.copy()
                waiting.clear()
                yield batch

    def __len__(self) -> int:
        raise NotImplementedError("how many batches there will be depends on the groups")


__getattr__ = module_getattr(__name__)
