"""Backbones of torchvision, timm, MMDetection and Caffe2 Detectron under Detectron2's names: ``maskrcnn convert-weights``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from maskrcnn_repro.checkpoint.origin import depth_of
from maskrcnn_repro.checkpoint.weight_file import read_content, state_of
from maskrcnn_repro.errors import CheckpointError
from maskrcnn_repro.utils.files import local_copy, refuse_inputs, replaced

import torch

Weights = Mapping[str, torch.Tensor]
_CAFFE2 = re.compile(r"(conv1|res_conv1|res\d_\d+_branch)")
_FIRST = re.compile(r"(?P<prefix>.*?)layer1\.0\.conv1\.weight")
_RULES = (
    (r"conv1\.weight", "stem.conv1.weight"),
    (r"bn1\.(\w+)", r"stem.conv1.norm.\1"),
    (r"layer(\d)\.(\d+)\.conv(\d)\.weight", r"res{stage}.\2.conv\3.weight"),
    (r"layer(\d)\.(\d+)\.bn(\d)\.(\w+)", r"res{stage}.\2.conv\3.norm.\4"),
    (r"layer(\d)\.(\d+)\.downsample\.0\.weight", r"res{stage}.\2.shortcut.weight"),
    (r"layer(\d)\.(\d+)\.downsample\.1\.(\w+)", r"res{stage}.\2.shortcut.norm.\3"),
)
"""Names of a ResNet in torchvision and in Detectron2."""
PIXELS = (
    "INPUT.FORMAT RGB MODEL.PIXEL_MEAN [123.675,116.28,103.53] MODEL.PIXEL_STD [58.395,57.12,57.375] "
    "MODEL.RESNETS.STRIDE_IN_1X1 False"
)
"""What torchvision's weights were trained with."""


def convert(source: Path, out: Path) -> None:
    """Write the backbone of ``source`` as a checkpoint to start a training from.

    Raises:
        CheckpointError: ``out`` has another ending than ``.pth``, or ``source`` has no ResNet or cannot be read.
        OutputError: ``out`` is ``source``.
    """
    if out.suffix != ".pth":
        raise CheckpointError(
            f"{str(out)!r} would be written as a checkpoint; let its name end in .pth."
        )
    local = local_copy(str(source), f"Weights {str(source)!r}", CheckpointError)
    refuse_inputs(out, [local])
    weights = _tensors(local)
    renamed, author, options = convert_names(weights)
    if not renamed:
        raise CheckpointError(
            f"Weights {str(source)!r} have no ResNet of torchvision, timm, MMDetection or Caffe2 Detectron."
        )
    with replaced(out) as beside:
        torch.save({"model": renamed, "__author__": author, "matching_heuristics": True}, beside)
    depth = depth_of(renamed)
    print(f"Weights: {out}, {len(renamed)} of {len(weights)} tensors", flush=True)
    print(f"Train with: MODEL.WEIGHTS {out} MODEL.RESNETS.DEPTH {depth} {options}".rstrip())


def convert_names(weights: Weights) -> tuple[dict[str, torch.Tensor], str, str]:
    """Return a ResNet's tensors for Detectron2's checkpointer, their author and the config options they need."""
    if any("_branch2" in name for name in weights):
        kept = {name: tensor for name, tensor in weights.items() if _CAFFE2.match(name)}
        return kept, "Caffe2", ""
    prefix = next((m["prefix"] for m in map(_FIRST.fullmatch, weights) if m), None)
    if prefix is None:
        return {}, "", ""
    renamed = {}
    for name, tensor in weights.items():
        new = _renamed(name.removeprefix(prefix)) if name.startswith(prefix) else None
        if new and not new.endswith("num_batches_tracked"):
            renamed[new] = tensor
    return renamed, "torchvision", PIXELS


def _renamed(name: str) -> str | None:
    for pattern, replacement in _RULES:
        match = re.fullmatch(pattern, name)
        if match:
            stage = int(match[1]) + 1 if "layer" in pattern else ""
            return match.expand(replacement.replace("{stage}", str(stage)))
    return None


def _tensors(path: Path) -> Weights:
    state = state_of(read_content(path))
    return {str(n): t for n, t in state.items() if isinstance(t, torch.Tensor)}
