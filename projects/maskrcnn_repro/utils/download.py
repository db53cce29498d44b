"""Files from the web: kept only whole, of a bounded size, and with the hash that they should have.

Detectron2's own handler keeps as much as a server sends, and what it sends in place of a part. Beside each file
stands a record of its address and SHA-256, so that a file which changes later, here or on the server, is told.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlparse
from urllib.request import urlopen

from maskrcnn_repro.utils.hashes import md5_of, sha256_of

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
_ZOO = re.compile(r"https://dl\.fbaipublicfiles\.com/detectron2/.*/model_final_([0-9a-f]{6})\.pkl")
"""Detectron2's model zoo, whose files have the beginning of their MD5 in their names."""
_HUB = re.compile(r"hf://([^/@]+/[^/@]+)(?:@([^/]+))?/([^#]+)(#.*)?")


class WholeDownloads(HTTPURLHandler):
    """Handler of web addresses that keeps a file in iopath's cache once it is complete and right.

    The hash is stated by ``#sha256=HEX`` at the end of the address, or by a name such as
    ``resnet50-19c8e357.pth``; its first eight or more digits are compared. What is stated overrides the name.
    """

    def _get_local_path(
        self, path: str, force: bool = False, cache_dir: str | None = None, **kwargs: Any
    ) -> str:
        self._check_kwargs(kwargs)
        address = path.partition("#")[0]
        parts = Path(urlparse(address).path.lstrip("/")).parts
        if ".." in parts:  # it would lie outside the cache
            raise OSError("its path holds '..'")
        place = Path(get_cache_dir(cache_dir), *parts)
        place.parent.mkdir(parents=True, exist_ok=True)
        with file_lock(str(place)):
            # Of another server's file of the same path: as if it were not there.
            others = _read_record(place)[1] not in ("", address)
            if force or others or not place.is_file():
                logger.info("Downloading %s to %s", address, place)
                _fetch(address, place)
                if others:
                    _record_of(place).unlink()
            _check(path, address, place)
        return str(place)


class HubDownloads(WholeDownloads):
    """The same for files of Hugging Face's hub: ``hf://OWNER/REPO/FILE`` or ``hf://OWNER/REPO@REVISION/FILE``.

    The environment variable ``HF_ENDPOINT`` names another server, as for Hugging Face's own tools.
    """

    def _get_supported_prefixes(self) -> list[str]:
        return ["hf://"]

    def _get_local_path(self, path: str, *args: Any, **kwargs: Any) -> str:
        parts = _HUB.fullmatch(path)
        if not parts:
            raise OSError("it is no address of a file such as hf://OWNER/REPO/FILE")
        repo, revision, file, stated = parts.groups(default="")
        server = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
        url = f"{server}/{repo}/resolve/{revision or 'main'}/{file}{stated}"
        return super()._get_local_path(url, *args, **kwargs)


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


def _record_of(place: Path) -> Path:
    """Return the file that keeps the SHA-256 and the address of a download."""
    return place.with_name(f"{place.name}.sha256")


def _read_record(place: Path) -> tuple[str, str]:
    """Return the SHA-256 and the address of a download; empty where there is no record."""
    try:
        sha256, _, address = _record_of(place).read_text(encoding="utf-8").strip().partition("  ")
    except (OSError, ValueError):
        return "", ""
    return sha256, address


def _check(path: str, address: str, place: Path) -> None:
    """Compare a file's hash with what its address, its name and its record say; without a record make one.

    Raises:
        OSError: it has another one; the file is removed.
    """
    actual, record = sha256_of(place), _read_record(place)[0]
    stated, in_name = _STATED.search(path), _IN_NAME.search(address)
    if (expected := stated or in_name) and not actual.startswith(shown := expected[1].lower()):
        place.unlink()
        begins = actual[: len(shown)]
        # Eight digits may be a date.
        cure = f" (if {shown} in its name is no hash, add #sha256={begins} to its address)"
        hint = "" if stated else cure
        raise OSError(f"its SHA-256 begins with {begins}, not {shown}; it was not kept{hint}")
    zoo = _ZOO.fullmatch(address)
    if zoo and not (md5 := md5_of(place)).startswith(zoo[1]):
        place.unlink()
        raise OSError(f"its MD5 begins with {md5[:6]}, not {zoo[1]}; it was not kept")
    if record and actual != record:
        place.unlink()
        raise OSError(
            f"its SHA-256 is {actual[:8]}…, but {record[:8]}… when it first came; it was not kept (to take another "
            f"file from now on, remove {_record_of(place)})"
        )
    if not record:
        _record_of(place).write_text(f"{actual}  {address}\n", encoding="utf-8")
