"""A sound COCO file of two images, and functions that return what spoils it: each takes the tree and the folder."""

import copy
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SQUARE = [50, 32, 80, 32, 80, 62, 50, 62]
NAMES = ["nose", "left_eye", "right_eye", "left_hip", "right_hip"]
POSE = [60, 40, 2, 64, 38, 2, 56, 38, 2, 64, 56, 1, 56, 56, 2]
COUNTS = [10 * 80 + 20, *[10, 70] * 19, 10, 96 * 80 - 29 * 80 - 30]
"""Rows 20 to 29 of columns 10 to 29, in an image of 96 x 80 pixels (width x height)."""
STRING = "di0:V2" + 37 * "0" + r"\T5"
"""The same as COCO's string."""
RLE = ("annotations", 1, "segmentation")
TEXT = ("annotations", 2, "segmentation")
OUTLINE = ("annotations", 0, "segmentation")
BOX = ("annotations", 0, "bbox")
KEYPOINTS = ("annotations", 3, "keypoints")


def annotation(place: int, category: int, **fields: Any) -> dict[str, Any]:
    base = {
        "id": place,
        "image_id": 2,
        "category_id": category,
        "bbox": [50, 32, 30, 30],
        "area": 900,
        "iscrowd": 0,
        "segmentation": [SQUARE],
        "keypoints": [0] * 15,
        "num_keypoints": 0,
    }
    return {**base, **fields}


def sound() -> dict[str, Any]:
    """A tree without an error or a warning."""
    patch = {"bbox": [10, 20, 20, 10], "area": 200}
    return copy.deepcopy(
        {
            "images": [
                {"id": 2, "file_name": "im2.png", "height": 80, "width": 96},
                {"id": 3, "file_name": "im3.png", "height": 80, "width": 96},
            ],
            "annotations": [
                annotation(4, 2),
                annotation(5, 2, **patch, segmentation={"size": [80, 96], "counts": COUNTS}),
                annotation(6, 1, **patch, segmentation={"size": [80, 96], "counts": STRING}),
                annotation(7, 1, keypoints=POSE, num_keypoints=5),
                annotation(8, 2, image_id=3, bbox=[0, 0, 96, 80], area=5000, iscrowd=1)
                | {"segmentation": [[0, 0, 96, 0, 96, 80, 0, 80]]},
                annotation(9, 2, image_id=3),
            ],
            "categories": [
                {"id": 1, "name": "person", "keypoints": NAMES, "skeleton": [[2, 3], [4, 5]]},
                {"id": 2, "name": "cell"},
            ],
        }
    )


def write(folder: Path, spoil: Callable | None = None, name: str = "a.json") -> tuple[Path, Path]:
    """Write the sound file, spoilt or not, and its images; return the JSON and the folder of the images."""
    images = folder / "images"
    images.mkdir(exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 255, (2, 80, 96, 3), dtype=np.uint8)
    for file, array in zip(("im2.png", "im3.png"), pixels, strict=True):
        Image.fromarray(array).save(images / file)
    tree = sound()
    written = spoil(tree, images) if spoil else None
    path = folder / name
    path.write_bytes(
        written
        if isinstance(written, bytes)
        else json.dumps(tree if written is None else written).encode()
    )
    return path, images


def put(*path: Any, to: Any) -> Callable:
    """Return what sets a value in a tree."""

    def spoil(tree: Any, images: Path) -> None:
        for part in path[:-1]:
            tree = tree[part]
        tree[path[-1]] = to

    return spoil


def drop(*path: Any) -> Callable:
    """Return what removes a value from a tree."""

    def spoil(tree: Any, images: Path) -> None:
        for part in path[:-1]:
            tree = tree[part]
        del tree[path[-1]]

    return spoil


def again(key: str, index: int = 0, **fields: Any) -> Callable:
    """Return what repeats a record with other fields."""

    def spoil(tree: Any, images: Path) -> None:
        tree[key].append({**copy.deepcopy(tree[key][index]), **fields})

    return spoil


def each(key: str, **fields: Any) -> Callable:
    """Return what sets fields of all records."""

    def spoil(tree: Any, images: Path) -> None:
        for record in tree[key]:
            record.update(fields)

    return spoil


def file(name: str, content: bytes) -> Callable:
    """Return what writes other bytes into an image's file."""

    def spoil(tree: Any, images: Path) -> None:
        (images / name).write_bytes(content)

    return spoil


def whole(content: Any) -> Callable:
    """Return what replaces the file: bytes, or another tree."""
    return lambda tree, images: content


def image(size: tuple[int, int], mode: str = "RGB", **options: Any) -> Callable:
    """Return what writes another image."""

    def spoil(tree: Any, images: Path) -> None:
        Image.new(mode, size).save(images / "im2.png", **options)

    return spoil


def turned(tree: Any, images: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (96, 80)).save(images / "im2.png", "JPEG", exif=exif)


def huge_file(tree: Any, images: Path) -> None:
    """A PNG header of 177 million pixels."""
    chunk = b"IHDR" + (13300).to_bytes(4, "big") * 2 + b"\x08\x02\x00\x00\x00"
    head = b"\x89PNG\r\n\x1a\n\x00\x00\x00\r" + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    (images / "im2.png").write_bytes(head + b"\x00\x00\x00\x00IDAT")


def many_people(change: Callable[[list[int]], list[int]]) -> Callable:
    """Return what adds forty people with a changed pose."""

    def spoil(tree: Any, images: Path) -> None:
        for place in range(100, 140):
            box = [50, 32, 30, 30 - (place - 100) * 0.1]
            tree["annotations"].append(
                annotation(place, 1, bbox=box, area=700, keypoints=change(POSE), num_keypoints=5)
            )

    return spoil


def mirrored(pose: list[int]) -> list[int]:
    return [120 - v if i % 3 == 0 else v for i, v in enumerate(pose)]


def eyes_exchanged(pose: list[int]) -> list[int]:
    return pose[:3] + pose[6:9] + pose[3:6] + pose[9:] if len(pose) == 15 else pose


def unused_twin(tree: Any, images: Path) -> None:
    tree["categories"].insert(0, {"id": 0, "name": "cell", "supercategory": "none"})


def parent(tree: Any, images: Path) -> None:
    tree["categories"].insert(0, {"id": 0, "name": "things", "supercategory": "none"})
    tree["categories"][2]["supercategory"] = "things"


def used_twin(tree: Any, images: Path) -> None:
    tree["categories"].append({"id": 3, "name": "cell"})
    tree["annotations"][0]["category_id"] = 3


def lonely_crowd(tree: Any, images: Path) -> None:
    tree["annotations"] = [a for a in tree["annotations"] if a["iscrowd"]]


def crowded(count: int) -> Callable:
    def spoil(tree: Any, images: Path) -> None:
        for place in range(100, 100 + count):
            box = [50, 32, 30, 30 - (place - 100) * 0.01]
            tree["annotations"].append(annotation(place, 2, bbox=box, area=700))

    return spoil


def with_counts(counts: Any) -> Callable:
    return put(*RLE, "counts", to=counts)


def with_text(counts: Any) -> Callable:
    return put(*TEXT, "counts", to=counts)


def first_number(value: Any) -> Callable:
    return put(*OUTLINE, to=[[value, *SQUARE[1:]]])


def pose(**changed: Any) -> Callable:
    values = list(POSE)
    for index, value in changed.items():
        values[int(index.removeprefix("at"))] = value
    return put(*KEYPOINTS, to=values)
