"""A family of generated data sets: written to disk on first use and registered with Detectron2."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from maskrcnn_repro.data.synthetic.draws import Draws
from maskrcnn_repro.data.synthetic.writing import cache_root, check_images, damaged, write_once
from maskrcnn_repro.errors import DataError, did_you_mean

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json
from numpy.typing import NDArray
from PIL import Image

SPLITS = {"train": 2000, "val": 1000}
"""Split -> number of images."""


class Drawing(Protocol):
    """A drawn image and its annotations."""

    image: NDArray[np.uint8]
    """(H, W, 3), RGB."""

    def annotations(self) -> list[dict[str, Any]]:
        """Return COCO annotations without ``id`` and ``image_id``."""


@dataclass(frozen=True)
class GeneratedSet:
    """A family of COCO-format data sets that are drawn by code, the same on every machine.

    Image ``i`` of a split and a seed does not depend on the number of images.
    """

    name: str
    """Prefix of the registered names, such as ``"mini_coco"``."""
    version: int
    """Part of the folder's name; to be raised when the same seed gives other pixels or annotations."""
    draw: Callable[[Draws], Drawing]
    """Draws one image from a stream of random integers."""
    categories: tuple[Mapping[str, Any], ...]
    """As in the COCO JSON, by ascending id."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Metadata for Detectron2, beside the names of the classes."""

    def dataset_name(self, split: str, seed: int = 0) -> str:
        """Return the registered name: ``mini_coco_train``, for other seeds ``mini_coco_seed1_train``."""
        return f"{self.name}_{split}" if seed == 0 else f"{self.name}_seed{seed}_{split}"

    def seed_of(self, dataset_name: str) -> int | None:
        """Return the seed in a name such as ``mini_coco_seed7_val``, or None for other names."""
        match = re.fullmatch(rf"{self.name}_seed(\d+)_(?:{'|'.join(SPLITS)})", dataset_name)
        return int(match.group(1)) if match else None

    def folder(self, root: Path, split: str, seed: int, num_images: int) -> Path:
        """Return the folder to which :meth:`generate` writes a data set."""
        return root / self.name / f"v{self.version}" / f"seed{seed}_{split}_{num_images}"

    def generate(
        self, root: Path, split: str, seed: int = 0, num_images: int | None = None
    ) -> Path:
        """Write a data set unless it exists already (see :func:`write_once`), and return its folder.

        Args:
            root: folder of all generated data.
            split: ``"train"`` or ``"val"``; their images are drawn independently.
            seed: of the generator, >= 0.
            num_images: by default the split's number in :data:`SPLITS`.

        Returns:
            The folder with ``instances.json`` and ``images/``.

        Raises:
            DataError: an argument is out of range, the folder cannot be written, or it has a damaged image.
        """
        if split not in SPLITS:
            raise DataError(
                f"Split {split!r} is not one of {', '.join(SPLITS)}.{did_you_mean(split, SPLITS)}"
            )
        num_images = SPLITS[split] if num_images is None else num_images
        if seed < 0 or num_images < 1:
            raise DataError(
                f"Seed {seed} has to be >= 0 and the number of images {num_images} >= 1."
            )
        target = self.folder(Path(root), split, seed, num_images)
        contents = {"version": self.version, "seed": seed, "split": split, "num_images": num_images}
        write_once(target, contents, self._draw_all)
        check_images(target, tuple(map(_file_name, range(1, num_images + 1))))
        return target

    def register(self, seed: int) -> None:
        """Register the train and val split of a seed, unless they are registered already.

        A split is written to disk, its ``json_file`` included, when it is loaded for the first time.
        """
        root = cache_root()
        for split, num_images in SPLITS.items():
            name = self.dataset_name(split, seed)
            if name in DatasetCatalog:
                continue
            data = self.folder(root, split, seed, num_images)
            DatasetCatalog.register(name, partial(self._load, root, split, seed))
            MetadataCatalog.get(name).set(
                json_file=str(data / "instances.json"),
                image_root=str(data / "images"),
                evaluator_type="coco",
                # Needed before the data is written; by ascending id, as the loader will set them.
                thing_classes=[category["name"] for category in self.categories],
                has_rle_masks=True,
                **self.metadata,
            )

    def _load(self, root: Path, split: str, seed: int) -> list[dict[str, Any]]:
        data = self.generate(root, split, seed)
        name = self.dataset_name(split, seed)
        try:
            return load_coco_json(str(data / "instances.json"), str(data / "images"), name)
        except ValueError as error:
            raise damaged(data, f"instances.json cannot be read: {error}") from error

    def _draw_all(self, images: Path, contents: dict[str, Any]) -> dict[str, Any]:
        """Write the PNG files and return the COCO JSON."""
        stream = list(SPLITS).index(contents["split"])
        records: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for image_id in range(1, contents["num_images"] + 1):
            # A stream per image, so that it does not depend on the images before it.
            drawing = self.draw(Draws(contents["seed"], stream, image_id))
            height, width, _ = drawing.image.shape
            name = _file_name(image_id)
            # Level 1 is five times faster than the default, and the file a tenth larger.
            Image.fromarray(drawing.image).save(images / name, compress_level=1)
            records.append({"id": image_id, "file_name": name, "height": height, "width": width})
            for annotation in drawing.annotations():
                annotations.append({"id": len(annotations) + 1, "image_id": image_id, **annotation})
        return {
            "info": {"description": f"{self.name}, generated by maskrcnn-repro", **contents},
            "images": records,
            "annotations": annotations,
            "categories": [dict(category) for category in self.categories],
        }


def _file_name(image_id: int) -> str:
    return f"{image_id:06d}.png"
