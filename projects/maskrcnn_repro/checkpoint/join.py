"""Joins an RPN and a detector, trained on the same frozen backbone, to one model (Sec. 4.4).

The last step of 4-step training: ``maskrcnn join-weights``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from maskrcnn_repro.checkpoint.weight_file import read_content
from maskrcnn_repro.errors import CheckpointError
from maskrcnn_repro.utils.files import refuse_inputs, replaced
from maskrcnn_repro.utils.provenance import file_hash

import torch

BACKBONE, RPN, HEADS = "backbone.", "proposal_generator.", "roi_heads."
SHOWN = 3
"""Names of differing tensors in an error message."""
Weights = Mapping[str, torch.Tensor]


def join(rpn: Path, detector: Path, out: Path) -> None:
    """Write a checkpoint with the RPN of ``rpn`` and everything else of ``detector``.

    Args:
        rpn: checkpoint with backbone and proposal generator.
        detector: checkpoint with the same backbone and RoI heads.
        out: where to write.

    Raises:
        CheckpointError: ``out`` has another ending than ``.pth``, a file cannot be read or lacks its part, or
            the backbones differ: then RPN and heads were trained on different features.
        OutputError: ``out`` is one of the two.
    """
    if out.suffix != ".pth":
        raise CheckpointError(
            f"{str(out)!r} would be written as a checkpoint; let its name end in .pth."
        )
    refuse_inputs(out, (rpn, detector))
    first, second = _weights(rpn, RPN), _weights(detector, HEADS)
    backbones = _part(first, BACKBONE), _part(second, BACKBONE)
    names = backbones[0].keys() | backbones[1].keys()
    different = sorted(
        name
        for name in names
        if not all(name in backbone for backbone in backbones)
        or not torch.equal(backbones[0][name], backbones[1][name])
    )
    if different:
        raise CheckpointError(
            f"{str(rpn)!r} and {str(detector)!r} differ in {len(different)} of "
            f"{len(names)} tensors of the backbone "
            f"({', '.join(different[:SHOWN])} …): train both on one backbone with "
            "MODEL.BACKBONE.FREEZE_ALL True."
        )
    # The detector may have been trained with an RPN of its own.
    without_rpn = {name: tensor for name, tensor in second.items() if not name.startswith(RPN)}
    sources = {str(path): file_hash(str(path)) for path in (rpn, detector)}
    with replaced(out) as beside:
        torch.save({"model": {**without_rpn, **_part(first, RPN)}, "joined_from": sources}, beside)
    print(f"Weights: {out}", flush=True)


def _weights(path: Path, part: str) -> Weights:
    """Return the tensors of a checkpoint that has a backbone and, under the prefix ``part``, its part."""
    if not path.is_file():
        raise CheckpointError(f"Weights {str(path)!r} do not exist.")
    content = read_content(path)
    weights: Weights = content.get("model", content)
    if path.suffix == ".pkl" or not (_part(weights, part) and _part(weights, BACKBONE)):
        raise CheckpointError(
            f"{str(path)!r} is no checkpoint (.pth) with tensors '{BACKBONE}*' and '{part}*'."
        )
    return weights


def _part(weights: Weights, prefix: str) -> Weights:
    return {name: tensor for name, tensor in weights.items() if name.startswith(prefix)}
