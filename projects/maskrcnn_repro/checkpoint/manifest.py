"""Manifests: beside each checkpoint a JSON file that tells whether it is whole, and whose it is.

``model_0000099.json`` beside ``model_0000099.pth`` holds ``size`` (bytes), ``sha256``, ``iteration``, ``run``
(an id that lasts over resumptions), ``config_sha256``, ``class_names`` and ``backend``.
"""

from __future__ import annotations

import functools
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maskrcnn_repro.utils.files import write_text
from maskrcnn_repro.utils.hashes import sha256_of


def manifest_of(file: Path) -> Path:
    """Return where the manifest of a checkpoint lies."""
    return file.with_suffix(".json")


def write_manifest(file: Path, size: int, sha256: str, facts: Mapping[str, Any]) -> None:
    """Write the manifest of a checkpoint, ``facts`` behind its size and hash."""
    content = {"size": size, "sha256": sha256, **facts}
    write_text(manifest_of(file), json.dumps(content, indent=2) + "\n")


def read_manifest(file: Path) -> dict[str, Any]:
    """Return the manifest of a checkpoint; empty if it has none that can be read."""
    try:
        content = json.loads(manifest_of(file).read_text(encoding="utf-8"))
    except (OSError, RecursionError, ValueError):
        return {}
    whole = isinstance(content, dict) and isinstance(content.get("sha256"), str)
    return content if whole else {}


def remove(file: Path) -> None:
    """Remove a checkpoint and its manifest."""
    file.unlink(missing_ok=True)
    manifest_of(file).unlink(missing_ok=True)


def damage(file: Path) -> str:
    """Return what is wrong with the bytes of a checkpoint; empty if nothing is.

    Without a manifest the checksums count that are in the file itself.
    """
    try:
        state = file.stat()
        return _damage(file, state.st_mtime_ns, state.st_size, _manifest_text(file))
    except OSError as error:
        return error.strerror or str(error)


def _manifest_text(file: Path) -> str:
    return json.dumps(read_manifest(file), sort_keys=True)


@functools.lru_cache(maxsize=64)  # a start asks more than once about the same large file
def _damage(file: Path, changed: int, size: int, manifest: str) -> str:
    expected = json.loads(manifest)
    if not expected:
        return _damage_by_checksums(file)
    if size != expected.get("size"):
        return f"{size} bytes instead of {expected.get('size')}"
    return (
        "" if sha256_of(file) == expected["sha256"] else "its SHA-256 is not that of its manifest"
    )


def _damage_by_checksums(file: Path) -> str:
    if not zipfile.is_zipfile(file):  # a format before PyTorch 1.6, or no checkpoint: reading tells
        return ""
    try:
        with zipfile.ZipFile(file) as archive:
            broken = archive.testzip()
    except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError, ValueError) as error:
        return str(error)
    return f"the checksum of its part {broken} is wrong" if broken else ""
