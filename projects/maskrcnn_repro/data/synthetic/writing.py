"""A generated data set on disk: PNG images and a COCO JSON, written once, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from maskrcnn_repro.errors import DataError

import numpy as np
import portalocker
from PIL import Image

Contents = dict[str, Any]
"""What a folder holds: version, seed, split, number of images."""

_MARKER = "complete.json"


def cache_root() -> Path:
    """Return the folder for generated data.

    The first of these that is set: ``MASKRCNN_REPRO_CACHE``, ``DETECTRON2_DATASETS`` (Detectron2's own
    folder of data sets), ``XDG_CACHE_HOME``; else the user's cache folder of the platform.
    """
    for variable, below in (
        ("MASKRCNN_REPRO_CACHE", ""),
        ("DETECTRON2_DATASETS", ""),
        ("XDG_CACHE_HOME", "maskrcnn_repro"),
        ("LOCALAPPDATA", "maskrcnn_repro"),
    ):
        if os.environ.get(variable):
            return Path(os.environ[variable]).expanduser() / below
    caches = "Library/Caches" if sys.platform == "darwin" else ".cache"
    return Path.home() / caches / "maskrcnn_repro"


def write_once(
    target: Path, contents: Contents, draw_all: Callable[[Path, Contents], dict[str, Any]]
) -> None:
    """Write a data set unless it is there already.

    Any number of processes may call this at once: one writes, the others wait for it. A folder appears
    under its final name only when it is complete, so a killed writer leaves nothing that could be taken
    for data.

    Args:
        target: the folder; gets ``instances.json`` and ``images/``.
        contents: what tells this data set from others.
        draw_all: writes the images into a folder and returns the COCO JSON.

    Raises:
        DataError: the folder cannot be written.
    """
    if _is_complete(target, contents):
        return
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # The operating system frees the lock when its holder dies, however it dies.
        with portalocker.Lock(target.with_name(f"{target.name}.lock"), timeout=600):
            if not _is_complete(target, contents):
                _write_beside(target, contents, draw_all)
    except (OSError, portalocker.LockException) as error:
        raise DataError(
            f"Generated data cannot be written to {target}: {error}; set MASKRCNN_REPRO_CACHE to a "
            "folder that can be written."
        ) from error


def digest(data: Path) -> str:
    """Return the SHA-256 of a data set: its JSON in canonical form, then the pixels of each image.

    Of decoded pixels, because the bytes of a PNG file depend on the zlib that wrote it.
    """
    tree = json.loads((data / "instances.json").read_text(encoding="ascii"))
    total = hashlib.sha256(canonical_json(tree))
    for record in tree["images"]:
        with Image.open(data / "images" / record["file_name"]) as image:
            total.update(np.asarray(image).tobytes())
    return total.hexdigest()


def canonical_json(tree: Any) -> bytes:
    """Return JSON with sorted keys and no spaces."""
    return json.dumps(tree, sort_keys=True, separators=(",", ":")).encode("ascii")


def _is_complete(target: Path, contents: Contents) -> bool:
    try:
        return (target / _MARKER).read_bytes() == canonical_json(contents)
    except OSError:
        return False


def _write_beside(
    target: Path, contents: Contents, draw_all: Callable[[Path, Contents], dict[str, Any]]
) -> None:
    """Write into a temporary folder beside ``target`` and rename it; the caller holds the lock."""
    # Only the holder of the lock makes such folders: whatever is here was left by a killed writer.
    for stale in target.parent.glob(f"{target.name}.tmp-*"):
        shutil.rmtree(stale)
    fresh = Path(tempfile.mkdtemp(prefix=f"{target.name}.tmp-", dir=target.parent))
    # mkdtemp's folders are private; a shared data folder is read by others.
    fresh.chmod(0o755)
    (fresh / "images").mkdir()
    tree = draw_all(fresh / "images", contents)
    (fresh / "instances.json").write_bytes(canonical_json(tree))
    (fresh / _MARKER).write_bytes(canonical_json(contents))
    if target.exists():
        shutil.rmtree(target)
    fresh.rename(target)
