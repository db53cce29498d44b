"""A generated data set on disk: PNG images and a COCO JSON, written once, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from maskrcnn_repro.data.mini_coco.draws import Draws
from maskrcnn_repro.data.mini_coco.scenes import CATEGORY_IDS, draw_scene
from maskrcnn_repro.errors import DataError, did_you_mean

import numpy as np
import portalocker
from PIL import Image

VERSION = 1
"""Raised whenever the same seed gives other pixels or annotations; names the folder."""

SPLITS = {"train": 2000, "val": 1000}
"""Split name to its number of images."""

DIGESTS = {
    ("train", 50): "44cf541f44c88a3e97062f984cb11b7d6ce13b8b4827c48ae6b60f5bc1ced158",
    ("val", 50): "cbf66168bf405590d439c3fd1d2e4538aedcf3f84d045a531b18d512f87ddacf",
    ("train", 2000): "f42a4972b5db85901d3eb05a10599280de31f5ac2651567dd45d5de464ba2dfe",
    ("val", 1000): "babe39255a77752ed6d7fee35d136286b585db5249db916a0f10e07db85a45bd",
}
"""(split, number of images) of seed 0 to its :func:`digest`: the same on every machine."""

_MARKER = "complete.json"


def cache_root() -> Path:
    """Return the folder for generated data.

    The first of these that is set: ``MASKRCNN_REPRO_CACHE``, ``DETECTRON2_DATASETS`` (Detectron2's own
    folder of data sets), ``XDG_CACHE_HOME``; else the user's cache folder of the platform.
    """
    for variable, below in (
        ("MASKRCNN_REPRO_CACHE", ""),
        ("DETECTRON2_DATASETS", ""),
        ("XDG_CACHE_HOME", "maskrcnn_repro"),
        ("LOCALAPPDATA", "maskrcnn_repro"),
    ):
        if os.environ.get(variable):
            return Path(os.environ[variable]).expanduser() / below
    caches = "Library/Caches" if sys.platform == "darwin" else ".cache"
    return Path.home() / caches / "maskrcnn_repro"


def folder(root: Path, split: str, seed: int, num_images: int) -> Path:
    """Return where :func:`generate` puts this data set; nothing is written."""
    return root / "mini_coco" / f"v{VERSION}" / f"seed{seed}_{split}_{num_images}"


def generate(root: Path, split: str, seed: int = 0, num_images: int | None = None) -> Path:
    """Write the data set unless it is there already.

    Any number of processes may call this at once: one writes, the others wait for it. A folder appears
    under its final name only when it is complete, so a killed writer leaves nothing that could be taken
    for data.

    Args:
        root: folder below which all generated data lies.
        split: ``"train"`` or ``"val"``; their images are drawn independently.
        seed: of the generator, >= 0.
        num_images: default: the split's number in :data:`SPLITS`. Image ``i`` is the same for each.

    Returns:
        The folder with ``instances.json`` and ``images/``.

    Raises:
        DataError: an argument is out of range, or the folder cannot be written.
    """
    if split not in SPLITS:
        raise DataError(
            f"Split {split!r} is not one of {', '.join(SPLITS)}.{did_you_mean(split, SPLITS)}"
        )
    num_images = SPLITS[split] if num_images is None else num_images
    if seed < 0 or num_images < 1:
        raise DataError(f"Seed {seed} has to be >= 0 and the number of images {num_images} >= 1.")
    target = folder(Path(root), split, seed, num_images)
    contents = {"version": VERSION, "seed": seed, "split": split, "num_images": num_images}
    if _is_complete(target, contents):
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # The operating system frees the lock when its holder dies, however it dies.
        with portalocker.Lock(target.with_name(f"{target.name}.lock"), timeout=600):
            if not _is_complete(target, contents):
                _write_beside(target, contents)
    except (OSError, portalocker.LockException) as error:
        raise DataError(
            f"Generated data cannot be written to {target}: {error}; set MASKRCNN_REPRO_CACHE to a "
            "folder that can be written."
        ) from error
    return target


def digest(data: Path) -> str:
    """Return the SHA-256 of a data set: its JSON in canonical form, then the pixels of each image.

    Of decoded pixels, because the bytes of a PNG file depend on the zlib that wrote it.
    """
    tree = json.loads((data / "instances.json").read_text(encoding="ascii"))
    total = hashlib.sha256(canonical_json(tree))
    for record in tree["images"]:
        with Image.open(data / "images" / record["file_name"]) as image:
            total.update(np.asarray(image).tobytes())
    return total.hexdigest()


def canonical_json(tree: Any) -> bytes:
    """Return JSON with sorted keys and no spaces."""
    return json.dumps(tree, sort_keys=True, separators=(",", ":")).encode("ascii")


def _is_complete(target: Path, contents: dict[str, Any]) -> bool:
    try:
        return (target / _MARKER).read_bytes() == canonical_json(contents)
    except OSError:
        return False


def _write_beside(target: Path, contents: dict[str, Any]) -> None:
    """Write into a temporary folder beside ``target`` and rename it; the caller holds the lock."""
    # Only the holder of the lock makes such folders: whatever is here was left by a killed writer.
    for stale in target.parent.glob(f"{target.name}.tmp-*"):
        shutil.rmtree(stale)
    fresh = Path(tempfile.mkdtemp(prefix=f"{target.name}.tmp-", dir=target.parent))
    # mkdtemp's folders are private; a shared data folder is read by others.
    fresh.chmod(0o755)
    (fresh / "images").mkdir()
    tree = _draw_all(fresh / "images", contents)
    (fresh / "instances.json").write_bytes(canonical_json(tree))
    (fresh / _MARKER).write_bytes(canonical_json(contents))
    if target.exists():
        shutil.rmtree(target)
    fresh.rename(target)


def _draw_all(images: Path, contents: dict[str, Any]) -> dict[str, Any]:
    """Write the PNG files and return the COCO JSON."""
    stream = list(SPLITS).index(contents["split"])
    records: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id in range(1, contents["num_images"] + 1):
        scene = draw_scene(Draws(contents["seed"], stream, image_id))
        height, width = scene.owner.shape
        name = f"{image_id:06d}.png"
        # Level 1 is five times quicker than the default, and a tenth larger.
        Image.fromarray(scene.image).save(images / name, compress_level=1)
        records.append({"id": image_id, "file_name": name, "height": height, "width": width})
        for annotation in scene.annotations():
            annotations.append({"id": len(annotations) + 1, "image_id": image_id, **annotation})
    return {
        "info": {"description": "mini_coco, generated by maskrcnn-repro", **contents},
        "images": records,
        "annotations": annotations,
        "categories": [
            {"id": number, "name": name, "supercategory": "shape"}
            for name, number in CATEGORY_IDS.items()
        ],
    }
