"""Writing of a generated data set to disk, PNG images and a COCO JSON: once, and atomically."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from maskrcnn_repro.data.image_file import ImageError, verify_image
from maskrcnn_repro.errors import DataError

import numpy as np
import portalocker
from PIL import Image

Contents = dict[str, Any]
"""Identity of a data set: version, seed, split, number of images."""

Names = tuple[str, str]
"""Of a folder of images and of a JSON; the folder may be the data set's own, ``.``."""

PATIENCE = 600
"""Seconds for which a process waits for another one that writes the same data set."""
_MARKER = "complete.json"


def cache_root() -> Path:
    """Return the folder of all generated data.

    The first environment variable that is set counts: ``MASKRCNN_REPRO_CACHE``, ``DETECTRON2_DATASETS``
    (Detectron2's folder of data sets), ``XDG_CACHE_HOME``, ``LOCALAPPDATA``; else the platform's cache folder.
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
    target: Path,
    contents: Contents,
    draw_all: Callable[[Path, Contents], dict[str, Any]],
    names: Names = ("images", "instances.json"),
) -> None:
    """Write a data set unless it exists already.

    Any number of processes may call this at once: one writes, the others wait for it, for at most :data:`PATIENCE`.
    The folder gets its final name when it is complete, so that a killed writer leaves nothing that could be taken for
    data.

    Args:
        target: the folder.
        contents: identity of the data set.
        draw_all: writes the images into a folder and returns the COCO JSON.
        names: of that folder and of the JSON, below ``target``.

    Raises:
        DataError: the folder cannot be written, or another process still writes it.
    """
    if _is_complete(target, contents):
        return
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # A lock of the operating system, which ends with the process, even if it is killed.
        with portalocker.Lock(target.with_name(f"{target.name}.lock"), timeout=PATIENCE):
            if not _is_complete(target, contents):
                _write_beside(target, contents, draw_all, names)
    except portalocker.AlreadyLocked as error:
        raise DataError(
            f"Generated data in {target} are still written by another process after {PATIENCE} seconds; start again when "
            "it has ended."
        ) from error
    except (OSError, portalocker.LockException) as error:
        raise DataError(
            f"Generated data cannot be written to {target}: {error}; set MASKRCNN_REPRO_CACHE to a "
            "folder that can be written."
        ) from error


@functools.cache
def check_images(data: Path, names: tuple[str, ...]) -> None:
    """Raise DataError if an image of a data set is missing or damaged; asked once in a process."""
    for name in names:
        try:
            verify_image(data / "images" / name)
        except ImageError as error:
            raise damaged(data, str(error).rstrip(".")) from error


def damaged(data: Path, reason: str) -> DataError:
    """Return the error of a data set that something else than :func:`write_once` has changed."""
    return DataError(
        f"Generated data in {data} are damaged ({reason}); remove that folder, and it is drawn again."
    )


def digest(data: Path) -> str:
    """Return the SHA-256 of a data set: of its JSON in canonical form and the pixels of each image."""
    # Decoded pixels, because the bytes of a PNG file depend on the version of zlib.
    tree = json.loads((data / "instances.json").read_text(encoding="ascii"))
    total = hashlib.sha256(canonical_json(tree))
    for record in tree["images"]:
        with Image.open(data / "images" / record["file_name"]) as image:
            total.update(np.asarray(image).tobytes())
    return total.hexdigest()


def canonical_json(tree: Any) -> bytes:
    """Return JSON with sorted keys and without spaces, as ASCII."""
    return json.dumps(tree, sort_keys=True, separators=(",", ":")).encode("ascii")


def _is_complete(target: Path, contents: Contents) -> bool:
    try:
        return (target / _MARKER).read_bytes() == canonical_json(contents)
    except OSError:
        return False


def _write_beside(
    target: Path,
    contents: Contents,
    draw_all: Callable[[Path, Contents], dict[str, Any]],
    names: Names,
) -> None:
    """Write into a temporary folder beside ``target`` and rename it; the caller holds the lock."""
    # Only the holder of the lock creates such folders: these were left by killed writers.
    for stale in target.parent.glob(f"{target.name}.tmp-*"):
        shutil.rmtree(stale)
    fresh = Path(tempfile.mkdtemp(prefix=f"{target.name}.tmp-", dir=target.parent))
    # mkdtemp's folders are private, but a data folder may be shared by several users.
    fresh.chmod(0o755)
    images, file = (fresh / name for name in names)
    images.mkdir(exist_ok=True)
    tree = draw_all(images, contents)
    file.write_bytes(canonical_json(tree))
    (fresh / _MARKER).write_bytes(canonical_json(contents))
    if target.exists():
        shutil.rmtree(target)
    fresh.rename(target)
