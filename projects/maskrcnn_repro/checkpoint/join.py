"""Joins an RPN and a detector, trained on the same frozen backbone, to one model (Sec. 4.4).

The last step of 4-step training: ``maskrcnn join-weights``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from maskrcnn_repro.checkpoint.checkpointer import MARK
from maskrcnn_repro.checkpoint.model_file import Labels, read_facts
from maskrcnn_repro.checkpoint.weight_file import read_content, state_of
from maskrcnn_repro.config import load_config
from maskrcnn_repro.config.files import stored_config
from maskrcnn_repro.config_history import spelled_today
from maskrcnn_repro.data.proposals.prepare import PRECOMPUTED
from maskrcnn_repro.errors import CheckpointError
from maskrcnn_repro.utils.files import check_output, local_copy, replaced
from maskrcnn_repro.utils.provenance import file_hash

import torch
from detectron2.config import CfgNode

BACKBONE, RPN, HEADS = "backbone.", "proposal_generator.", "roi_heads."
OF_RPN = ("PROPOSAL_GENERATOR", "ANCHOR_GENERATOR", "RPN")
"""Sections of MODEL that the RPN's config decides on."""
SHOWN = 3
"""Names of differing tensors in an error message."""
Weights = Mapping[str, torch.Tensor]


def join(rpn: Path, detector: Path, out: Path) -> None:
    """Write a checkpoint with the RPN of ``rpn`` and everything else of ``detector``.

    It holds the config of the joined model and the names of what it finds, as far as the files tell them.

    Args:
        rpn: checkpoint with backbone and proposal generator.
        detector: checkpoint with the same backbone and RoI heads.
        out: where to write.

    Raises:
        OutputError: ``out`` has another ending than ``.pth``, or is one of the others.
        CheckpointError: a file cannot be read or lacks its part, or the backbones differ: then RPN and heads
            were trained on different features.
        ConfigError: a config in a file cannot be read.
        PluginError: a plug-in of a config cannot be loaded.
    """
    check_output("OUT", out, ".pth", [rpn, detector])
    files = [local_copy(str(p), f"Weights {str(p)!r}", CheckpointError) for p in (rpn, detector)]
    first, second = _weights(rpn, files[0], RPN), _weights(detector, files[1], HEADS)
    backbones = _select_part(first, BACKBONE), _select_part(second, BACKBONE)
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
    content = {
        "model": {**without_rpn, **_select_part(first, RPN)},
        "maskrcnn_repro": {**MARK["maskrcnn_repro"], **_facts(*files)},
        "joined_from": sources,
    }
    with replaced(out) as beside:
        torch.save(content, beside)
    print(f"Weights: {out}", flush=True)


def _facts(rpn: Path, detector: Path) -> dict[str, Any]:
    """Return the config and the labels of the joined model, as far as the files tell them."""
    told = read_facts(detector)
    facts = {label.name: told[label.name] for label in fields(Labels) if label.name in told}
    cfg, own = _config(detector, told), _config(rpn, read_facts(rpn))
    # Without the RPN's config nothing tells the anchors of a detector on stored proposals.
    if cfg is None or (own is None and cfg.MODEL.PROPOSAL_GENERATOR.NAME == PRECOMPUTED):
        return facts
    if own is not None:
        stored = cfg.DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TEST
        read = stored if cfg.MODEL.LOAD_PROPOSALS else cfg.MODEL.RPN.POST_NMS_TOPK_TEST
        for section in OF_RPN:
            cfg.MODEL[section] = own.MODEL[section]
        # An RPN alone stores as many proposals as a training reads.
        cfg.MODEL.RPN.POST_NMS_TOPK_TEST = min(read, cfg.MODEL.RPN.POST_NMS_TOPK_TEST)
    cfg.MODEL.LOAD_PROPOSALS = False
    cfg.DATASETS.PROPOSAL_FILES_TRAIN = cfg.DATASETS.PROPOSAL_FILES_TEST = ()
    return {"config": spelled_today(cfg), **facts}


def _config(path: Path, facts: Mapping[str, Any]) -> CfgNode | None:
    stored = facts.get("config")
    if not (isinstance(stored, str | Mapping) and stored):
        return None
    return load_config(stored_config(path, stored))


def _weights(path: Path, file: Path, part: str) -> Weights:
    """Return the tensors of a checkpoint that has a backbone and, under the prefix ``part``, its part."""
    state = state_of(read_content(file))
    weights = {
        name: value
        for name, value in state.items()
        if isinstance(name, str) and isinstance(value, torch.Tensor)
    }
    if not (_select_part(weights, part) and _select_part(weights, BACKBONE)):
        raise CheckpointError(
            f"{str(path)!r} is no checkpoint (.pth) with tensors '{BACKBONE}*' and '{part}*'."
        )
    return weights


def _select_part(weights: Weights, prefix: str) -> Weights:
    return {name: tensor for name, tensor in weights.items() if name.startswith(prefix)}
