"""Wrappers around data sets: a list, a mapped one, a stream, and batches of like shape."""

import contextlib
import copy
import importlib
import logging
import marshal
import pickle
import random
from collections.abc import Callable, Iterable, Iterator
from types import CellType, FunctionType
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset, Sampler, get_worker_info

from detectron2._absent import module_getattr

logger = logging.getLogger(__name__)


class _PicklableCallable:
    """A callable that pickles even if it is a lambda or local function.

    Workers that are spawned get their data set, mapper included, as a pickle. Globals that such a function uses
    are those of its module, imported anew.
    """

    def __init__(self, function: Callable):
        self.function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    def __reduce__(self):
        function = self.function
        # "f.<locals>.g" and "<lambda>" cannot be found by name on the other side: they travel as code.
        if not isinstance(function, FunctionType) or "<" not in function.__qualname__:
            return _PicklableCallable, (function,)
        captured = [cell.cell_contents for cell in function.__closure__ or ()]
        defaults = function.__defaults__, function.__kwdefaults__
        return _from_code, (
            marshal.dumps(function.__code__),
            function.__module__,
            defaults,
            captured,
        )


def _from_code(code: bytes, module: str, defaults: tuple, captured: list) -> _PicklableCallable:
    names = vars(importlib.import_module(module))
    cells = tuple(map(CellType, captured))
    function = FunctionType(marshal.loads(code), names, None, defaults[0], cells)
    function.__kwdefaults__ = defaults[1]
    return _PicklableCallable(function)


class _MappedStream(IterableDataset):
    """What `MapDataset` makes of an iterable data set; elements mapped to None are left out."""

    def __init__(self, dataset: IterableDataset, map_func: Callable):
        self._dataset, self._map_func = dataset, _PicklableCallable(map_func)

    def __len__(self) -> int:
        return len(self._dataset)

    def __iter__(self) -> Iterator:
        return (mapped for mapped in map(self._map_func, self._dataset) if mapped is not None)


class MapDataset(Dataset):
    """Apply a function to every element of a data set.

    The function may return None to refuse an element. An iterable data set then goes on to its next one, any
    other to a random one among those not refused so far.
    """

    def __new__(cls, dataset: Dataset, map_func: Callable):
        """Make an iterable data set out of an iterable one."""
        if isinstance(dataset, IterableDataset):
            return _MappedStream(dataset, map_func)
        return super().__new__(cls)

    def __init__(self, dataset: Dataset, map_func: Callable):
        self._dataset, self._map_func = dataset, _PicklableCallable(map_func)
        self._rng = random.Random(42)
        self._fallback_candidates = set(range(len(dataset)))

    def __getnewargs__(self):
        return self._dataset, self._map_func

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, idx: int) -> Any:
        """Return the mapped element.

        Raises:
            RuntimeError: the function refused every element.
        """
        current = int(idx)
        failures = 0
        while True:
            mapped = self._map_func(self._dataset[current])
            if mapped is not None:
                self._fallback_candidates.add(current)
                return mapped
            failures += 1
            self._fallback_candidates.discard(current)
            if not self._fallback_candidates:
                raise RuntimeError(f"the mapper returned None for all {len(self)} samples")
            current = self._rng.sample(list(self._fallback_candidates), k=1)[0]
            if failures >= 3:
                logger.warning(f"Sample {idx}: the mapper returned None {failures} times in a row")


class _SerializedList:
    """A list kept as one tensor of pickled bytes.

    Python objects would be copied into every worker, because counting references writes to their memory pages;
    a tensor is shared with forked and spawned workers alike.
    """

    def __init__(self, items: list):
        pickles = [pickle.dumps(item, protocol=pickle.HIGHEST_PROTOCOL) for item in items]
        self._ends = torch.tensor([len(p) for p in pickles], dtype=torch.int64).cumsum(0)
        # bytearray: torch warns about read-only memory.
        self._bytes = torch.from_numpy(np.frombuffer(bytearray().join(pickles), dtype=np.uint8))
        logger.info(f"{len(items)} samples are kept in {len(self._bytes) / 2**20:.2f} MiB")

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, idx: int) -> Any:
        idx = range(len(self))[idx]
        start = self._ends[idx - 1] if idx else 0
        return pickle.loads(memoryview(self._bytes[start : self._ends[idx]].numpy()))


_default_container: Callable[[list], Any] = _SerializedList


@contextlib.contextmanager
def set_default_dataset_from_list_serialize_method(new: Callable[[list], Any]) -> Iterator[None]:
    """Let `DatasetFromList(..., serialize=True)` make another container of its list, within the block."""
    global _default_container
    old, _default_container = _default_container, new
    try:
        yield
    finally:
        _default_container = old


class DatasetFromList(Dataset):
    """A list as a data set."""

    def __init__(self, lst: list, copy: bool = True, serialize: bool | Callable = True):
        """Initialize.

        Args:
            lst: the elements.
            copy: whether to hand out deep copies, so that callers may change them. A serialized list always does.
            serialize: whether to keep the elements as bytes in memory that workers share; or a function from
                the list to another container.

        Raises:
            TypeError: `serialize` is neither a bool nor a function.
        """
        if not isinstance(serialize, bool) and not callable(serialize):
            raise TypeError(f"serialize must be a bool or a function, got {serialize!r}")
        self._copy = copy and serialize is False
        if serialize is True:
            serialize = _default_container
        self._lst = serialize(lst) if serialize else lst

    def __len__(self) -> int:
        return len(self._lst)

    def __getitem__(self, idx: int) -> Any:
        item = self._lst[idx]
        return copy.deepcopy(item) if self._copy else item


class ToIterableDataset(IterableDataset):
    """The elements of a data set in the order of a sampler, as a stream."""

    def __init__(
        self,
        dataset: Dataset,
        sampler: Sampler,
        shard_sampler: bool = True,
        shard_chunk_size: int = 1,
    ):
        """Initialize.

        Args:
            dataset: with `__getitem__`.
            sampler: gives the indices.
            shard_sampler: whether the workers of a data loader share the indices out among themselves. Every
                worker runs the sampler, so without this each gives all elements; set it to False for a sampler
                that does it itself.
            shard_chunk_size: how many indices in a row go to the same worker. With the batch size, batches are
                the same for any number of workers.

        Raises:
            TypeError: `dataset` is a stream already, or `sampler` no Sampler.
        """
        if isinstance(dataset, IterableDataset):
            raise TypeError(f"dataset is an IterableDataset already: {dataset!r}")
        if not isinstance(sampler, Sampler):
            raise TypeError(f"sampler must be a torch.utils.data.Sampler, got {sampler!r}")
        self.dataset, self.sampler = dataset, sampler
        self.shard_sampler, self.shard_chunk_size = shard_sampler, shard_chunk_size

    def __iter__(self) -> Iterator:
        indices = self.sampler
        if self.shard_sampler:
            indices = _share_of_this_worker(indices, self.shard_chunk_size)
        return (self.dataset[index] for index in indices)

    def __len__(self) -> int:
        return len(self.sampler)


def _share_of_this_worker(stream: Iterable[int], chunk_size: int) -> Iterator[int]:
    worker = get_worker_info()
    num_workers, rank = (worker.num_workers, worker.id) if worker else (1, 0)
    for position, index in enumerate(stream):
        if position // chunk_size % num_workers == rank:
            yield index


class AspectRatioGroupedDataset(IterableDataset):
    """Batches of wide images and batches of high (or square) ones, which need less padding.

    An element is a dict with "width" and "height". Elements that do not fill a batch stay for the next iteration.
    """

    def __init__(self, dataset: Iterable[dict], batch_size: int):
        self.dataset, self.batch_size = dataset, batch_size
        self._buckets: tuple[list[dict], list[dict]] = ([], [])

    def __iter__(self) -> Iterator[list[dict]]:
        for element in self.dataset:
            bucket = self._buckets[element["width"] <= element["height"]]
            bucket.append(element)
            if len(bucket) == self.batch_size:
                # Emptied before the yield: whoever iterates may never come back.
                batch = bucket.copy()
                bucket.clear()
                yield batch


__getattr__ = module_getattr(__name__)
