"""Wrappers around data sets: a list, a mapped one, a stream, and batches of like shape."""

import contextlib
import copy
import importlib
import logging
import marshal
import pickle
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import CellType, FunctionType
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset, Sampler, get_worker_info

from detectron2._absent import module_getattr

__all__ = ["DatasetFromList", "MapDataset", "ToIterableDataset"]

_logger = logging.getLogger(__name__)


class _PicklableCallable:
    """A callable that pickles even if it is a lambda or local function.

    Workers that are spawned get their data set, mapper included, as a pickle. Globals that such a
    function uses are those of its module, imported anew.
    """

    def __init__(self, function: Callable):
        self.function = function

    def __call__(self, *args: Any) -> Any:
        return self.function(*args)

    def __reduce__(self):
        function = self.function
        # "f.<locals>.g" and "<lambda>" cannot be found by name elsewhere: they travel as code.
        if not isinstance(function, FunctionType) or "<" not in function.__qualname__:
            return _PicklableCallable, (function,)
        captured = [cell.cell_contents for cell in function.__closure__ or ()]
        code = marshal.dumps(function.__code__)
        defaults = (function.__defaults__, function.__kwdefaults__)
        return _from_code, (code, function.__module__, *defaults, captured)


def _from_code(code: bytes, module: str, defaults: Any, kwdefaults: Any, captured: list):
    names, cells = vars(importlib.import_module(module)), tuple(map(CellType, captured))
    function = FunctionType(marshal.loads(code), names, None, defaults, cells)
    function.__kwdefaults__ = kwdefaults
    return _PicklableCallable(function)


class _MappedStream(IterableDataset):
    """What `MapDataset` makes of an iterable data set; elements mapped to None are left out."""

    def __init__(self, stream: IterableDataset, function: Callable):
        self._stream, self._function = stream, _PicklableCallable(function)

    def __len__(self) -> int:
        return len(self._stream)

    def __iter__(self) -> Iterator:
        return (mapped for mapped in map(self._function, self._stream) if mapped is not None)


class MapDataset(Dataset):
    """Apply a function to every element of a data set.

    The function may return None to refuse an element. An iterable data set then goes on to its next
    one, any other to a random one among those not refused so far.
    """

    def __new__(cls, dataset: Dataset, map_func: Callable):
        """Make an iterable data set out of an iterable one."""
        streams = isinstance(dataset, IterableDataset)
        return _MappedStream(dataset, map_func) if streams else object.__new__(cls)

    def __init__(self, dataset: Dataset, map_func: Callable):
        self._source, self._function = dataset, _PicklableCallable(map_func)
        self._usable, self._rng = set(range(len(dataset))), random.Random(42)

    def __getnewargs__(self):
        return self._source, self._function

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, idx: int) -> Any:
        """Return the mapped element.

        Raises:
            RuntimeError: the function refused every element.
        """
        current, failures = int(idx), 0
        while (mapped := self._function(self._source[current])) is None:
            failures += 1
            self._usable.discard(current)
            if not self._usable:
                raise RuntimeError(f"the mapper returned None for all {len(self)} samples")
            current = self._rng.choice(list(self._usable))
            if failures >= 3:
                _logger.warning(f"Sample {idx}: the mapper returned None {failures} times in a row")
        self._usable.add(current)
        return mapped


class _SerializedList:
    """A list kept as one tensor of pickled bytes.

    Python objects would be copied into every worker, because counting references writes to their
    memory pages; a tensor is shared with forked and spawned workers alike.
    """

    def __init__(self, items: list):
        pickles = [pickle.dumps(item, protocol=pickle.HIGHEST_PROTOCOL) for item in items]
        self._bounds = torch.from_numpy(np.cumsum([0, *map(len, pickles)]))
        # bytearray: torch warns about read-only memory.
        self._bytes = torch.from_numpy(np.frombuffer(bytearray().join(pickles), dtype=np.uint8))
        _logger.info(f"{len(items)} samples are kept in {len(self._bytes) / 2**20:.2f} MiB")

    def __len__(self) -> int:
        return len(self._bounds) - 1

    def __getitem__(self, idx: int) -> Any:
        idx = range(len(self))[idx]
        begin, end = self._bounds[idx : idx + 2]
        return pickle.loads(self._bytes[begin:end].numpy())


_default_container: Callable[[list], Any] = _SerializedList


@contextlib.contextmanager
def set_default_dataset_from_list_serialize_method(new: Callable[[list], Any]) -> Iterator[None]:
    """Let `DatasetFromList` make another container of its list by default, within the block."""
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
            copy: whether to hand out deep copies, so that callers may change them. A serialized
                list always does.
            serialize: whether to keep the elements as bytes in memory that workers share; or a
                function from the list to another container.
        """
        container = _default_container if serialize is True else serialize
        self._items = container(lst) if container else lst
        self._copy = copy and not container

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, idx: int) -> Any:
        item = self._items[idx]
        return copy.deepcopy(item) if self._copy else item


@dataclass(repr=False, eq=False)
class ToIterableDataset(IterableDataset):
    """The elements of a data set in the order of a sampler, as a stream.

    Attributes:
        dataset: with `__getitem__`.
        sampler: gives the indices.
        shard_sampler: whether the workers of a data loader share the indices out among themselves.
            Every worker runs the sampler, so without this each gives all elements; False is for a
            sampler that does it itself.
        shard_chunk_size: how many indices in a row go to the same worker. With the batch size,
            batches are the same for any number of workers.
    """

    dataset: Dataset
    sampler: Sampler
    shard_sampler: bool = True
    shard_chunk_size: int = 1

    def __iter__(self) -> Iterator:
        worker = get_worker_info() if self.shard_sampler else None
        num_workers, rank = (worker.num_workers, worker.id) if worker else (1, 0)
        for position, index in enumerate(self.sampler):
            if position // self.shard_chunk_size % num_workers == rank:
                yield self.dataset[index]

    def __len__(self) -> int:
        return len(self.sampler)


class AspectRatioGroupedDataset(IterableDataset):
    """Batches of wide images and batches of high (or square) ones, which need less padding.

    An element is a dict with "width" and "height". Elements that do not fill a batch stay for the
    next iteration.
    """

    def __init__(self, dataset: Iterable[dict], batch_size: int):
        self.dataset, self.batch_size = dataset, batch_size
        self._buckets: tuple[list[dict], list[dict]] = ([], [])

    def __iter__(self) -> Iterator[list[dict]]:
        for element in self.dataset:
            waiting = self._buckets[element["width"] <= element["height"]]
            waiting.append(element)
            if len(waiting) >= self.batch_size:
                # Emptied before the yield: whoever iterates may never come back.
                batch, waiting[:] = waiting[:], []
                yield batch


__getattr__ = module_getattr(__name__)
