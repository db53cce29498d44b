"""Choice of the Detectron2 that answers ``import detectron2``: the installed one or the embedded one.

``MASKRCNN_REPRO_BACKEND`` forces it: ``auto`` (default: the installed one wins), ``installed``, ``embedded``.
This is the only module of the package that touches ``sys.path``. A path entry, and not an import hook,
because spawn and forkserver workers inherit the path but no hooks.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from maskrcnn_repro._location import CHECKOUT, PACKAGE
from maskrcnn_repro.errors import BackendError, did_you_mean

VARIABLE = "MASKRCNN_REPRO_BACKEND"
CHOICES = ("auto", "installed", "embedded")
INSTALL_PAGE = "https://detectron2.readthedocs.io/tutorials/install.html"


@dataclass(frozen=True)
class Backend:
    """Which Detectron2 is in use; part of every result."""

    name: str
    """``installed`` or ``embedded``."""
    version: str
    """``detectron2.__version__``; the embedded subset says ``0.6+embedded``."""
    location: str
    """Folder of the ``detectron2`` package."""

    def __str__(self) -> str:
        return f"{self.name} Detectron2 {self.version}"


def embedded_path() -> Path:
    """Return the folder that holds the embedded ``detectron2`` package.

    In a checkout and an editable install that is ``compat/`` at the root, in a wheel ``_embedded/`` here.
    """
    for folder in (PACKAGE / "_embedded", CHECKOUT / "compat"):
        if (folder / "detectron2" / "__init__.py").is_file():
            return folder
    raise BackendError(
        f"The embedded Detectron2 is missing beside {PACKAGE}; install maskrcnn-repro again, "
        f"or install Detectron2 ({INSTALL_PAGE})."
    )


BACKEND: Backend
"""The backend of this process, once :func:`activate` has chosen it, which importing this package does."""


def activate() -> Backend:
    """Make ``import detectron2`` find the chosen backend and return what was chosen.

    Raises:
        BackendError: the variable has an unknown value, a forced backend is missing, or another
            Detectron2 was imported before.
    """
    global BACKEND
    BACKEND = _choose()
    return BACKEND


def _choose() -> Backend:
    choice = os.environ.get(VARIABLE, "auto") or "auto"
    if choice not in CHOICES:
        raise BackendError(
            f"{VARIABLE}={choice!r} is not one of {', '.join(CHOICES)}.{did_you_mean(choice, CHOICES)}"
        )
    loaded = sys.modules.get("detectron2")
    if loaded is not None and getattr(loaded, "__file__", None):
        return _keep_loaded(_describe(), choice)
    if choice == "embedded":
        _prefer(embedded_path())
    elif not _is_installed():
        if choice == "installed":
            raise BackendError(
                f"{VARIABLE}=installed, but this Python ({sys.executable}) has no Detectron2: install it "
                f"({INSTALL_PAGE}) or unset {VARIABLE} to use the embedded one."
            )
        _append(embedded_path())
    # A broken installation raises its own error here: falling back would change numbers unnoticed.
    importlib.import_module("detectron2")
    return _keep_loaded(_describe(), choice)


def _is_installed() -> bool:
    """Tell whether a real package answers; a bare folder named ``detectron2`` has no origin."""
    embedded = str(embedded_path())
    path = [
        entry for entry in sys.path if os.path.realpath(entry or ".") != os.path.realpath(embedded)
    ]
    for finder in sys.meta_path:
        if finder is importlib.machinery.PathFinder:
            # Without the embedded folder, which a parent process may have put on the path.
            spec = importlib.machinery.PathFinder.find_spec("detectron2", path)
        else:  # editable installs may come as finders of their own
            spec = finder.find_spec("detectron2", None) if hasattr(finder, "find_spec") else None
        if spec is not None and spec.origin is not None:
            return True
    return False


def _append(folder: Path) -> None:
    """Append ``folder`` to the path once, last, so that an installed package would win."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def _prefer(folder: Path) -> None:
    """Put ``folder`` in front of an installed Detectron2, for this process and its children."""
    if str(folder) in sys.path:
        sys.path.remove(str(folder))
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()


def _keep_loaded(backend: Backend, choice: str) -> Backend:
    if choice not in ("auto", backend.name):
        raise BackendError(
            f"{VARIABLE}={choice}, but `import detectron2` gave the {backend} at {backend.location}; "
            "import maskrcnn_repro before detectron2 and take that folder off PYTHONPATH."
        )
    return backend


def _describe() -> Backend:
    module = sys.modules["detectron2"]
    version = str(getattr(module, "__version__", "unknown"))
    name = "embedded" if version.endswith("+embedded") else "installed"
    return Backend(name=name, version=version, location=str(Path(str(module.__file__)).parent))
