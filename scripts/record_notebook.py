#!/usr/bin/env python3
"""Run ``examples/own_pictures.ipynb`` from top to bottom and store its outputs in it; some minutes on a CPU."""

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "projects"), str(ROOT)]

import nbformat

from tests.helpers.notebook import NOTEBOOK, run_notebook


def main() -> None:
    """Run the notebook in a temporary folder and write it."""
    with tempfile.TemporaryDirectory() as folder:
        nbformat.write(run_notebook(NOTEBOOK, Path(folder).resolve()), NOTEBOOK)


if __name__ == "__main__":
    main()
