"""Samplers that agree over all processes of a training or an evaluation.

A training sampler is one endless stream of indices, the same in every process (same seed); process r of n takes
every n-th index from the r-th on. So the stream does not depend on how many processes share it. It does not
divide further among the workers of a data loader: `ToIterableDataset` does.
"""

import itertools
import logging
import math
from collections import Counter
from collections.abc import Iterator

import torch
from torch.utils.data import Sampler

from detectron2._absent import module_getattr
from detectron2.utils import comm

logger = logging.getLogger(__name__)


class _EndlessSampler(Sampler):
    """Epoch after epoch of indices, shuffled or not, shared out among processes."""

    def __init__(self, shuffle: bool, seed: int | None):
        self._shuffle = shuffle
        self._seed = int(comm.shared_random_seed() if seed is None else seed)
        self._rank = comm.get_rank()
        self._world_size = comm.get_world_size()

    def __iter__(self) -> Iterator[int]:
        return itertools.islice(self._stream(), self._rank, None, self._world_size)

    def _stream(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed)
        while True:
            indices = self._epoch(generator)
            if self._shuffle:
                indices = indices[torch.randperm(len(indices), generator=generator)]
            yield from indices.tolist()

    def _epoch(self, generator: torch.Generator) -> torch.Tensor:
        """Return one epoch's indices, int64, in ascending or any other fixed order."""
        raise NotImplementedError


class TrainingSampler(_EndlessSampler):
    """All elements, over and over, each time in another order."""

    def __init__(self, size: int, shuffle: bool = True, seed: int | None = None):
        """Initialize.

        Args:
            size: number of elements of the data set.
            shuffle: whether to shuffle each epoch.
            seed: of the shuffling, the same in all processes; None draws one and shares it.

        Raises:
            TypeError: `size` is no int.
            ValueError: `size` is not positive.
        """
        if not isinstance(size, int):
            raise TypeError(f"size of {type(self).__name__} must be an int, got {size!r}")
        if size <= 0:
            raise ValueError(f"size of {type(self).__name__} must be positive, got {size}")
        self._size = size
        super().__init__(shuffle, seed)

    def _epoch(self, generator: torch.Generator) -> torch.Tensor:
        return torch.arange(self._size)


class RandomSubsetTrainingSampler(TrainingSampler):
    """As `TrainingSampler`, for a random part of the data set that stays the same over all epochs."""

    def __init__(
        self,
        size: int,
        subset_ratio: float,
        shuffle: bool = True,
        seed_shuffle: int | None = None,
        seed_subset: int | None = None,
    ):
        """Initialize.

        Args:
            size: see `TrainingSampler`.
            shuffle: likewise.
            subset_ratio: how much of the data set to use, in (0, 1].
            seed_shuffle: see `seed` of `TrainingSampler`.
            seed_subset: of the choice of the subset, likewise.

        Raises:
            ValueError: `subset_ratio` is out of range, or leaves nothing.
        """
        super().__init__(size, shuffle, seed_shuffle)
        if not 0.0 < subset_ratio <= 1.0:
            raise ValueError(f"subset_ratio must lie in (0, 1], got {subset_ratio}")
        count = int(size * subset_ratio)
        if count == 0:
            raise ValueError(f"subset_ratio {subset_ratio} of {size} elements leaves none")
        seed = comm.shared_random_seed() if seed_subset is None else seed_subset
        generator = torch.Generator().manual_seed(int(seed))
        self._indexes_subset = torch.randperm(size, generator=generator)[:count]
        logger.info(f"Training on a random subset: {count} of {size} images")

    def _epoch(self, generator: torch.Generator) -> torch.Tensor:
        return self._indexes_subset


class RepeatFactorTrainingSampler(_EndlessSampler):
    """As `TrainingSampler`, with each element as often per epoch as its repeat factor says."""

    def __init__(
        self, repeat_factors: torch.Tensor, *, shuffle: bool = True, seed: int | None = None
    ):
        """Initialize.

        Args:
            repeat_factors: one float per element. 2.3 stands for two times, and in three of ten epochs a third.
            shuffle: see `TrainingSampler`.
            seed: likewise.
        """
        super().__init__(shuffle, seed)
        self._int_part = torch.trunc(repeat_factors)
        self._frac_part = repeat_factors - self._int_part

    @staticmethod
    def repeat_factors_from_category_frequency(
        dataset_dicts: list[dict], repeat_thresh: float, sqrt: bool = True
    ) -> torch.Tensor:
        """Compute repeat factors that show images of rare classes more often (Gupta et al. 2019, LVIS).

        A class c that is in the fraction f(c) of all images has r(c) = max(1, sqrt(repeat_thresh / f(c))); an
        image has the greatest r(c) of its classes, or 1 if it has none.

        Args:
            dataset_dicts: with "annotations".
            repeat_thresh: classes in a smaller fraction of images than this are repeated.
            sqrt: whether to take the square root.

        Returns:
            float32, one per image.
        """
        classes_of = [{ann["category_id"] for ann in d["annotations"]} for d in dataset_dicts]
        images_with = Counter(itertools.chain.from_iterable(classes_of))
        repeat = {}
        for category, count in sorted(images_with.items()):
            frequency = count / len(dataset_dicts)
            factor = repeat_thresh / frequency
            repeat[category] = max(1.0, math.sqrt(factor) if sqrt else factor)
            logger.info(f"Class {category}: {frequency:.2f} of images, x {repeat[category]:.2f}")
        return torch.tensor(
            [max((repeat[c] for c in classes), default=1.0) for classes in classes_of],
            dtype=torch.float32,
        )

    def _epoch(self, generator: torch.Generator) -> torch.Tensor:
        # Rounded at random, so that the mean over epochs is the factor.
        up = torch.rand(len(self._frac_part), generator=generator) < self._frac_part
        times = (self._int_part + up).long()
        return torch.arange(len(times)).repeat_interleave(times)


class InferenceSampler(Sampler):
    """Every element exactly once over all processes, a run of neighbours for each.

    The first processes take one more where the division leaves a rest.
    """

    def __init__(self, size: int):
        """Initialize.

        Args:
            size: number of elements of the data set.

        Raises:
            ValueError: `size` is not positive.
        """
        if size <= 0:
            raise ValueError(f"size of InferenceSampler must be positive, got {size}")
        self._local_indices = self._get_local_indices(size, comm.get_world_size(), comm.get_rank())

    @staticmethod
    def _get_local_indices(total_size: int, world_size: int, rank: int) -> range:
        each, rest = divmod(total_size, world_size)
        begin = rank * each + min(rank, rest)
        return range(begin, begin + each + (rank < rest))

    def __iter__(self) -> Iterator[int]:
        return iter(self._local_indices)

    def __len__(self) -> int:
        return len(self._local_indices)


__getattr__ = module_getattr(__name__)
