"""What happens when a name is asked for that Detectron2 has and this subset lacks.

``_real_names.txt`` lists every public module and name of Detectron2. Whatever stands there and is
not found here raises an ImportError that says what to install; anything else is an ordinary
AttributeError or ModuleNotFoundError, as for any module.
"""

import functools
import importlib
import importlib.abc
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

INSTALL_PAGE = "https://detectron2.readthedocs.io/tutorials/install.html"


@functools.cache
def real_names() -> dict[str, frozenset[str]]:
    """Return Detectron2's public names by module; a line of the text is ``module name ...``."""
    lines = Path(__file__).with_name("_real_names.txt").read_text().splitlines()
    return {module: frozenset(names) for module, *names in map(str.split, lines)}


def hint(name: str) -> str:
    """Return the sentence that every refusal carries."""
    return f"{name} is not in the embedded Detectron2; install Detectron2 ({INSTALL_PAGE})"


def module_getattr(module: str) -> Callable[[str], Any]:
    """Return the ``__getattr__`` (PEP 562) of a module of the subset.

    Args:
        module: its full name, ``__name__``.
    """

    def __getattr__(name: str) -> Any:
        full_name = f"{module}.{name}"
        if full_name in real_names():
            # A submodule. Import it: another finder may offer what we do not have.
            return importlib.import_module(full_name)
        if name in real_names().get(module, ()):
            raise ImportError(hint(full_name), name=module)
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return __getattr__


class AbsentModuleFinder(importlib.abc.MetaPathFinder):
    """Last finder: gives a missing module of Detectron2 an error message that helps."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
        """Raise ModuleNotFoundError for a module that Detectron2 has; leave any other to Python."""
        if fullname != "detectron2" and fullname in real_names():
            raise ModuleNotFoundError(hint(fullname), name=fullname)


def install_finder() -> None:
    """Append the finder to ``sys.meta_path``, once."""
    if not any(isinstance(finder, AbsentModuleFinder) for finder in sys.meta_path):
        sys.meta_path.append(AbsentModuleFinder())
