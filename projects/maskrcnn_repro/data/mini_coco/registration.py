"""Names under which Detectron2 finds the generated data sets."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from maskrcnn_repro.data.mini_coco.scenes import CATEGORY_IDS
from maskrcnn_repro.data.mini_coco.writing import SPLITS, cache_root, folder, generate

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json


def mini_coco_name(split: str, seed: int = 0) -> str:
    """Return the registered name: ``mini_coco_train``, for other seeds ``mini_coco_seed1_train``."""
    return f"mini_coco_{split}" if seed == 0 else f"mini_coco_seed{seed}_{split}"


def register_mini_coco(seed: int) -> None:
    """Register the train and val split of a seed; a seed that is registered already stays as it is.

    Nothing is written until a split is loaded, which also writes the ``json_file`` of its metadata.
    """
    root = cache_root()
    for split, num_images in SPLITS.items():
        name = mini_coco_name(split, seed)
        if name in DatasetCatalog:
            continue
        data = folder(root, split, seed, num_images)
        DatasetCatalog.register(name, partial(_load, root, split, seed, name))
        MetadataCatalog.get(name).set(
            json_file=str(data / "instances.json"),
            image_root=str(data / "images"),
            evaluator_type="coco",
            # Known before anything is written; in the order of their ids, as the loader sets them.
            thing_classes=list(CATEGORY_IDS),
            has_rle_masks=True,
        )


def _load(root: Path, split: str, seed: int, name: str) -> list[dict[str, Any]]:
    data = generate(root, split, seed)
    return load_coco_json(str(data / "instances.json"), str(data / "images"), name)
