"""One detector out of an RPN and of heads that were trained on the same, frozen backbone (Sec. 4.4).

The last step of 4-step training; ``maskrcnn join-weights`` does it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from maskrcnn_repro.checkpoint.checkpointer import read_content
from maskrcnn_repro.errors import CheckpointError
from maskrcnn_repro.utils.files import replaced
from maskrcnn_repro.utils.provenance import file_hash

import torch

BACKBONE, RPN, HEADS = "backbone.", "proposal_generator.", "roi_heads."
SHOWN = 3
Weights = Mapping[str, torch.Tensor]


def join(rpn: Path, detector: Path, out: Path) -> None:
    """Write a checkpoint with the backbone and the RPN of one and all else of another.

    Raises:
        CheckpointError: a file cannot be read, has not the part that it is to give, or the two differ in
            a tensor of the backbone: then they share no features, and joining would change both.
    """
    first, second = _weights(rpn, RPN), _weights(detector, HEADS)
    shared, other = _part(first, BACKBONE), _part(second, BACKBONE)
    different = sorted(
        name
        for name in shared.keys() | other.keys()
        if name not in shared or name not in other or not torch.equal(shared[name], other[name])
    )
    if different:
        raise CheckpointError(
            f"{str(rpn)!r} and {str(detector)!r} differ in {len(different)} of "
            f"{len(shared.keys() | other.keys())} tensors of the backbone "
            f"({', '.join(different[:SHOWN])} …): train both on one backbone with "
            "MODEL.BACKBONE.FREEZE_ALL True."
        )
    rest = {name: tensor for name, tensor in second.items() if not name.startswith(RPN)}
    sources = {str(path): file_hash(str(path)) for path in (rpn, detector)}
    with replaced(out) as beside:
        torch.save({"model": {**rest, **_part(first, RPN)}, "joined_from": sources}, beside)
    print(f"Weights: {out}", flush=True)


def _weights(path: Path, needed: str) -> Weights:
    if not path.is_file():
        raise CheckpointError(f"Weights {str(path)!r} do not exist.")
    content = read_content(path)
    weights: Weights = content.get("model", content)
    if path.suffix == ".pkl" or not (_part(weights, needed) and _part(weights, BACKBONE)):
        raise CheckpointError(
            f"{str(path)!r} is no checkpoint (.pth) with tensors '{BACKBONE}*' and '{needed}*'."
        )
    return weights


def _part(weights: Weights, prefix: str) -> Weights:
    return {name: tensor for name, tensor in weights.items() if name.startswith(prefix)}
