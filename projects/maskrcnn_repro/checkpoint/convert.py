"""Weights of other libraries under Detectron2's names, and back: ``maskrcnn convert-weights``.

Whole detectors of torchvision, Detectron2 and Detectron; backbones also of timm and MMDetection.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from maskrcnn_repro.checkpoint.detector import convert_back, convert_detector
from maskrcnn_repro.checkpoint.detector_config import kind_of
from maskrcnn_repro.checkpoint.model_file import read_facts
from maskrcnn_repro.checkpoint.origin import depth_of
from maskrcnn_repro.checkpoint.weight_file import (
    read_content,
    read_pickle,
    shipped_models,
    state_of,
)
from maskrcnn_repro.errors import CheckpointError, listing
from maskrcnn_repro.utils.files import check_output, local_copy, replaced

import numpy as np
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
_BOTTLENECKS = (
    ("res2.0.conv2.weight", "res2.0.conv3.weight"),
    ("res2_0_branch2b_w", "res2_0_branch2c_w"),
)
"""Second and third convolution of the first block, in Detectron2 and in Caffe2; a ResNet of 18 or 34 layers has no third."""
STRIDE = "MODEL.RESNETS.STRIDE_IN_1X1 False"
PIXELS = (
    "INPUT.FORMAT RGB MODEL.PIXEL_MEAN [123.675,116.28,103.53] MODEL.PIXEL_STD [58.395,57.12,57.375] "
    f"{STRIDE}"
)
"""What torchvision's weights were trained with."""


def convert(
    source: str | Path,
    out: Path,
    *,
    to: str = "",
    backbone: bool = False,
    classes: Path | None = None,
) -> None:
    """Write a detector as a checkpoint that can be used alone, or a backbone as one to start a training from.

    Args:
        source: path or address of the weights.
        out: the ``.pth`` to write; the config of a detector goes beside it, as ``.yaml``.
        to: ``"torchvision"`` for the way back: a checkpoint of a converted detector as torchvision's ``state_dict``.
        backbone: take of a detector its backbone alone.
        classes: a text file with the names of a detector's classes, one a line, in the order of the labels.

    Raises:
        OutputError: ``out`` has another ending than ``.pth``, or is ``source``.
        CheckpointError: ``source`` is no such file or cannot be read, or an option does not concern it.
    """
    check_output("OUT", out, ".pth", [Path(source)])
    file = shipped_models().get(str(source)) or local_copy(
        str(source), f"Weights {str(source)!r}", CheckpointError
    )
    if to and (backbone or classes):
        raise CheckpointError(f"--to {to} takes neither --backbone nor --classes.")
    if to:
        print(f"Weights: {out}, {convert_back(file, out)} tensors under the names of {to}")
        return
    weights = _tensors(file)
    if read_facts(file).get("config"):
        raise CheckpointError(
            f"{source} is a checkpoint of this project, which MODEL.WEIGHTS and Predictor take as it is; only "
            "--to torchvision converts it."
        )
    kind = None if backbone else kind_of(list(weights))
    if kind:
        names = read_names(classes) if classes else ()
        config, count = convert_detector(file, weights, kind, out, names)
        print(f"Weights: {out}, a detector of {kind.name}, {count} tensors", flush=True)
        print(f"Evaluate with: maskrcnn eval --config-file {config}")
    elif classes:
        raise CheckpointError(
            f"--classes names the classes of a detector, but of {source} the backbone alone is taken."
        )
    else:
        _convert_backbone(str(source), weights, out)


def read_names(file: Path) -> list[str]:
    """Return the lines of a text file.

    Raises:
        CheckpointError: it cannot be read.
    """
    try:
        return [
            line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()
        ]
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"--classes {str(file)!r} cannot be read: {getattr(error, 'strerror', None) or error}."
        ) from error


def _convert_backbone(source: str, weights: Weights, out: Path) -> None:
    renamed, author, options = convert_names(weights)
    if not renamed:
        raise CheckpointError(
            f"Weights {source!r} have no ResNet of torchvision, timm, MMDetection or Caffe2 Detectron, and are no "
            "detector of torchvision, Detectron2 or Detectron."
        )
    with replaced(out) as beside:
        torch.save({"model": renamed, "__author__": author, "matching_heuristics": True}, beside)
    depth = depth_of(renamed)
    taken = set(map(id, renamed.values()))
    others = [n for n, t in weights.items() if id(t) not in taken and "num_batches" not in n]
    rest = f"; left out: {listing(others, 3)}" if others else ""
    print(f"Weights: {out}, {len(renamed)} of {len(weights)} tensors{rest}", flush=True)
    train = f"Train with: MODEL.WEIGHTS {out} MODEL.RESNETS.DEPTH {depth} {options} {groups_options(renamed)}"
    print(" ".join(train.split()))


def groups_options(renamed: Weights) -> str:
    """Return the options for the groups of a ResNeXt or the width of a wide ResNet; of a plain one none."""
    groups, width = _groups_and_width(renamed)
    if (groups, width) == (1, 64):
        return ""
    return f"MODEL.RESNETS.NUM_GROUPS {groups} MODEL.RESNETS.WIDTH_PER_GROUP {width}"


def _groups_and_width(renamed: Weights) -> tuple[int, int]:
    """Return the groups of a block's 3x3 convolution in res2 and the channels of each: 1 and 64 of a plain ResNet."""
    for second, third in _BOTTLENECKS:
        middle = renamed.get(second)
        if middle is not None and middle.dim() == 4 and third in renamed:
            return len(middle) // middle.shape[1], middle.shape[1]
    return 1, 64


def convert_names(weights: Weights) -> tuple[dict[str, torch.Tensor], str, str]:
    """Return a ResNet's tensors for Detectron2's checkpointer, their author and the config options they need."""
    if any("_branch2" in name for name in weights):
        kept = {name: tensor for name, tensor in weights.items() if _CAFFE2.match(name)}
        # Its ResNets stride in the 1x1, its ResNeXts in the 3x3.
        return kept, "Caffe2", STRIDE if _groups_and_width(kept)[0] > 1 else ""
    prefix = next((m["prefix"] for m in map(_FIRST.fullmatch, weights) if m), None)
    if prefix is None:
        return {}, "", ""
    renamed = {}
    for name, tensor in weights.items():
        new = _rename(name.removeprefix(prefix)) if name.startswith(prefix) else None
        if new and not new.endswith("num_batches_tracked"):
            renamed[new] = tensor
    return renamed, "torchvision", PIXELS


def _rename(name: str) -> str | None:
    for pattern, replacement in _RULES:
        match = re.fullmatch(pattern, name)
        if match:
            stage = int(match[1]) + 1 if "layer" in pattern else ""
            return match.expand(replacement.replace("{stage}", str(stage)))
    return None


def _tensors(path: Path) -> Weights:
    # Detectron2's zoo and Detectron have arrays.
    state = read_pickle(path)["model"] if path.suffix == ".pkl" else state_of(read_content(path))
    return {
        str(name): torch.as_tensor(value)
        for name, value in state.items()
        if isinstance(value, torch.Tensor | np.ndarray)
    }
