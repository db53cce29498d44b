"""A family of generated data sets: written to disk on first use and registered with Detectron2."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol, cast

from maskrcnn_repro.data.panoptic.files import Categories, write_ids
from maskrcnn_repro.data.synthetic.draws import Draws
from maskrcnn_repro.data.synthetic.writing import cache_root, check_images, damaged, write_once
from maskrcnn_repro.errors import DataError, did_you_mean

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json
from numpy.typing import NDArray
from PIL import Image

SPLITS = {"train": 2000, "val": 1000}
"""Split -> number of images, unless a set has its own."""


class Drawing(Protocol):
    """A drawn image and its annotations."""

    image: NDArray[np.uint8]
    """(H, W, 3), RGB."""

    def annotations(self) -> list[dict[str, Any]]:
        """Return COCO annotations without ``id`` and ``image_id``."""


class Segmented(Drawing, Protocol):
    """A drawing that is labelled to the last pixel."""

    def segments(self) -> tuple[NDArray[np.int64], list[dict[str, Any]]]:
        """Return segment ids, (H, W), and the entries of these segments in a COCO panoptic JSON."""


class WithSurfaces(Drawing, Protocol):
    """A drawing of people."""

    def surfaces(self) -> list[dict[str, Any]]:
        """Return COCO's DensePose fields of each annotation, nothing where it has none."""


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
    stuff: tuple[Mapping[str, Any], ...] = ()
    """Categories of stuff in the panoptic JSON, by ascending id; without any there is none."""
    has_surfaces: bool = False
    """Whether drawings are those of people, with coordinates on their surface."""
    sizes: Mapping[str, int] = field(default_factory=lambda: SPLITS)
    """Split -> number of images."""

    def dataset_name(self, split: str, seed: int = 0) -> str:
        """Return the registered name: ``mini_coco_train``, for other seeds ``mini_coco_seed1_train``."""
        return f"{self.name}_{split}" if seed == 0 else f"{self.name}_seed{seed}_{split}"

    def identify(self, dataset_name: str) -> tuple[str, int] | None:
        """Return split and seed of a name such as ``mini_coco_seed7_val``, None for those of other sets."""
        pattern = rf"{self.name}(?:_seed(\d+))?_({'|'.join(SPLITS)})"
        match = re.fullmatch(pattern, dataset_name)
        return (match.group(2), int(match.group(1) or 0)) if match else None

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
            num_images: by default the split's number in :attr:`sizes`.

        Returns:
            The folder with ``instances.json`` and ``images/``.

        Raises:
            DataError: an argument is out of range, the folder cannot be written, or it has a damaged image.
        """
        contents = self._contents(split, seed, num_images)
        target = self.folder(Path(root), split, seed, contents["num_images"])
        write_once(target, contents, self._draw_all)
        check_images(target, tuple(map(_file_name, range(1, contents["num_images"] + 1))))
        return target

    def generate_labels(
        self, root: Path, split: str, seed: int = 0, num_images: int | None = None
    ) -> Path:
        """Write panoptic and semantic labels of a data set unless they exist already, and return their folder.

        They lie beside the data set, which is neither read nor changed.

        Args:
            root: as of :meth:`generate`, like the others.
            split: see there.
            seed: see there.
            num_images: see there.

        Returns:
            The folder with ``panoptic.json``, ``panoptic/`` and ``sem_seg/``.

        Raises:
            DataError: an argument is out of range, or the folder cannot be written.
        """
        contents = self._contents(split, seed, num_images)
        target = _labels(self.folder(Path(root), split, seed, contents["num_images"]))
        write_once(target, contents, self._draw_labels, ("panoptic", "panoptic.json"))
        return target

    def generate_surfaces(
        self, root: Path, split: str, seed: int = 0, num_images: int | None = None
    ) -> Path:
        """Write the annotations with DensePose fields unless they exist already, and return the file.

        It lies beside the data set, which is neither read nor changed; arguments and errors as of :meth:`generate_labels`.
        """
        contents = self._contents(split, seed, num_images)
        file = _surfaces(self.folder(Path(root), split, seed, contents["num_images"]))
        write_once(file.parent, contents, self._draw_surfaces, (".", file.name))
        return file

    def _contents(self, split: str, seed: int, num_images: int | None) -> dict[str, Any]:
        if split not in SPLITS:
            raise DataError(
                f"Split {split!r} is not one of {', '.join(SPLITS)}.{did_you_mean(split, SPLITS)}"
            )
        num_images = self.sizes[split] if num_images is None else num_images
        if seed < 0 or num_images < 1:
            raise DataError(
                f"Seed {seed} has to be >= 0 and the number of images {num_images} >= 1."
            )
        return {"version": self.version, "seed": seed, "split": split, "num_images": num_images}

    def register(self, seed: int) -> None:
        """Register the train and val split of a seed, unless they are registered already.

        A split is written to disk, its ``json_file`` included, when it is loaded for the first time.
        """
        root = cache_root()
        for split, num_images in self.sizes.items():
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
                **self._labels_metadata(_labels(data)),
                **({"densepose_json": str(_surfaces(data))} if self.has_surfaces else {}),
            )

    def _labels_metadata(self, folder: Path) -> dict[str, Any]:
        """Return what Detectron2's panoptic data sets have in their metadata, with files that may not exist yet."""
        if not self.stuff:
            return {}
        return {
            "panoptic_json": str(folder / "panoptic.json"),
            "panoptic_root": str(folder / "panoptic"),
            "sem_seg_root": str(folder / "sem_seg"),
            **Categories.of(self._panoptic_categories()).metadata(),
        }

    def _panoptic_categories(self) -> list[dict[str, Any]]:
        parts = (self.stuff, self.categories)
        return [{**entry, "isthing": thing} for thing in (1, 0) for entry in parts[thing]]

    def _load(self, root: Path, split: str, seed: int) -> list[dict[str, Any]]:
        data = self.generate(root, split, seed)
        name = self.dataset_name(split, seed)
        try:
            return load_coco_json(str(data / "instances.json"), str(data / "images"), name)
        except ValueError as error:
            raise damaged(data, f"instances.json cannot be read: {error}") from error

    def _draw_all(self, images: Path, contents: dict[str, Any]) -> dict[str, Any]:
        """Write the PNG files and return the COCO JSON."""
        records: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for record, drawing in self._drawings(contents):
            # Level 1 is five times faster than the default, and the file a tenth larger.
            Image.fromarray(drawing.image).save(images / record["file_name"], compress_level=1)
            records.append(record)
            annotations += self._assign_ids(record, drawing.annotations(), len(annotations))
        return self._tree(contents, records, annotations, self.categories)

    def _draw_surfaces(self, _: Path, contents: dict[str, Any]) -> dict[str, Any]:
        """Return the COCO JSON with DensePose fields."""
        records: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for record, drawing in self._drawings(contents):
            pairs = zip(drawing.annotations(), cast(WithSurfaces, drawing).surfaces(), strict=True)
            annotations += self._assign_ids(record, [a | b for a, b in pairs], len(annotations))
            records.append(record)
        return self._tree(contents, records, annotations, self.categories)

    @staticmethod
    def _assign_ids(
        record: dict[str, Any], annotations: list[dict[str, Any]], before: int
    ) -> list[dict[str, Any]]:
        """Return the annotations of an image with their ids, which go on after those of the images before."""
        return [
            {"id": number, "image_id": record["id"], **annotation}
            for number, annotation in enumerate(annotations, start=before + 1)
        ]

    def _draw_labels(self, folder: Path, contents: dict[str, Any]) -> dict[str, Any]:
        """Write panoptic and semantic PNG files and return the panoptic JSON."""
        categories = self._panoptic_categories()
        semantic = folder.with_name("sem_seg")
        semantic.mkdir()
        records, annotations = [], []
        for record, drawing in self._drawings(contents):
            ids, segments = cast(Segmented, drawing).segments()
            write_ids(folder / record["file_name"], ids)
            labels = Categories.of(categories).semantic(ids, segments)
            Image.fromarray(labels).save(semantic / record["file_name"])
            records.append(record)
            identity = {"image_id": record["id"], "file_name": record["file_name"]}
            annotations.append({**identity, "segments_info": segments})
        return self._tree(contents, records, annotations, categories)

    def _drawings(self, contents: dict[str, Any]) -> Iterator[tuple[dict[str, Any], Drawing]]:
        """Yield the images of a data set, each behind its record in the COCO JSON."""
        stream = list(SPLITS).index(contents["split"])
        for image_id in range(1, contents["num_images"] + 1):
            # A stream per image, so that it does not depend on the images before it.
            drawing = self.draw(Draws(contents["seed"], stream, image_id))
            height, width, _ = drawing.image.shape
            record = {"id": image_id, "file_name": _file_name(image_id)}
            yield {**record, "height": height, "width": width}, drawing

    def _tree(
        self,
        contents: dict[str, Any],
        records: list[dict[str, Any]],
        annotations: list[dict[str, Any]],
        categories: Iterable[Mapping[str, Any]],
    ) -> dict[str, Any]:
        return {
            "info": {"description": f"{self.name}, generated by maskrcnn-repro", **contents},
            "images": records,
            "annotations": annotations,
            "categories": [dict(category) for category in categories],
        }


def _labels(folder: Path) -> Path:
    """Return where the labels of the data set in ``folder`` lie."""
    return folder.with_name(f"{folder.name}_panoptic")


def _surfaces(folder: Path) -> Path:
    """Return the file of surface coordinates of the data set in ``folder``."""
    return folder.with_name(f"{folder.name}_densepose") / "densepose.json"


def _file_name(image_id: int) -> str:
    return f"{image_id:06d}.png"
