"""The two registries: how to load a data set, and what is known about it."""

import difflib
from collections import UserDict
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

from detectron2._absent import module_getattr

__all__ = ["DatasetCatalog", "Metadata", "MetadataCatalog"]


def _did_you_mean(name: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, names)
    return f" Did you mean {' or '.join(map(repr, near))}?" if near else ""


class _Catalog(UserDict):
    """A dict from data set names, with the catalogs' method names."""

    def list(self) -> list[str]:
        """Return all names, in the order of registration."""
        return [*self.data]

    def remove(self, name: str) -> None:
        """Forget a name; KeyError if there is none such."""
        del self[name]

    def __repr__(self) -> str:
        return f"{type(self).__name__.strip('_')}({', '.join(self.data)})"


class _DatasetCatalog(_Catalog):
    """Functions that load data sets, by name.

    A function takes nothing and returns, every time, the same list of data set dicts.
    """

    def register(self, name: str, func: Callable[[], Any]) -> None:
        """Add a data set.

        Raises:
            AssertionError: `func` cannot be called, or the name is taken (Detectron2's type).
        """
        assert callable(func), f"data set {name!r}: expected a function that loads it, got {func!r}"
        assert name not in self, f"data set {name!r} is already registered"
        self[name] = func

    def get(self, name: str) -> Any:
        """Load a data set, mostly a list of dicts.

        Raises:
            KeyError: there is no such name.
        """
        if name not in self:
            hint = f"{_did_you_mean(name, self)} Registered: {', '.join(self) or 'none'}"
            raise KeyError(f"Dataset {name!r} is not registered.{hint}")
        return self[name]()


class Metadata(SimpleNamespace):
    """Facts about one data set, as attributes: `thing_classes`, `keypoint_names`, `json_file` ...

    A fact can be set once; to set it again is fine only with an equal value.
    """

    name: str = "N/A"

    def __getattr__(self, fact: str) -> Any:
        facts = vars(self)
        message = f"Metadata of data set {self.name!r} has no {fact!r}.{_did_you_mean(fact, facts)}"
        raise AttributeError(f"{message} It has: {', '.join(facts)}")

    def __setattr__(self, fact: str, value: Any) -> None:
        old = self.get(fact, value)
        # AssertionError is what Detectron2 raises, and projects catch it.
        place = f"Metadata {fact!r} of data set {self.name!r}"
        assert old == value, f"{place} is set to {old!r} already; it cannot become {value!r}"
        super().__setattr__(fact, value)

    def as_dict(self) -> dict[str, Any]:
        """Return a shallow copy of all facts."""
        return dict(vars(self))

    def set(self, **kwargs: Any) -> "Metadata":
        """Set several facts; returns itself."""
        for fact, value in kwargs.items():
            setattr(self, fact, value)
        return self

    def get(self, key: str, default: Any = None) -> Any:
        """Return a fact, or `default` if it is not known."""
        return getattr(self, key, default)


class _MetadataCatalog(_Catalog):
    """`Metadata` by data set name; each is created empty when it is first asked for."""

    def get(self, name: str) -> Metadata:
        """Return the one Metadata of this name.

        Raises:
            ValueError: the name is empty.
        """
        if not name:
            raise ValueError("the name of a data set must not be empty")
        return self.data.setdefault(name, Metadata(name=name))


DatasetCatalog, MetadataCatalog = _DatasetCatalog(), _MetadataCatalog()

__getattr__ = module_getattr(__name__)
