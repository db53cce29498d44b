"""Files that hold a model whole: its weights, the config that builds it, and the names of what it finds.

Checkpoints hold config and names as values, ``.safetensors`` files as texts of their head: ``config`` (YAML),
``class_names``, ``category_ids``, ``keypoint_names``, ``flip_pairs``, ``skeleton`` and ``stuff_names`` (JSON lists), and ``origin``
(a JSON object) says where the weights come from.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from maskrcnn_repro.checkpoint.checkpointer import facts_in
from maskrcnn_repro.checkpoint.weight_file import read_metadata, read_outline
from maskrcnn_repro.errors import CheckpointError
from maskrcnn_repro.utils.files import replaced

import torch
from detectron2.config import CfgNode
from detectron2.data import Metadata, MetadataCatalog
from safetensors.torch import save_file


@dataclass(frozen=True)
class Labels:
    """What a model calls the things that it finds."""

    class_names: Sequence[str] = ()
    category_ids: Sequence[int] = ()
    """Of the classes, in the COCO file that the model was trained on; empty: 1, 2, 3 …"""
    keypoint_names: Sequence[str] = ()
    flip_pairs: Sequence[tuple[str, str]] = ()
    """Keypoints that a mirror swaps."""
    skeleton: Sequence[tuple[str, str]] = ()
    """Keypoints that a limb connects."""
    stuff_names: Sequence[str] = ()
    """Semantic classes, "things" first; empty unless the model learnt from semantic labels."""

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Labels:
        """Return the labels among the facts of a file; what it does not tell is empty."""

        def names(key: str) -> tuple[str, ...]:
            return tuple(str(name) for name in facts.get(key) or ())

        def pairs(key: str) -> tuple[tuple[str, str], ...]:
            return tuple((str(a), str(b)) for a, b in facts.get(key) or ())

        return cls(
            names("class_names"),
            tuple(int(number) for number in facts.get("category_ids") or ()),
            names("keypoint_names"),
            pairs("flip_pairs"),
            pairs("skeleton"),
            names("stuff_names"),
        )

    def facts(self) -> dict[str, list[Any]]:
        """Return the labels as lists, as files keep them."""
        facts: dict[str, list[Any]] = json.loads(json.dumps(asdict(self)))
        return {name: value for name, value in facts.items() if value or name != "stuff_names"}


def labels_of(datasets: Sequence[str], *, stuff: bool = False) -> Labels:
    """Return the labels of the first of several registered data sets, those of stuff if asked for.

    What it does not tell is empty.
    """
    told = MetadataCatalog.get(datasets[0]) if datasets else Metadata()
    ids = told.get("thing_dataset_id_to_contiguous_id") or {}
    return Labels.of(
        {
            "class_names": told.get("thing_classes"),
            "category_ids": told.get("category_ids") or sorted(ids, key=ids.__getitem__),
            "keypoint_names": told.get("keypoint_names"),
            "flip_pairs": told.get("keypoint_flip_map"),
            "skeleton": [rule[:2] for rule in told.get("keypoint_connection_rules") or ()],
            "stuff_names": told.get("stuff_classes") if stuff else (),
        }
    )


def write_model(
    path: Path,
    state: Mapping[str, torch.Tensor],
    cfg: CfgNode,
    labels: Labels,
    origin: Mapping[str, Any],
) -> None:
    """Write a model as one ``.safetensors`` file that can be used alone.

    Args:
        path: of the file.
        state: the model's tensors by name.
        cfg: resolved.
        labels: of classes and keypoints.
        origin: plain values that say where the weights come from.

    Raises:
        OutputError: the file cannot be written; what was there stays whole.
    """
    texts = {name: json.dumps(value) for name, value in labels.facts().items()}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    with replaced(path) as beside:
        metadata = {"config": cfg.dump(), **texts, "origin": json.dumps(dict(origin))}
        save_file(tensors, beside, metadata=metadata)


def read_facts(path: Path) -> Mapping[str, Any]:
    """Return what a file tells of its model beside the weights: ``config``, the labels, ``origin``.

    Raises:
        CheckpointError: the file cannot be read, or a text in its head is no JSON.
    """
    if path.suffix != ".safetensors":
        return {} if path.suffix == ".pkl" else facts_in(read_outline(path))
    texts = read_metadata(path)
    keys = {"origin", *(field.name for field in fields(Labels))}
    try:
        values = {name: json.loads(texts[name]) for name in keys & texts.keys()}
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} says of its model what is no JSON: {error}.") from error
    return values | ({"config": texts["config"]} if "config" in texts else {})
