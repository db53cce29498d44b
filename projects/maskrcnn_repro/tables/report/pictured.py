"""The few validation images that a page shows, with ground truth and predictions: of a run, or kept with the code.

``LEVEL/BACKEND/pictures/DATASET.json`` has names and objects of the images, ``DATASET_1.png`` is the first of them, and
``EXPERIMENT/pictured_seedK.json`` has what the model finds on them. Of images that this project does not generate no
pixel is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskrcnn_repro.data.image_file import ImageFiles
from maskrcnn_repro.data.synthetic.families import is_generated
from maskrcnn_repro.errors import TableError, UserError
from maskrcnn_repro.tables.report.model import Origin
from maskrcnn_repro.tables.report.places import (
    PICTURES,
    detections_file,
    is_kept,
    kept_beside,
    record_of,
)
from maskrcnn_repro.tables.report.plain import json_text
from maskrcnn_repro.tables.runs.reading import describe_error, read_json
from maskrcnn_repro.tables.runs.records import CONFIG, read_config
from maskrcnn_repro.utils.rle import encode_mask
from maskrcnn_repro.visualization.coco_objects import (
    by_image,
    decode,
    ground_truth,
    read_objects,
    style_of,
)
from maskrcnn_repro.visualization.draw import Objects, Style
from maskrcnn_repro.visualization.encoding import encode_picture
from maskrcnn_repro.visualization.sheet import pick

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

IMAGES = 4
"""At most, of each data set."""
THRESHOLD = 0.5
"""Lowest score drawn."""
MOST_PIXELS = 200_000_000
"""Of a kept image: one without pixels is drawn as large as its file says."""
FARTHEST = 1_000_000
"""Pixels from an image that a kept box or keypoint may lie."""
PLAIN = 232
"""Grey of an image that is not kept."""


class Unreadable(Exception):
    """Images or predictions that cannot be drawn; the text says which and why."""


@dataclass(frozen=True)
class Place:
    """Where the images of a run are found.

    Attributes:
        dataset: its name.
        kept: the file that has them, of a kept record.
        pixel_range: INPUT.PIXEL_RANGE of the run; empty where its config is not there.
    """

    dataset: str
    kept: Path | None = None
    pixel_range: tuple[float, ...] = ()

    @classmethod
    def of(cls, run: Origin) -> Place:
        """Return the place of a run's or a kept record's images."""
        results = Path(run.results)
        if is_kept(results):
            files = [folder / PICTURES / f"{run.split}.json" for folder in results.parents[1:3]]
            return cls(run.split, next((file for file in files if file.is_file()), files[0]))
        try:
            values = read_config(results.with_name(CONFIG)).get("INPUT.PIXEL_RANGE")
        except UserError:
            values = None
        return cls(run.split, pixel_range=tuple(values or ()))


@dataclass(frozen=True)
class Scene:
    """The images of a data set that are shown, with their objects.

    Attributes:
        names: of the images' files.
        truth: ground truth of each image.
        images: (H, W, 3) RGB uint8 each; plain where they are not kept.
        style: class names and skeleton.
        ids: of the images in detection files.
        to_class: category id in detection files -> class; None if they are the same.
        is_plain: whether the images are not kept.
    """

    names: tuple[str, ...]
    truth: tuple[Objects, ...]
    images: tuple[np.ndarray, ...]
    style: Style
    ids: tuple[Any, ...]
    to_class: Mapping[int, int] | None = None
    is_plain: bool = False


def read_scene(place: Place) -> Scene:
    """Return the images of a place.

    Raises:
        Unreadable: they are not there, or cannot be read.
    """
    return _registered(place) if place.kept is None else _find_kept(place.dataset, place.kept)


def read_predictions(run: Origin, scene: Scene) -> list[Objects]:
    """Return what a model finds on each image of a scene.

    Raises:
        Unreadable: its detections are not there, or cannot be read.
    """
    results = Path(run.results)
    kept = is_kept(results)
    path = kept_beside(results, "pictured") if kept else detections_file(results, run.split)
    if not path.is_file():
        raise Unreadable(f"there is no {path}")
    try:
        if kept:
            sizes = [image.shape[:2] for image in scene.images]
            return _kept_objects(path, run, sizes, len(scene.style.names))
        entries = by_image(path, THRESHOLD)
        return [read_objects(entries[number], scene.to_class) for number in scene.ids]
    except Exception as error:  # cut off, or of another program: wrong in any way
        raise Unreadable(f"{path} cannot be read: {describe_error(error, path)}") from error


def scene_files(dataset: str, scene: Scene) -> dict[Path, str | bytes]:
    """Return the files that keep a scene, by their place in ``LEVEL/BACKEND``."""
    images = [
        {"name": name, "id": number, "size": list(image.shape[:2]), "objects": _tree(objects)}
        for name, number, image, objects in zip(
            scene.names, scene.ids, scene.images, scene.truth, strict=True
        )
    ]
    style = {"names": list(scene.style.names), "edges": [list(edge) for edge in scene.style.edges]}
    files: dict[Path, str | bytes] = {
        Path(PICTURES, f"{dataset}.json"): json_text(
            {"images": images, "style": style, "to_class": list((scene.to_class or {}).items())}
        )
    }
    if is_generated(dataset) and not scene.is_plain:
        for number, image in enumerate(scene.images, start=1):
            files[Path(PICTURES, f"{dataset}_{number}.png")] = encode_picture(
                image, "PNG", optimize=True
            )
    return files


def predictions_text(run: Origin, objects: Sequence[Objects]) -> str:
    """Return the file that keeps what the model of a run finds on the images of its scene."""
    tree = {"record": record_of(run), "objects": [_tree(each) for each in objects]}
    return json_text(tree)


def _registered(place: Place) -> Scene:
    dataset = place.dataset
    metadata = MetadataCatalog.get(dataset) if dataset in DatasetCatalog else None
    file = metadata.get("json_file") if metadata else None
    # Without its file a generated data set would be drawn anew.
    if metadata is None or file is None or not Path(file).is_file():
        raise Unreadable(f"the images of {dataset} are not on this machine")
    try:
        records = pick(DatasetCatalog.get(dataset), IMAGES)
        files = ImageFiles(place.pixel_range)
        images = tuple(files.read(record["file_name"], "RGB") for record in records)
    except (OSError, ValueError, LookupError, UserError) as error:
        raise Unreadable(f"the images of {dataset} cannot be read: {error!r}") from error
    return Scene(
        names=tuple(Path(record["file_name"]).name for record in records),
        truth=tuple(map(ground_truth, records)),
        images=images,
        style=style_of(metadata),
        ids=tuple(record["image_id"] for record in records),
        to_class=metadata.get("thing_dataset_id_to_contiguous_id"),
    )


def _find_kept(dataset: str, file: Path) -> Scene:
    if not file.is_file():
        raise Unreadable(f"the images of {dataset} are not kept")
    try:
        tree = read_json(file)
        entries, names = tree["images"], tree["style"]["names"]
        sizes = [_size(entry["size"]) for entry in entries]
        _check_pixels(sizes)
        pictures = [file.with_name(f"{dataset}_{n}.png") for n in range(1, len(entries) + 1)]
        plain = not all(picture.is_file() for picture in pictures)
        return Scene(
            names=tuple(entry["name"] for entry in entries),
            truth=tuple(
                _objects(entry["objects"], size, len(names))
                for entry, size in zip(entries, sizes, strict=True)
            ),
            images=tuple(
                np.full((*size, 3), PLAIN, np.uint8) if plain else _pixels(picture, size)
                for size, picture in zip(sizes, pictures, strict=True)
            ),
            style=Style(
                names,
                [(first, second, tuple(color)) for first, second, color in tree["style"]["edges"]],
            ),
            ids=tuple(entry["id"] for entry in entries),
            to_class=dict(tree["to_class"]) or None,
            is_plain=plain,
        )
    except Exception as error:  # cut off, or of another program: wrong in any way
        raise Unreadable(f"{file} cannot be read: {describe_error(error, file)}") from error


def _kept_objects(
    path: Path, run: Origin, sizes: Sequence[tuple[int, ...]], classes: int
) -> list[Objects]:
    tree = read_json(path)
    if tree["record"] != record_of(run):
        raise TableError("it is of another run")
    if len(tree["objects"]) != len(sizes):
        raise TableError(f"it is of {len(tree['objects'])} images, not {len(sizes)}")
    pairs = zip(tree["objects"], sizes, strict=True)
    return [_objects(each, size, classes) for each, size in pairs]


def _size(given: Sequence[int]) -> tuple[int, ...]:
    """Return height and width of an image; raise TableError for more pixels than memory may hold."""
    height, width = given
    if not 0 < height * width <= MOST_PIXELS:
        raise TableError(f"an image of {height} x {width} pixels; it may have {MOST_PIXELS:,}")
    return height, width


def _check_pixels(sizes: Sequence[tuple[int, ...]]) -> None:
    """Raise TableError for images that together have more pixels than memory may hold."""
    if sum(height * width for height, width in sizes) > MOST_PIXELS:
        raise TableError(f"its images have more than {MOST_PIXELS:,} pixels in all")


def _tree(objects: Objects) -> dict[str, Any]:
    """Return objects as plain values; masks as COCO's compressed RLE."""
    tree: dict[str, Any] = {"boxes": objects.boxes.tolist(), "classes": objects.classes.tolist()}
    if len(objects.masks):
        tree["masks"] = [encode_mask(mask) for mask in objects.masks]
    for name in ("scores", "keypoints"):
        values = getattr(objects, name)
        if values is not None:
            tree[name] = values.tolist()
    return tree


def _objects(tree: Mapping[str, Any], size: tuple[int, ...], classes: int) -> Objects:
    """Return the objects of an image of this height and width.

    Raises:
        TableError: for a mask of another size, for what is not there once for each box, or for no class.
    """
    masks = tree.get("masks", ())
    for height, width in (rle["size"] for rle in masks):
        if (height, width) != size:
            raise TableError(
                f"a mask of {height} x {width} pixels in an image of {size[0]} x {size[1]}"
            )
    scores, keypoints = tree.get("scores"), tree.get("keypoints")
    for name in ("boxes", "scores", "keypoints"):
        if not (np.abs(np.array(tree.get(name) or (), dtype=float)) <= FARTHEST).all():
            raise TableError(f"{name} with what is no number up to {FARTHEST:,}")
    for name in ("classes", "masks", "scores", "keypoints"):
        if tree.get(name) and len(tree[name]) != len(tree["boxes"]):
            raise TableError(f"{len(tree[name])} {name} for {len(tree['boxes'])} boxes")
    if not all(0 <= int(number) < classes for number in tree["classes"]):
        raise TableError(f"a class that is none of {classes}")
    return Objects(
        boxes=np.array(tree["boxes"], dtype=float).reshape(-1, 4),
        classes=np.array(tree["classes"], dtype=np.int64),
        masks=[decode(rle, None) for rle in masks],
        scores=None if scores is None else np.array(scores, dtype=float),
        keypoints=None if keypoints is None else np.array(keypoints, dtype=float),
    )


def _pixels(file: Path, size: tuple[int, ...]) -> np.ndarray:
    """Return a kept image, (H, W, 3) RGB uint8; raise TableError if it cannot be read or is of another size."""
    try:
        with Image.open(file) as image:
            if image.size[::-1] != size:
                raise TableError("it is of another size than the file of its objects says")
            return np.asarray(image.convert("RGB"))
    except Exception as error:  # Pillow raises SyntaxError and errors of its own, too
        raise TableError(f"{file.name}: {str(error) or 'it is no image'}") from error
