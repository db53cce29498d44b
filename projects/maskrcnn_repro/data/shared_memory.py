"""Shared memory of the operating system, through which data-loader workers hand over their images."""

from __future__ import annotations

import os
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")


def free_shared_memory() -> int | None:
    """Return the free bytes in ``/dev/shm``; None on systems that have no such folder."""
    if not SHARED_MEMORY.is_dir():
        return None
    space = os.statvfs(SHARED_MEMORY)
    return space.f_bavail * space.f_frsize
