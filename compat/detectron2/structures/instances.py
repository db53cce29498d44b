"""The objects of one image, with as many properties as there are."""

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from detectron2._absent import module_getattr

__all__ = ["Instances"]


class Instances:
    """Fields of equal length, one entry per object, read and written as attributes.

    A field is a tensor, a list, or anything with a length and an index, such as Boxes::

        instances = Instances((height, width), scores=scores)
        instances.pred_boxes = boxes
        instances[instances.scores > 0.5]  # all fields at once

    Args:
        image_size: height, width in pixels of the image that boxes and masks refer to.
        **kwargs: fields.
    """

    def __init__(self, image_size: tuple[int, int], **kwargs: Any) -> None:
        self._image_size, self._fields = image_size, {}
        for name, value in kwargs.items():
            self.set(name, value)

    @property
    def image_size(self) -> tuple[int, int]:
        """Height, width."""
        return self._image_size

    def __setattr__(self, name: str, val: Any) -> None:
        store = super().__setattr__ if name[0] == "_" else self.set
        store(name, val)

    def __getattr__(self, name: str) -> Any:
        fields = self.__dict__.get("_fields", {})  # absent while being unpickled
        if name not in fields:
            raise AttributeError(f"Instances have no field {name!r}; there are {sorted(fields)}.")
        return fields[name]

    def set(self, name: str, value: Any) -> None:
        """Add or replace a field.

        Raises:
            AssertionError: its length is not that of the other fields.
        """
        assert not self._fields or len(value) == len(self), (
            f"Field {name!r} has length {len(value)}, the other fields have {len(self)}"
        )
        self._fields[name] = value

    def has(self, name: str) -> bool:
        """Tell whether there is a field of this name."""
        return name in self._fields

    def remove(self, name: str) -> None:
        """Delete a field."""
        self._fields.pop(name)

    def get(self, name: str) -> Any:
        """Return a field.

        Raises:
            KeyError: there is none of this name.
        """
        return self._fields[name]

    def get_fields(self) -> dict[str, Any]:
        """Return the fields themselves: changes of the dict change the instances."""
        return self._fields

    def to(self, *args: Any, **kwargs: Any) -> "Instances":
        """Return the instances on a device; fields without ``to`` stay as they are."""
        moved = {
            name: value.to(*args, **kwargs) if hasattr(value, "to") else value
            for name, value in self._fields.items()
        }
        return Instances(self._image_size, **moved)

    def __getitem__(self, item: int | slice | Tensor) -> "Instances":
        """Return the instances at an integer, a slice, or a vector of indices or bools.

        Raises:
            IndexError: an integer that is out of range.
        """
        if type(item) is int:
            if not -len(self) <= item < len(self):
                raise IndexError(f"There is no instance {item}; there are {len(self)}.")
            item = slice(item, item + 1 or None)
        chosen = {name: value[item] for name, value in self._fields.items()}
        return Instances(self._image_size, **chosen)

    def __len__(self) -> int:
        for value in self._fields.values():
            return len(value)
        raise NotImplementedError("Instances without fields have no length")

    def __iter__(self) -> Any:
        # Python would otherwise try integers from 0, which is slow and hides mistakes.
        raise NotImplementedError("Instances cannot be iterated over; use an index")

    @staticmethod
    def cat(instance_lists: Sequence["Instances"]) -> "Instances":
        """Return all instances of a list in one object.

        Args:
            instance_lists: at least one, all of one image size and with the fields of the first.

        Raises:
            ValueError: a field is neither tensor nor list and has no ``cat``.
        """
        first = instance_lists[0]
        if len(instance_lists) == 1:
            return first
        if not isinstance(first.image_size, Tensor):  # it is one while a model is traced
            sizes = {tuple(instances.image_size) for instances in instance_lists}
            assert len(sizes) == 1, f"instances of images of different size: {sizes}"
        result = Instances(first.image_size)
        for name, value in first.get_fields().items():
            values = [instances.get(name) for instances in instance_lists]
            kind = type(value)
            if isinstance(value, Tensor):
                joined = torch.cat(values)
            elif isinstance(value, list):
                joined = list(itertools.chain.from_iterable(values))
            elif hasattr(kind, "cat"):
                joined = kind.cat(values)
            else:
                raise ValueError(f"Field {name!r} is a {kind.__name__}; it cannot be concatenated.")
            result.set(name, joined)
        return result

    def __repr__(self) -> str:
        height, width = self._image_size
        fields = ", ".join(f"{name}: {value}" for name, value in self._fields.items())
        return (
            f"{type(self).__name__}(num_instances={len(self)}, image_height={height}, "
            f"image_width={width}, fields=[{fields}])"
        )


__getattr__ = module_getattr(__name__)
