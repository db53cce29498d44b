"""Where the tables of plug-ins lie: YAML files beside the paper's data, found without importing a plug-in.

An installed package names its file by an entry point of the group :data:`GROUP`: ``name = "package.folder.file"`` is
``folder/file.yaml`` in the package. Any other file is named on the command line.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
from pathlib import Path

GROUP = "maskrcnn_repro.tables"
SUFFIXES = (".yaml", ".yml")
"""A word of a command line that ends so is a file with tables, not a table's id."""


def installed_files() -> dict[str, Path]:
    """Return the files that installed packages announce, by the value of their entry points, sorted.

    ``MASKRCNN_REPRO_PLUGINS=0`` leaves all of them out. A file may be missing: whoever reads it says so.
    """
    if _switched_off():
        return {}
    points = importlib.metadata.entry_points(group=GROUP)
    return {value: _file(value) for value in sorted({point.value for point in points})}


def hint() -> str:
    """Return a sentence about tables that are not listed: how those of plug-ins come in."""
    where = (
        "MASKRCNN_REPRO_PLUGINS=0 switches the tables of installed plug-ins off"
        if _switched_off()
        else "A plug-in's table has a name here once its package is installed"
    )
    return f"{where}; any file with tables can be named by its path, such as my_tables.yaml."


def _switched_off() -> bool:
    return os.environ.get("MASKRCNN_REPRO_PLUGINS") == "0"


def _file(value: str) -> Path:
    package, *parts = value.split(".")
    # Of a package at the top, finding the spec imports nothing.
    spec = importlib.util.find_spec(package)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    files = [Path(folder, *parts).with_suffix(".yaml") for folder in folders or [package]]
    return next((file for file in files if file.is_file()), files[0])
