"""Location and version of ``maskrcnn_repro``, without importing it, which takes seconds."""

import runpy
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "maskrcnn_repro"
"""In a checkout, an editable install and a wheel, both packages are in the same folder."""


def version() -> str:
    """Return the version of both packages."""
    return str(runpy.run_path(str(PACKAGE / "_version.py"))["__version__"])
