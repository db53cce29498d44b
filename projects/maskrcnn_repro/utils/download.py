"""Files from the web: kept only whole, of a bounded size, and with the hash that the address states.

Detectron2's own handler keeps as much as a server sends, and what it sends in place of a part.
"""

from __future__ import annotations

import logging
import re
import shutil
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlparse
from urllib.request import urlopen

from maskrcnn_repro.utils.hashes import sha256_of

from iopath.common.file_io import HTTPURLHandler, file_lock, get_cache_dir

logger = logging.getLogger(__name__)
LIMIT = 16 << 30
"""Bytes that a file may have; the largest of the model zoos has 1.5 GB."""
BLOCK = 1 << 20
TIMEOUT = 60
"""Seconds without a byte after which a download is given up."""
_STATED = re.compile(r"#sha256=([0-9a-fA-F]{8,64})$")
_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.\w+$")
"""PyTorch's convention for published weights."""


class WholeDownloads(HTTPURLHandler):
    """Handler of web addresses that keeps a file in iopath's cache once it is complete and right.

    The hash is stated by ``#sha256=HEX`` at the end of the address, or by a name such as
    ``resnet50-19c8e357.pth``; its first eight or more digits are compared.
    """

    def _get_local_path(
        self, path: str, force: bool = False, cache_dir: str | None = None, **kwargs: Any
    ) -> str:
        self._check_kwargs(kwargs)
        address = path.partition("#")[0]
        place = Path(get_cache_dir(cache_dir), urlparse(address).path.lstrip("/"))
        place.parent.mkdir(parents=True, exist_ok=True)
        with file_lock(str(place)):
            if force or not place.is_file():
                logger.info("Downloading %s to %s", address, place)
                _fetch(address, place)
            expected = _STATED.search(path) or _IN_NAME.search(address)
            if expected:
                _check_hash(place, expected[1].lower())
        return str(place)


def _fetch(address: str, place: Path) -> None:
    """Download a file, which is at ``place`` only when it is complete.

    Raises:
        OSError: the server ends too early, sends too much or nothing, or the disk is too small.
    """
    beside = place.with_name(f".part-{place.name}")
    try:
        with urlopen(address, timeout=TIMEOUT) as answer, beside.open("wb") as file:
            stated = answer.headers.get("Content-Length")
            free = shutil.disk_usage(place.parent).free
            limit = min(LIMIT, free)
            if stated and int(stated) > limit:
                raise OSError(
                    f"it has {stated} bytes, of which at most {LIMIT} are taken and {free} fit on the disk"
                )
            size = _copy(answer, file, limit)
        if not size or (stated and size != int(stated)):
            raise OSError(f"{size} of {stated or 'more'} bytes came")
        beside.replace(place)
    finally:
        beside.unlink(missing_ok=True)


def _copy(answer: Any, file: IO[bytes], limit: int) -> int:
    """Copy a stream and return its number of bytes, at most ``limit``."""
    size = 0
    while block := answer.read(BLOCK):
        size += len(block)
        if size > limit:
            raise OSError(f"more than {limit} bytes came")
        file.write(block)
    return size


def _check_hash(place: Path, expected: str) -> None:
    actual = sha256_of(place)
    if not actual.startswith(expected):
        place.unlink()
        raise OSError(
            f"its SHA-256 begins with {actual[: len(expected)]}, not {expected}; it was not kept"
        )
