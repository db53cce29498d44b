"""The hashes of a file, and of a model's weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits, without holding the file in memory.

    Raises:
        OSError: the file cannot be read.
    """
    return _hash_of(file, "sha256")


def md5_of(file: Path) -> str:
    """Return the MD5 of a file in the same way; it tells damage, not a forgery."""
    return _hash_of(file, "md5")


def weights_digest(state: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 of a ``state_dict``: of its sorted names with dtype, shape and bytes of each tensor.

    It is the same for the same values, whatever file they come from, in whatever order, layout or device.

    Args:
        state: dense tensors by name.
    """
    total = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        head = [name, str(tensor.dtype).removeprefix("torch."), list(tensor.shape)]
        total.update(json.dumps(head).encode())
        content = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        total.update(content.numpy().data)
    return total.hexdigest()


def _hash_of(file: Path, name: str) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, name).hexdigest()
