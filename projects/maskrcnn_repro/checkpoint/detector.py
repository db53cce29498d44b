"""Whole detectors of torchvision, Detectron2 and Detectron as checkpoints that can be used alone, and back to torchvision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from maskrcnn_repro.checkpoint.checkpointer import MARK, Checkpointer
from maskrcnn_repro.checkpoint.detector_config import Kind, keys_of, kinds
from maskrcnn_repro.checkpoint.model_file import Labels, labels_of, read_facts
from maskrcnn_repro.checkpoint.torchvision_detector import (
    Classes,
    Weights,
    to_detectron2,
    to_torchvision,
)
from maskrcnn_repro.checkpoint.weight_file import read_content, state_of
from maskrcnn_repro.config import load_config
from maskrcnn_repro.config.files import stored_config
from maskrcnn_repro.config_history import spelled_today, value_of
from maskrcnn_repro.errors import CheckpointError
from maskrcnn_repro.utils.files import replaced, write_text
from maskrcnn_repro.utils.hashes import sha256_of

import torch
import yaml
from detectron2.checkpoint.c2_model_loading import convert_c2_detectron_names
from detectron2.config import CfgNode
from detectron2.modeling import build_model

WITHOUT_EPS = ("258fb6c6", "bf2d0c1e", "fc266e95")
"""Beginnings of the SHA-256 of torchvision's published detectors whose batch norms add nothing to the variance."""
REST = "torchvision_rest"
"""What of a converted file holds the rows of torchvision's last layers that Detectron2's lack."""
DATA = {(80, False): "coco_2017", (1, True): "keypoints_coco_2017"}
"""Number of classes and whether there are keypoints -> data sets of the published models."""


def convert_detector(
    source: Path, weights: Mapping[str, Any], kind: Kind, out: Path, names: Sequence[str] = ()
) -> tuple[Path, int]:
    """Write a detector with its config and its names; return the config's file and the number of tensors.

    Args:
        source: file of the weights.
        weights: its tensors or arrays by name.
        kind: of it.
        out: the ``.pth`` to write; the config goes beside it, as ``.yaml``.
        names: of its classes in the order of the labels; by default COCO's, where their number is COCO's.

    Raises:
        CheckpointError: it has a part that no model here has, or another number of classes than ``names``.
    """
    rest: Weights = {}
    if kind.name == "torchvision":
        keys, state, rest = _from_torchvision(source, weights, kind, names)
    else:
        keys, state = config_by_names(weights, kind), {}
    if names and not keys["MODEL.KEYPOINT_ON"]:
        # Whose classes may have COCO's number, and are others.
        keys |= {"DATASETS.TRAIN": (), "DATASETS.TEST": ()}
    cfg = build_config(keys)
    _check_count(cfg, names)
    state = _fill_model(cfg, source, state)
    facts = {
        **MARK["maskrcnn_repro"],
        "config": spelled_today(cfg),
        **_labels(cfg, names).facts(),
        "origin": {"library": kind.name, "file": source.name, "sha256": sha256_of(source)},
    }
    with replaced(out) as beside:
        torch.save({"model": state, "maskrcnn_repro": facts, REST: rest}, beside)
    config = out.with_suffix(".yaml")
    write_text(config, _as_yaml({**keys, "MODEL.WEIGHTS": str(out.resolve())}))
    return config, len(state)


def convert_back(source: Path, out: Path) -> int:
    """Write a checkpoint of this project as a ``state_dict`` of torchvision; return its number of tensors.

    Raises:
        CheckpointError: torchvision has no model like it.
    """
    content = read_content(source)
    state = {str(n): t for n, t in state_of(content).items() if isinstance(t, torch.Tensor)}
    scores = state.get("roi_heads.box_predictor.cls_score.bias")
    if scores is None:
        raise CheckpointError(
            f"{source} holds no detector with a class layer, so none of torchvision's."
        )
    if config := read_facts(source).get("config"):
        _check_torchvision(source, load_config(stored_config(source, config)))
    boxes = state["roi_heads.box_predictor.bbox_pred.bias"]
    is_coco = len(scores) == 91 and len(boxes) == 4 * 80
    rest = content.get(REST)
    back = to_torchvision(
        state, Classes.of(len(scores), named=not is_coco), rest if isinstance(rest, dict) else {}
    )
    with replaced(out) as beside:
        torch.save(back, beside)
    return len(back)


def build_config(keys: Mapping[str, Any]) -> CfgNode:
    """Return Detectron2's defaults with ours and ``keys``."""
    return load_config("", [word for key, value in keys.items() for word in (key, repr(value))])


def _from_torchvision(
    source: Path, weights: Weights, kind: Kind, names: Sequence[str]
) -> tuple[dict[str, Any], dict[str, torch.Tensor], Weights]:
    outputs = len(weights["roi_heads.box_predictor.cls_score.weight"])
    classes = Classes.of(outputs, named=bool(names))
    state, rest = to_detectron2(weights, classes)
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    keys = keys_of(shapes, kind, len(classes.unused)) | _data(len(classes.labels), shapes)
    if sha256_of(source).startswith(WITHOUT_EPS):
        keys["MODEL.RESNETS.NORM_EPS"] = 0.0
    return keys, state, rest


def config_by_names(weights: Mapping[str, Any], kind: Kind) -> dict[str, Any]:
    """Return the config keys of a detector of Detectron2 or Detectron, by dotted name.

    Args:
        weights: tensors or arrays by the file's names.
        kind: of the detector.

    Raises:
        CheckpointError: see :func:`maskrcnn_repro.checkpoint.detector_config.keys_of`.
    """
    tensors = {name: torch.as_tensor(array) for name, array in weights.items()}
    if kind.name == "Detectron":
        tensors, _ = convert_c2_detectron_names(tensors)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    keys = keys_of(shapes, kind)
    return keys | _data(keys["MODEL.ROI_HEADS.NUM_CLASSES"], shapes)


def _data(classes: int, shapes: Mapping[str, Any]) -> dict[str, Any]:
    points = any("score_lowres" in name for name in shapes)
    data = DATA.get((classes, points))
    names = (
        {"TRAIN": (f"{data}_train",), "TEST": (f"{data}_val",)}
        if data
        else {"TRAIN": (), "TEST": ()}
    )
    return {f"DATASETS.{part}": value for part, value in names.items()}


def _fill_model(cfg: CfgNode, source: Path, state: Weights) -> dict[str, torch.Tensor]:
    """Return the tensors of the config's model, all from the file.

    Args:
        cfg: the config.
        source: the file, which Detectron2's checkpointer reads where ``state`` is empty.
        state: tensors by the model's names.

    Raises:
        CheckpointError: the model has tensors that the file lacks, or others.
    """
    if not state:
        cfg = cfg.clone()
        cfg.MODEL.DEVICE = "cpu"
        model = build_model(cfg)
        Checkpointer(model, "", complete=True).load(str(source), checkpointables=[])
        return dict(model.state_dict())
    own = shapes_in(cfg)
    # A frozen norm does not count batches; the file's counter stays with it, for the way back.
    given = {n: tuple(t.shape) for n, t in state.items() if not n.endswith("num_batches_tracked")}
    own = {name: shape for name, shape in own.items() if not name.endswith("num_batches_tracked")}
    wrong = sorted(name for name in own.keys() | given.keys() if own.get(name) != given.get(name))
    if wrong:
        name = wrong[0]
        raise CheckpointError(
            f"{source} fits no model here: {name} has shape {given.get(name, 'none')}, the config's model "
            f"{own.get(name, 'none')}; {len(wrong)} of {len(own)} tensors differ."
        )
    return dict(state)


def shapes_in(cfg: CfgNode) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the tensors of a config's model by name, which takes no memory for them."""
    cfg = cfg.clone()
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        model = build_model(cfg)
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def _labels(cfg: CfgNode, names: Sequence[str]) -> Labels:
    labels = labels_of(cfg.DATASETS.TRAIN)
    return replace(labels, class_names=tuple(names), category_ids=()) if names else labels


def _check_count(cfg: CfgNode, names: Sequence[str]) -> None:
    count = cfg.MODEL.ROI_HEADS.NUM_CLASSES
    if names and len(names) != count:
        raise CheckpointError(
            f"--classes has {len(names)} names, but the weights have {count} classes."
        )


def _check_torchvision(source: Path, config: CfgNode) -> None:
    """Raise CheckpointError if a config says of a model what torchvision's do not do."""
    kind = next(kind for kind in kinds() if kind.name == "torchvision")
    for key, value in kind.options.items():
        if "SMOOTH_L1" not in key and value_of(config, key) != value:
            raise CheckpointError(
                f"{source} has {key} {value_of(config, key)!r}, torchvision's detectors {value!r}: with its weights they "
                "would say something else."
            )


def _as_yaml(keys: Mapping[str, Any]) -> str:
    tree: dict[str, Any] = {}
    for key, value in keys.items():
        *nodes, last = key.split(".")
        node = tree
        for part in nodes:
            node = node.setdefault(part, {})
        node[last] = list(value) if isinstance(value, tuple) else value
    return str(yaml.safe_dump({**tree, "VERSION": 2}, sort_keys=False))
