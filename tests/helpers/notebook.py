"""Runs a notebook from top to bottom, its commands those of this checkout."""

import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbformat.v4 import new_output

from tests.helpers.paths import ROOT

NOTEBOOK = ROOT / "examples" / "own_pictures.ipynb"
FAILS = "\nassert get_ipython().user_ns.get('_exit_code', 0) == 0"
"""What IPython leaves out: a cell whose command failed has failed."""


def run_notebook(path: Path, folder: Path) -> NotebookNode:
    """Return a notebook with the outputs of a run in an empty folder, whose path is cut out of them.

    No history is kept, and settings of the user are not read.

    Raises:
        CellExecutionError: a cell raises, or its command ends with another status than 0.
    """
    notebook = nbformat.read(path, as_version=4)
    sources = [cell.source for cell in notebook.cells]
    for cell in notebook.cells:
        if cell.source.startswith("!"):
            cell.source += FAILS
    client = NotebookClient(
        notebook,
        timeout=1800,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
        extra_arguments=["--HistoryManager.enabled=False"],
    )
    client.execute(env=_environment(folder))
    for cell, source in zip(notebook.cells, sources, strict=True):
        cell.source = source
        if cell.cell_type == "code":
            cell.outputs = _tidy(cell.outputs, folder)
    return notebook


def _tidy(outputs: list[NotebookNode], folder: Path) -> list[NotebookNode]:
    """Return outputs whose printed parts are one, without bars of progress and without the folder's path."""
    printed = "".join(output.get("text", "") for output in outputs).replace(f"{folder}{os.sep}", "")
    # A carriage return begins a line anew: the last text stays.
    lines = [line.rstrip().rpartition("\r")[2] for line in printed.split("\n")]
    text = "".join(f"{line}\n" for line in lines if line)
    others = [output for output in outputs if "text" not in output]
    return [new_output("stream", name="stdout", text=text), *others] if text else others


def _environment(folder: Path) -> dict[str, str]:
    """Return the variables of a kernel that finds this checkout and keeps its own files in ``folder``."""
    programs = folder / ".bin"
    programs.mkdir()
    command = programs / "maskrcnn"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m maskrcnn_cli "$@"\n')
    command.chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([str(ROOT / "projects"), os.environ.get("PYTHONPATH", "")]),
        "IPYTHONDIR": str(folder / ".ipython"),
    }
