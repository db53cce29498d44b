"""A tiny generated data set in COCO format, with stored proposals, for training a full-size model for seconds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from maskrcnn_repro.data.proposals.writer import StoreWriter

import numpy as np
from PIL import Image

SIDE = 96
"""Height and width of an image, in pixels."""
IMAGES = 4
OBJECTS = 3
"""Per image."""
PROPOSALS = 12
"""Per image."""


def write_tiny_data(
    folder: Path, classes: int, keypoints: Sequence[str]
) -> tuple[Path, Path, Path]:
    """Write images, annotations and proposals.

    Args:
        folder: gets ``instances.json``, ``images/`` and ``tiny.proposals/``.
        classes: number of categories; the objects are of the first ones.
        keypoints: names of the keypoints of every object; may be empty.

    Returns:
        Paths of the JSON, of the folder of images and of the proposal store.
    """
    random = np.random.default_rng(0)
    pictures = folder / "images"
    pictures.mkdir(parents=True)
    points = {"keypoints": list(keypoints), "skeleton": []} if keypoints else {}
    categories = [
        {"id": number, "name": f"class {number}"} | points for number in range(1, classes + 1)
    ]
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    store = StoreWriter(folder / "tiny.proposals")
    for image in range(1, IMAGES + 1):
        pixels = random.integers(0, 60, (SIDE, SIDE, 3), dtype=np.uint8)
        boxes = _draw_boxes(random, OBJECTS)
        for number, box in enumerate(boxes):
            category = number % classes + 1
            x, y, width, height = box
            pixels[y : y + height, x : x + width] = 100 + 50 * number
            annotations.append(
                _annotation(len(annotations) + 1, image, category, box, len(keypoints))
            )
        Image.fromarray(pixels).save(pictures / f"{image}.png")
        images.append({"id": image, "file_name": f"{image}.png", "height": SIDE, "width": SIDE})
        proposals = np.concatenate([boxes, _draw_boxes(random, PROPOSALS - OBJECTS)])
        proposals = proposals.astype(np.float32)
        proposals[:, 2:] += proposals[:, :2]
        store.add(image, proposals, np.linspace(3, -3, PROPOSALS))
    store.finish(dataset=None, images_sha256=None, origin={"made_by": "tiny data"})
    json_file = folder / "instances.json"
    tree = {"images": images, "annotations": annotations, "categories": categories}
    json_file.write_text(json.dumps(tree), encoding="utf-8")
    return json_file, pictures, store.path


def _draw_boxes(random: np.random.Generator, number: int) -> np.ndarray:
    """Return (number, 4) integer boxes inside the image: x, y, width, height in pixels."""
    sizes = random.integers(24, SIDE // 2, (number, 2))
    corners = random.integers(0, SIDE - sizes)
    return np.concatenate([corners, sizes], axis=1)


def _annotation(
    number: int, image: int, category: int, box: np.ndarray, keypoints: int
) -> dict[str, Any]:
    x, y, width, height = box.tolist()
    # On the box's diagonal, each with COCO's visibility flag 2, visible.
    steps = [(i + 1) / (keypoints + 1) for i in range(keypoints)]
    points = [value for step in steps for value in (x + step * width, y + step * height, 2)]
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": [x, y, width, height],
        "area": width * height,
        "iscrowd": 0,
        "segmentation": [[x, y, x + width, y, x + width, y + height, x, y + height]],
    } | ({"keypoints": points, "num_keypoints": keypoints} if keypoints else {})
