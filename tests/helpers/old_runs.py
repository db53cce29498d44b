"""Run folders that an older version left (``stored/runs``), laid out as they were where they were made."""

import gzip
import json
import shutil

from tests.helpers.paths import STORED

FOLDER = STORED / "runs"


def lay_out(name, target, output=None):
    """Copy the folder ``name`` and its data into ``target``, with checkpoints unpacked.

    Paths in the files are relative: commands and tests run with ``target`` as working directory.

    Args:
        name: ``table`` or ``training``.
        target: an existing folder.
        output: a folder in it to be renamed ``output``.
    """
    for source in (FOLDER / name, FOLDER / "data"):
        place = target / "data" if source.name == "data" else target
        shutil.copytree(source, place, dirs_exist_ok=True)
    for packed in target.rglob("*.pth.gz"):
        packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
        packed.unlink()
    if output:
        (target / output).rename(target / "output")


def contents(folder):
    """Return the bytes of each file below ``folder``."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def read_json(path):
    """Return what a JSON file holds."""
    return json.loads(path.read_text(encoding="utf-8"))
