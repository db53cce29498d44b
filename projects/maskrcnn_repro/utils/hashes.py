"""The hashes of a file."""

from __future__ import annotations

import hashlib
from pathlib import Path


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits, without holding the file in memory.

    Raises:
        OSError: the file cannot be read.
    """
    return _hash_of(file, "sha256")


def md5_of(file: Path) -> str:
    """Return the MD5 of a file in the same way; it tells damage, not a forgery."""
    return _hash_of(file, "md5")


def _hash_of(file: Path, name: str) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, name).hexdigest()
