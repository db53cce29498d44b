"""Panoptic annotations of registered data sets, and the semantic labels that are made of them."""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskrcnn_repro.data.panoptic.faults import (
    Faults,
    check_categories,
    check_pixels,
    check_segments,
)
from maskrcnn_repro.data.panoptic.files import Categories, read_ids
from maskrcnn_repro.data.synthetic.families import GENERATED
from maskrcnn_repro.data.synthetic.writing import cache_root, write_once
from maskrcnn_repro.errors import DataError, listing

from detectron2.data import MetadataCatalog
from detectron2.utils import comm
from PIL import Image

logger = logging.getLogger(__name__)
_ENDINGS = re.compile(r"(_gtFine)?_(leftImg8bit|panoptic)$")
"""Of Cityscapes' names; an image and its labels have the same name otherwise."""
_PNG = "*.[pP][nN][gG]"


def image_key(file_name: str | Path) -> str:
    """Return what an image and its panoptic labels have in common in their names."""
    return _ENDINGS.sub("", Path(file_name).stem)


@dataclass(frozen=True)
class PanopticTruth:
    """A panoptic JSON with its folder of PNG files."""

    file: Path
    folder: Path
    entries: list[dict[str, Any]]
    """``categories`` of the file."""
    annotations: dict[str, dict[str, Any]]
    """:func:`image_key` -> entry of ``annotations``."""

    @classmethod
    def read(cls, file: Path, folder: Path, *, results: bool = False) -> PanopticTruth:
        """Read the JSON.

        Args:
            file: the JSON.
            folder: of the PNG files.
            results: what an evaluation wrote, which is not held against the table of faults.

        Raises:
            DataError: it cannot be read, is not in COCO's panoptic format, or has an error of
                :mod:`maskrcnn_repro.data.panoptic.faults`.
        """
        faults = Faults(file)
        try:
            tree = json.loads(file.read_text("utf-8"))
            images = {image["id"]: image["file_name"] for image in tree.get("images", ())}
            annotations: dict[str, dict[str, Any]] = {}
            for entry in tree["annotations"]:
                key = image_key(images.get(entry["image_id"], entry["file_name"]))
                if annotations.setdefault(key, entry) is not entry:
                    faults.add("image twice", key)
            truth = cls(file, folder, tree["categories"], annotations)
            sound = all("segments_info" in entry for entry in annotations.values())
            if sound and not results:
                truth.check(faults)
        except OSError as error:
            raise DataError(f"Panoptic annotations {file} cannot be read: {error}.") from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise DataError(
                f"{file} is not in COCO's panoptic format (annotations with image_id, file_name and segments_info; "
                f"categories with id, name and isthing): {type(error).__name__}: {error}."
            ) from error
        if not sound or not truth.entries:
            raise DataError(
                f"{file} has no segments_info or no categories: it is no COCO panoptic file."
            )
        if not results:
            faults.warnings()
        return truth

    def check(self, faults: Faults) -> None:
        """Note what is wrong with categories and segments."""
        check_categories(self.entries, faults)
        categories = {entry["id"] for entry in self.entries}
        for image, entry in self.annotations.items():
            check_segments(image, entry["segments_info"], categories, faults)

    @functools.cached_property
    def categories(self) -> Categories:
        """Things and stuff."""
        return Categories.of(self.entries)

    @property
    def names(self) -> dict[int, str]:
        """Category id -> name, things first."""
        return {**self.categories.things, **self.categories.stuff}

    def of(self, image: str) -> dict[str, Any]:
        """Return the annotation of an image by its file name.

        Raises:
            DataError: there is none.
        """
        key = image_key(image)
        if key not in self.annotations:
            raise DataError(
                f"Image {image} has no panoptic labels: {self.file} knows {listing(self.annotations, 3)}."
            )
        return self.annotations[key]

    def png_of(self, image: str) -> Path:
        """Return the PNG of an image by its file name; errors as of :meth:`of`."""
        return self.folder / self.of(image)["file_name"]


def register_panoptic(dataset: str, panoptic_json: str | Path, panoptic_root: str | Path) -> None:
    """Give a registered data set panoptic labels in COCO's format, in place of those that it may have.

    They are read when they are asked for.

    Args:
        dataset: name; its things are those of the panoptic file.
        panoptic_json: annotations of its images, or of more.
        panoptic_root: folder of the PNG files.
    """
    metadata = MetadataCatalog.get(dataset)
    given = {
        "panoptic_json": str(Path(panoptic_json).expanduser()),
        "panoptic_root": str(Path(panoptic_root).expanduser()),
    }
    if all(metadata.get(key) == value for key, value in given.items()):
        return
    _forget_semantic(dataset)
    for key in given:
        if metadata.get(key) is not None:
            delattr(metadata, key)
    metadata.set(**given)


def register_published(root: Path) -> None:
    """Tell of COCO's and Cityscapes' panoptic files where their archives and Cityscapes' code put them.

    Args:
        root: Detectron2's folder of data sets, with ``coco`` and ``cityscapes``.
    """
    for split in ("train", "val"):
        name = f"panoptic_{split}2017"
        coco = root / "coco"
        register_panoptic(f"coco_2017_{split}", coco / "annotations" / f"{name}.json", coco / name)
        fine = root / "cityscapes" / "gtFine" / f"cityscapes_panoptic_{split}"
        register_panoptic(f"cityscapes_fine_{split}", fine.with_suffix(".json"), fine)


def has_panoptic(dataset: str) -> bool:
    """Tell whether a data set has panoptic files, or will have them when they are asked for."""
    metadata = MetadataCatalog.get(dataset)
    file = metadata.get("panoptic_json")
    return bool(file) and (_generated(dataset) is not None or Path(file).is_file())


def open_truth(dataset: str) -> PanopticTruth:
    """Return the panoptic labels of a data set; those of a generated one are drawn first.

    Raises:
        DataError: it has none, they cannot be read, or they have other things than the data set.
    """
    if not has_panoptic(dataset):
        file = MetadataCatalog.get(dataset).get("panoptic_json")
        raise DataError(
            f"Data set {dataset!r} has no panoptic labels: "
            + (f"{file} does not exist" if file else "name them in DATASETS.PANOPTIC")
            + "; without them set TEST.PANOPTIC_QUALITY to False."
        )
    write_generated(dataset)
    metadata = MetadataCatalog.get(dataset)
    if not Path(metadata.panoptic_root).is_dir():
        raise DataError(
            f"Data set {dataset!r} has no panoptic labels: the folder {metadata.panoptic_root} of its PNG files does not "
            "exist."
        )
    truth = PanopticTruth.read(Path(metadata.panoptic_json), Path(metadata.panoptic_root))
    things, classes = list(truth.categories.things.values()), metadata.get("thing_classes")
    if classes is not None and things != list(classes):
        raise DataError(
            f"Data set {dataset!r} has the classes {listing(classes)}, but the things of its panoptic labels "
            f"{truth.file} are {listing(things)}; give both files the same ones."
        )
    return truth


def write_generated(dataset: str) -> None:
    """Write the labels of a generated data set unless they exist already; those of others are there."""
    if identity := _generated(dataset):
        family, split, seed = identity
        family.generate_labels(cache_root(), split, seed)


def is_generated(dataset: str) -> bool:
    """Tell whether a data set is one that is drawn on first use, with labels."""
    return _generated(dataset) is not None


def derive_semantic(dataset: str) -> None:
    """Write semantic labels of a data set with panoptic ones, and put them into its metadata.

    They are written once for each state of the panoptic files, by their sizes and times.

    Raises:
        DataError: see :func:`open_truth`; a PNG cannot be read.
    """
    metadata = MetadataCatalog.get(dataset)
    contents = _state(Path(metadata.panoptic_json), Path(metadata.panoptic_root))
    name = hashlib.sha256(str(contents).encode()).hexdigest()[:16]
    folder = cache_root() / "sem_seg" / name
    if metadata.get("sem_seg_root") == str(folder / "sem_seg"):
        return
    truth = open_truth(dataset)

    def fill(target: Path, _: dict[str, Any]) -> dict[str, Any]:
        logger.info("Writing semantic labels of %d images to %s", len(truth.annotations), folder)
        faults = Faults(truth.file)
        for key, entry in truth.annotations.items():
            ids = read_ids(truth.folder / entry["file_name"])
            check_pixels(key, entry["segments_info"], ids, faults)
            labels = truth.categories.semantic(ids, entry["segments_info"])
            Image.fromarray(labels).save(target / f"{key}.png")
        return {**contents, "warnings": faults.warnings()}

    write_once(folder, contents, fill, ("sem_seg", "source.json"))
    if comm.is_main_process():
        for sentence in json.loads((folder / "source.json").read_text("ascii"))["warnings"]:
            logger.warning("%s", sentence)
    _forget_semantic(dataset)
    metadata.set(sem_seg_root=str(folder / "sem_seg"), **truth.categories.metadata())


def is_derived(dataset: str) -> bool:
    """Tell whether the semantic labels of a data set are those that :func:`derive_semantic` wrote."""
    root = MetadataCatalog.get(dataset).get("sem_seg_root")
    return root is not None and Path(root).parent.parent == cache_root() / "sem_seg"


def _state(file: Path, folder: Path) -> dict[str, Any]:
    """Return what tells panoptic files from others, and from what they were before; none is read."""
    try:
        pictures = sorted(f"{p.relative_to(folder)} {_stamp(p)}\n" for p in folder.rglob(_PNG))
        stamp = _stamp(file) if file.is_file() else ""
    except OSError as error:
        raise DataError(f"Panoptic labels in {folder} cannot be read: {error}.") from error
    digest = hashlib.sha256("".join(pictures).encode("utf-8", "surrogateescape")).hexdigest()
    places = {"file": str(file.resolve()), "folder": str(folder.resolve())}
    return {"format": 2, **places, "stamp": stamp, "pictures": digest}


def _stamp(path: Path) -> str:
    stat = path.stat()
    return f"{stat.st_size} {stat.st_mtime_ns}"


def _forget_semantic(dataset: str) -> None:
    """Take labels made of panoptic ones out of the metadata, which Detectron2 refuses to change."""
    metadata = MetadataCatalog.get(dataset)
    for key in (*Categories({}, {}).metadata(), "sem_seg_root"):
        if metadata.get(key) is not None:
            delattr(metadata, key)


def _generated(dataset: str) -> tuple[Any, str, int] | None:
    for family in GENERATED:
        if family.stuff and (identity := family.identify(dataset)):
            return family, *identity
    return None
