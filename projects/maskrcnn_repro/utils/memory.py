"""Memory that does not suffice, of the GPU or of the machine, as a sentence."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from maskrcnn_repro.errors import UserError

import torch

logger = logging.getLogger(__name__)


@contextmanager
def memory_needed() -> Iterator[None]:
    """Turn a lack of memory within the block into a sentence; the log keeps the traceback.

    Raises:
        UserError: there was no memory for a tensor or for a value.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_lack(error):
            raise
        logger.debug("Out of memory", exc_info=error)
        text = (str(error).strip() or "no details").splitlines()[0]
        raise UserError(
            f"Out of memory ({text:.200}); checkpoints are intact: give each part of a batch fewer images "
            "(SOLVER.ACCUMULATE 2 halves them), or smaller ones (INPUT.MIN_SIZE_TRAIN, INPUT.MAX_SIZE_TRAIN, in an "
            "evaluation INPUT.MIN_SIZE_TEST), or a smaller model; log.txt has the place."
        ) from error


def is_lack(error: BaseException) -> bool:
    """Tell whether an error is a lack of memory."""
    # PyTorch has a class of its own for GPUs alone.
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        "DefaultCPUAllocator" in str(error)
    )
