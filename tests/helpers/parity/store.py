"""Small files of numbers: readable JSON, gzipped where it is long, npz for pixels."""

import gzip
import json

import numpy as np

from tests.helpers.paths import STORED

FOLDER = STORED / "parity"


def write(name, content):
    """Store a dict, one line for each key; ``.gz`` files are the same on every day."""
    lines = [
        f"{json.dumps(key)}:{json.dumps(value, separators=(',', ':'))}"
        for key, value in content.items()
    ]
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    FOLDER.mkdir(parents=True, exist_ok=True)
    data = text.encode()
    (FOLDER / name).write_bytes(gzip.compress(data, mtime=0) if name.endswith(".gz") else data)


def read(name):
    data = (FOLDER / name).read_bytes()
    return json.loads(gzip.decompress(data) if name.endswith(".gz") else data)


def write_arrays(name, arrays):
    FOLDER.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(FOLDER / name, **arrays)


def read_arrays(name):
    with np.load(FOLDER / name) as archive:
        return dict(archive)


def rounded(array, decimals):
    """Return nested lists of Python floats, short in JSON."""
    return np.round(np.asarray(array, dtype=np.float64), decimals).tolist()
