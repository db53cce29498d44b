"""Which tensors hold NaN or infinity."""

from __future__ import annotations

from collections.abc import Iterable

import torch


def not_finite(tensors: Iterable[tuple[str, torch.Tensor]]) -> list[str]:
    """Return the names of the tensors with a value that is NaN or infinite.

    Args:
        tensors: names and tensors of any type and shape; integers are finite, and meta tensors hold nothing.
    """
    held = ((name, tensor.detach()) for name, tensor in tensors if not tensor.is_meta)
    return [name for name, tensor in held if not bool(tensor.isfinite().all())]
