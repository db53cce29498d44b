"""Freed memory that stays with a process: the system need not clear the same pages again for every image.

Images and feature maps are large; by default the C library hands each of them back, and a twentieth of a training
step on a CPU, or a third of a data worker's time, goes to pages that the system clears. No number depends on it.
"""

from __future__ import annotations

import ctypes
import os
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
"""Parameters of mallopt(3)."""
_SETTINGS = (
    "GLIBC_TUNABLES",
    "MALLOC_TRIM_THRESHOLD_",
    "MALLOC_MMAP_MAX_",
    "MALLOC_MMAP_THRESHOLD_",
)
"""Environment variables by which a user sets them; what is set stays."""
LARGEST = 2**31 - 1
LARGEST_BLOCK = 2**25
"""The largest limit that glibc takes for blocks which it cuts from the heap, bytes."""
UNUSED = 2**28
"""Bytes that a process which handles one image after the other may keep beyond what it uses."""


def keep_freed_memory(most: int = LARGEST, *, huge: bool = True) -> bool:
    """Keep freed memory for what this process allocates next; tell whether that is so.

    It does nothing where the C library is not glibc, or where the user has set it by an environment variable.

    Args:
        most: bytes at the end of the heap that may lie unused.
        huge: keep blocks of more than :data:`LARGEST_BLOCK`, too. Where a process holds many of them at once, gaps
            between them cost memory: a third more in a training of R50-C4.
    """
    if not sys.platform.startswith("linux") or any(name in os.environ for name in _SETTINGS):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    # A block from an area of its own goes back as soon as it is freed.
    areas = (_MMAP_MAX, 0) if huge else (_MMAP_THRESHOLD, LARGEST_BLOCK)
    return bool(mallopt and mallopt(*areas) and mallopt(_TRIM_THRESHOLD, min(most, LARGEST)))
