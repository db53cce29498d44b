"""Pictures to verify exported files with: the user's own, or shapes on a ground."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from maskrcnn_repro.data.image_file import ImageFiles
from maskrcnn_repro.inference.settings import augmentations

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from PIL import Image, ImageDraw

SIZES = ((480, 640), (640, 427), (375, 500))
"""Height and width of the pictures that are drawn."""


def model_inputs(cfg: CfgNode, paths: Sequence[Path] = ()) -> list[dict[str, Any]]:
    """Return inputs of a model, resized as in an evaluation.

    Args:
        cfg: of the model.
        paths: of pictures; without any, one is drawn in each of :data:`SIZES`.

    Raises:
        ImageError: a picture cannot be read.
    """
    files = ImageFiles(tuple(cfg.INPUT.PIXEL_RANGE))
    pictures = [files.read(str(path), cfg.INPUT.FORMAT) for path in paths]
    inputs = []
    for picture in pictures or [draw_picture(size, seed) for seed, size in enumerate(SIZES)]:
        seen = T.AugInput(picture)
        augmentations(cfg)(seen)
        image = torch.as_tensor(seen.image.transpose(2, 0, 1).copy())
        height, width = picture.shape[:2]
        inputs.append({"image": image, "height": height, "width": width})
    return inputs


def draw_picture(size: tuple[int, int], seed: int) -> np.ndarray:
    """Return a picture of discs and bars on a cloudy ground, (H, W, 3) uint8."""
    random = np.random.default_rng(seed)
    height, width = size
    clouds = Image.fromarray(random.integers(60, 180, (8, 8, 3), np.uint8))
    picture = clouds.resize((width, height), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(picture)
    for number in range(12):
        x, y = random.integers(0, width), random.integers(0, height)
        w, h = random.integers(width // 16, width // 3, 2)
        shape = pen.ellipse if number % 2 else pen.rectangle
        shape((x - w // 2, y - h // 2, x + w // 2, y + h // 2), tuple(random.integers(0, 256, 3)))
    noise = random.normal(0, 4, (height, width, 3))
    return (np.asarray(picture) + noise).clip(0, 255).astype(np.uint8)
