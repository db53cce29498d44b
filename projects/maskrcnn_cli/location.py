"""Where ``maskrcnn_repro`` lies: what is read from its files needs no import of it, which takes seconds."""

import runpy
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "maskrcnn_repro"
"""In a checkout, an editable install and a wheel alike, both packages share one folder."""


def version() -> str:
    """Return the version of both packages."""
    return str(runpy.run_path(str(PACKAGE / "_version.py"))["__version__"])
