"""Samplers that agree over all processes of a training or an evaluation.

A training sampler is one endless stream of indices, the same in every process (same seed); process
r of n takes every n-th index from the r-th on. So the stream does not depend on how many processes
share it. It does not divide further among the workers of a data loader: `ToIterableDataset` does.
"""

import itertools
import logging
import math
import operator
from collections import Counter
from collections.abc import Iterator

import torch
from torch.utils.data import Sampler

from detectron2._absent import module_getattr
from detectron2.utils import comm

__all__ = [
    "InferenceSampler",
    "RandomSubsetTrainingSampler",
    "RepeatFactorTrainingSampler",
    "TrainingSampler",
]

_logger = logging.getLogger(__name__)


def _generator(seed: int | None) -> torch.Generator:
    """Return a generator with this seed; None draws one and shares it with all processes."""
    return torch.Generator().manual_seed(int(comm.shared_random_seed() if seed is None else seed))


def _check_size(sampler: Sampler, size: int) -> None:
    if operator.index(size) <= 0:
        raise ValueError(f"size of {type(sampler).__name__} must be positive, got {size}")


class _EndlessSampler(Sampler):
    """Epoch after epoch of indices, shuffled or not, shared out among processes.

    A subclass gives `_epoch`, one epoch's indices, int64, in ascending or any other fixed order.
    """

    def __init__(self, shuffle: bool, seed: int | None):
        self._shuffled, self._seed = shuffle, _generator(seed).initial_seed()
        self._first, self._step = comm.get_rank(), comm.get_world_size()

    def __iter__(self) -> Iterator[int]:
        return itertools.islice(self._stream(), self._first, None, self._step)

    def _stream(self) -> Iterator[int]:
        generator = _generator(self._seed)
        while True:
            epoch = self._epoch(generator)
            if self._shuffled:
                epoch = epoch[torch.randperm(len(epoch), generator=generator)]
            yield from epoch.tolist()


class TrainingSampler(_EndlessSampler):
    """All elements, over and over, each time in another order.

    Args:
        size: number of elements of the data set.
        shuffle: whether to shuffle each epoch.
        seed: of the shuffling, the same in all processes; None draws one and shares it.

    Raises:
        TypeError: `size` is no int.
        ValueError: `size` is not positive.
    """

    def __init__(self, size: int, shuffle: bool = True, seed: int | None = None):
        _check_size(self, size)
        super().__init__(shuffle, seed)
        self._indices = torch.arange(size)

    def _epoch(self, generator: torch.Generator) -> torch.Tensor:
        return self._indices


class RandomSubsetTrainingSampler(TrainingSampler):
    """As `TrainingSampler`, for a random part of the data set that stays the same over all epochs.

    Args:
        size: see `TrainingSampler`.
        subset_ratio: how much of the data set to use, in (0, 1].
        shuffle: see `TrainingSampler`.
        seed_shuffle: see `seed` there.
        seed_subset: of the choice of the subset, likewise.

    Raises:
        ValueError: `subset_ratio` is out of range, or leaves nothing.
    """

    def __init__(
        self, size: int, subset_ratio: float, shuffle=True, seed_shuffle=None, seed_subset=None
    ):
        super().__init__(size, shuffle, seed_shuffle)
        count = int(size * subset_ratio)
        if not (0 < subset_ratio <= 1 and count):
            raise ValueError(f"subset_ratio must lie in (0, 1] and leave some, got {subset_ratio}")
        self._indices = torch.randperm(size, generator=_generator(seed_subset))[:count]
        _logger.info(f"Training on a random subset: {count} of {size} images")


class RepeatFactorTrainingSampler(_EndlessSampler):
    """As `TrainingSampler`, with each element as often per epoch as its repeat factor says.

    Args:
        repeat_factors: one float per element. 2.3 is two times, and in three of ten epochs three.
        shuffle: see `TrainingSampler`.
        seed: likewise.
    """

    def __init__(
        self, repeat_factors: torch.Tensor, *, shuffle: bool = True, seed: int | None = None
    ):
        super().__init__(shuffle, seed)
        self._factors = repeat_factors

    @staticmethod
    def repeat_factors_from_category_frequency(
        dataset_dicts: list[dict], repeat_thresh: float, sqrt: bool = True
    ) -> torch.Tensor:
        """Compute factors that show images of rare classes more often (Gupta et al. 2019, LVIS).

        A class c in the fraction f(c) of all images has r(c) = max(1, sqrt(repeat_thresh / f(c)));
        an image has the greatest r(c) of its classes, or 1 if it has none.

        Args:
            dataset_dicts: with "annotations".
            repeat_thresh: classes in a smaller fraction of images than this are repeated.
            sqrt: whether to take the square root.

        Returns:
            float32, one per image.
        """
        classes_of = [{ann["category_id"] for ann in d["annotations"]} for d in dataset_dicts]
        repeat = {}
        for category, count in Counter(itertools.chain(*classes_of)).items():
            factor = repeat_thresh / (count / len(dataset_dicts))
            repeat[category] = max(1.0, math.sqrt(factor) if sqrt else factor)
        return torch.tensor(
            [max((repeat[c] for c in classes), default=1.0) for classes in classes_of]
        )

    def _epoch(self, generator: torch.Generator) -> torch.Tensor:
        # Rounded at random, so that the mean over epochs is the factor.
        whole = self._factors.trunc()
        up = torch.rand(len(whole), generator=generator) < self._factors - whole
        times = (whole + up).long()
        return torch.arange(len(times)).repeat_interleave(times)


class InferenceSampler(Sampler):
    """Every element exactly once over all processes, a run of neighbours for each.

    The first processes take one more where the division leaves a rest.

    Args:
        size: number of elements of the data set.

    Raises:
        ValueError: `size` is not positive.
    """

    def __init__(self, size: int):
        _check_size(self, size)
        self._share = self._get_local_indices(size, comm.get_world_size(), comm.get_rank())

    @staticmethod
    def _get_local_indices(total_size: int, world_size: int, rank: int) -> range:
        each, rest = divmod(total_size, world_size)
        begin = rank * each + min(rank, rest)
        return range(begin, begin + each + (rank < rest))

    def __iter__(self) -> Iterator[int]:
        return iter(self._share)

    def __len__(self) -> int:
        return len(self._share)


__getattr__ = module_getattr(__name__)
