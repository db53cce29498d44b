"""A sound COCO file, and one-defect files made of it: name -> what spoils it, and the code that must name it."""

import copy
import json
import math
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


def image(size: tuple[int, int], **options: Any) -> Callable:
    """Return what writes another image."""

    def spoil(tree: Any, images: Path) -> None:
        Image.new("RGB", size).save(images / "im2.png", **options)

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


NAN, INF = math.nan, math.inf
CORPUS: dict[str, tuple[Callable, str]] = {
    # the file
    "empty file": (whole(b""), "file-no-json"),
    "cut off": (whole(b'{"images": ['), "file-no-json"),
    "web page": (whole(b"<html></html>"), "file-no-json"),
    "byte order mark": (whole(b"\xef\xbb\xbf{}"), "file-no-json"),
    "UTF-16": (whole("{}".encode("utf-16")), "file-no-json"),
    "deep nesting": (whole(b"[" * 100_000), "file-no-json"),
    "a list": (whole([]), "file-no-object"),
    "no images": (drop("images"), "list-absent"),
    "no categories": (drop("categories"), "list-absent"),
    "no annotations": (drop("annotations"), "annotations-absent"),
    "annotations null": (put("annotations", to=None), "list-type"),
    "annotations an object": (put("annotations", to={}), "list-type"),
    "image a number": (put("images", 0, to=3), "record-type"),
    "annotation a list": (put("annotations", 0, to=[]), "record-type"),
    **{
        f"{key} without {field}": (drop(key, 0, field), "field-absent")
        for key, fields in {
            "images": ("id", "file_name", "height", "width"),
            "annotations": ("id", "image_id", "category_id", "bbox", "area"),
            "categories": ("id", "name"),
        }.items()
        for field in fields
    },
    "image id text": (put("images", 0, "id", to="2"), "field-type"),
    "image id boolean": (put("images", 0, "id", to=True), "field-type"),
    "image id a fraction": (put("images", 0, "id", to=2.0), "field-type"),
    "file name null": (put("images", 0, "file_name", to=None), "field-type"),
    "height text": (put("images", 0, "height", to="80"), "field-type"),
    "annotation id boolean": (put("annotations", 0, "id", to=True), "field-type"),
    "category id boolean": (put("annotations", 0, "category_id", to=True), "field-type"),
    "box null": (put(*BOX, to=None), "field-type"),
    "box an object": (put(*BOX, to={}), "field-type"),
    "area null": (put("annotations", 0, "area", to=None), "field-type"),
    "area text": (put("annotations", 0, "area", to="900"), "field-type"),
    "name a number": (put("categories", 0, "name", to=1), "field-type"),
    "annotation id of 400 digits": (put("annotations", 0, "id", to=10**400), "field-range"),
    "category id of 20 digits": (put("categories", 1, "id", to=10**20), "field-range"),
    "height of 400 digits": (put("images", 0, "height", to=10**400), "field-range"),
    # images
    "file name of 5000 letters": (put("images", 0, "file_name", to="a" * 5000 + "/b.png"), "image-absent"),
    "file name with a NUL": (put("images", 0, "file_name", to="im\0/2.png"), "image-absent"),
    "file name with half a character": (put("images", 0, "file_name", to="\ud800.png"), "image-absent"),
    "file name with backslashes": (put("images", 0, "file_name", to="images\\im2.png"), "image-absent"),
    "images empty": (lambda t, i: t.update(images=[], annotations=[]), "images-empty"),
    "image id twice": (again("images"), "image-id-twice"),
    "height 0": (put("images", 0, "height", to=0), "image-size-invalid"),
    "width -96": (put("images", 0, "width", to=-96), "image-size-invalid"),
    "image of 60000 x 60000": (each("images", height=60000, width=60000), "image-too-large"),
    "file missing": (put("images", 0, "file_name", to="im9.png"), "image-absent"),
    "file in other case": (put("images", 0, "file_name", to="IM2.png"), "image-absent"),
    "file above the folder": (put("images", 0, "file_name", to="../images/im2.png"), "image-path-outside"),
    "file name empty": (put("images", 0, "file_name", to=""), "image-header"),
    "file twice": (put("images", 1, "file_name", to="im2.png"), "image-file-twice"),
    "file twice by another name": (put("images", 1, "file_name", to="./im2.png"), "image-file-twice"),
    "image empty": (file("im2.png", b""), "image-header"),
    "image a web page": (file("im2.png", b"<!DOCTYPE html><html>"), "image-header"),
    "image a pointer": (file("im2.png", b"version https://git-lfs.github.com/spec/v1"), "image-header"),
    "image noise": (file("im2.png", bytes(range(200))), "image-header"),
    "177 million pixels": (huge_file, "image-size-wrong"),
    "height wrong": (put("images", 0, "height", to=82), "image-size-wrong"),
    "image scaled": (image((192, 160)), "image-size-wrong"),
    "sizes swapped": (image((80, 96)), "image-size-swapped"),
    "EXIF turn": (turned, "image-turned"),
    # categories
    "categories empty": (lambda t, i: t.update(annotations=[], categories=[]), "categories-empty"),
    "category id twice": (again("categories"), "category-id-twice"),
    "category name twice": (used_twin, "category-name-twice"),
    "category name twice, one unused": (unused_twin, "category-unused-twice"),
    "category of categories": (parent, "category-unused-parent"),
    "class without object": (again("categories", 1, id=9, name="worm"), "class-without-object"),
    "class of one object": (drop("annotations", 1), "class-rare"),
    # annotations
    "annotations empty": (put("annotations", to=[]), "no-object"),
    "all crowd": (lonely_crowd, "all-crowd"),
    "image without object": (drop("annotations", 5), "images-without-object"),
    "annotation id twice": (put("annotations", 1, "id", to=4), "annotation-id-twice"),
    "annotation id 0": (put("annotations", 1, "id", to=0), "annotation-id-zero"),
    "annotation id -1": (put("annotations", 1, "id", to=-1), "annotation-id-odd"),
    "unknown image": (put("annotations", 0, "image_id", to=77), "annotation-no-image"),
    "unknown category": (put("annotations", 0, "category_id", to=77), "annotation-no-category"),
    "category counted from 0": (put("annotations", 0, "category_id", to=0), "annotation-no-category"),
    "object twice": (again("annotations", id=99), "annotation-twice"),
    "iscrowd absent": (drop("annotations", 0, "iscrowd"), "crowd-absent"),
    "iscrowd null": (put("annotations", 0, "iscrowd", to=None), "crowd-absent"),
    "iscrowd false": (put("annotations", 0, "iscrowd", to=False), "crowd-absent"),
    "iscrowd text": (put("annotations", 0, "iscrowd", to="0"), "crowd-odd"),
    "iscrowd 2": (put("annotations", 0, "iscrowd", to=2), "crowd-odd"),
    "iscrowd a list": (put("annotations", 0, "iscrowd", to=[0]), "crowd-odd"),
    "ignore 1": (put("annotations", 0, "ignore", to=1), "ignore-set"),
    # boxes
    "box of three": (put(*BOX, to=[50, 32, 30]), "box-no-numbers"),
    "box empty": (put(*BOX, to=[]), "box-no-numbers"),
    "box of text": (put(*BOX, to=["50", "32", "30", "30"]), "box-no-numbers"),
    "box of booleans": (put(*BOX, to=[True, True, True, True]), "box-no-numbers"),
    "box with null": (put(*BOX, to=[50, 32, None, 30]), "box-no-numbers"),
    "box NaN": (put(*BOX, to=[50, 32, NAN, 30]), "box-no-numbers"),
    "box infinite": (put(*BOX, to=[50, 32, INF, 30]), "box-no-numbers"),
    "box of 400 digits": (put(*BOX, to=[50, 32, 10**400, 30]), "box-no-numbers"),
    "box nested": (put(*BOX, to=[[50, 32, 30, 30]]), "box-no-numbers"),
    "box negative": (put(*BOX, to=[50, 32, -30, 30]), "box-negative"),
    "box 1e30": (put(*BOX, to=[50, 32, 1e30, 30]), "box-huge"),
    "box empty of area": (put(*BOX, to=[50, 32, 0, 30]), "box-empty"),
    "box in fractions": (put(*BOX, to=[0.52, 0.4, 0.3, 0.37]), "box-fractions"),
    "box as corners": (put(*BOX, to=[50, 32, 80, 62]), "box-corners"),
    "box outside": (put(*BOX, to=[500, 32, 30, 30]), "box-outside"),
    "box left of the image": (put(*BOX, to=[-40, 32, 30, 30]), "box-outside"),
    "box over the border": (put(*BOX, to=[50, 32, 60, 30]), "box-beyond"),
    "box elsewhere": (put(*BOX, to=[5, 5, 30, 30]), "box-contradicts"),
    "box far too large": (put(*BOX, to=[0, 0, 90, 75]), "box-contradicts"),
    "box of half a pixel": (again("annotations", id=99, bbox=[50, 32, 0.5, 30], area=9, segmentation=[[50, 32, 50.5, 32, 50.5, 62]]), "box-tiny"),
    # areas
    "area NaN": (put("annotations", 0, "area", to=NAN), "area-not-finite"),
    "area infinite": (put("annotations", 0, "area", to=INF), "area-not-finite"),
    "area 0": (put("annotations", 0, "area", to=0), "area-not-positive"),
    "area -1": (put("annotations", 0, "area", to=-1), "area-not-positive"),
    "area above the box": (put("annotations", 0, "area", to=7680), "area-above-box"),
    # outlines
    "outline absent": (drop(*OUTLINE), "outline-absent"),
    "outline null": (put(*OUTLINE, to=None), "outline-absent"),
    "outline empty": (put(*OUTLINE, to=[]), "outline-absent"),
    "crowd without outline": (put("annotations", 4, "segmentation", to=[]), "outline-absent-crowd"),
    "outline text": (put(*OUTLINE, to="square"), "outline-type"),
    "outline a number": (put(*OUTLINE, to=5), "outline-type"),
    "outline true": (put(*OUTLINE, to=True), "outline-type"),
    "outline flat": (put(*OUTLINE, to=SQUARE), "outline-flat"),
    "outline of pairs": (put(*OUTLINE, to=[[[50, 32], [80, 32], [80, 62], [50, 62]]]), "outline-pairs"),
    "outline of nulls": (put(*OUTLINE, to=[None]), "outline-no-list"),
    "outline of objects": (put(*OUTLINE, to=[{"x": 1}]), "outline-no-list"),
    "a polygon and a number": (put(*OUTLINE, to=[SQUARE, 5]), "outline-no-list"),
    "polygon with null": (first_number(None), "outline-no-numbers"),
    "polygon with text": (first_number("50"), "outline-no-numbers"),
    "polygon with true": (first_number(True), "outline-no-numbers"),
    "polygon NaN": (put(*OUTLINE, to=[[50, 32, NAN, 32, 80, 62, 50, 62]]), "outline-not-finite"),
    "polygon infinite": (first_number(INF), "outline-not-finite"),
    "polygon both infinite": (put(*OUTLINE, to=[[INF, 32, -INF, 32, 80, 62, 50, 62]]), "outline-not-finite"),
    "polygon of 400 digits": (first_number(10**400), "outline-not-finite"),
    "polygon 1e308": (put(*OUTLINE, to=[[1e308, 32, 1e308, 32, 80, 62, 50, 62]]), "outline-not-finite"),
    "polygon 1e9": (first_number(1e9), "outline-far"),
    "polygon 1745227": (first_number(1745227), "outline-far"),
    "polygon -500": (first_number(-500), "outline-far"),
    "polygon odd": (put(*OUTLINE, to=[SQUARE[:-1]]), "outline-odd"),
    "polygon of one number": (put(*OUTLINE, to=[[5]]), "outline-odd"),
    "polygon a box": (put(*OUTLINE, to=[[50, 32, 30, 30]]), "outline-box"),
    "polygon of two points": (put(*OUTLINE, to=[SQUARE, [1, 2, 3, 4]]), "outline-box"),
    "polygon of one point": (put(*OUTLINE, to=[[50, 32]]), "outline-few-points"),
    "polygon empty": (put(*OUTLINE, to=[[]]), "outline-few-points"),
    "polygon over the border": (put(*OUTLINE, to=[[50, 32, 110, 32, 80, 62, 50, 62]]), "outline-beyond"),
    "polygon in fractions": (put(*OUTLINE, to=[[0.5, 0.4, 0.8, 0.4, 0.8, 0.7, 0.5, 0.7]]), "outline-fractions"),
    "polygon a point": (put(*OUTLINE, to=[[50, 32] * 5]), "outline-no-area"),
    "polygon a line": (put(*OUTLINE, to=[[50, 32, 60, 42, 80, 62]]), "outline-no-area"),
    # run-length encodings
    "RLE without size": (drop(*RLE, "size"), "rle-keys"),
    "RLE without counts": (drop(*RLE, "counts"), "rle-keys"),
    "RLE size text": (put(*RLE, "size", to="80x96"), "rle-size-invalid"),
    "RLE size of three": (put(*RLE, "size", to=[80, 96, 1]), "rle-size-invalid"),
    "RLE size negative": (put(*RLE, "size", to=[-80, -96]), "rle-size-invalid"),
    "RLE size a fraction": (put(*RLE, "size", to=[80.0, 96.0]), "rle-size-invalid"),
    "RLE size null": (put(*RLE, "size", to=[None, None]), "rle-size-invalid"),
    "RLE of 60000 x 60000": (put(*RLE, to={"size": [60000, 60000], "counts": [3_600_000_000]}), "rle-too-large"),
    "RLE text of 60000 x 60000": (put(*TEXT, "size", to=[60000, 60000]), "rle-too-large"),
    "RLE size swapped": (put(*RLE, "size", to=[96, 80]), "rle-size-swapped"),
    "RLE text size swapped": (put(*TEXT, "size", to=[96, 80]), "rle-size-swapped"),
    "RLE size other": (put(*RLE, "size", to=[81, 96]), "rle-size-wrong"),
    "RLE counts null": (with_counts(None), "rle-counts-type"),
    "RLE counts a number": (with_counts(7680), "rle-counts-type"),
    "RLE counts empty": (with_counts([]), "rle-counts-empty"),
    "RLE text empty": (with_text(""), "rle-counts-empty"),
    "RLE counts negative": (with_counts([-5, 10, 7675]), "rle-counts-negative"),
    "RLE counts fractions": (with_counts([820.0, 10.0, 6850.0]), "rle-counts-negative"),
    "RLE counts text": (with_counts(["820", 10, 6850]), "rle-counts-negative"),
    "RLE counts true": (with_counts([True, 7679]), "rle-counts-negative"),
    "RLE counts nested": (with_counts([[820, 10, 6850]]), "rle-counts-negative"),
    "RLE counts of 400 digits": (with_counts([10**400]), "rle-counts-negative"),
    "RLE counts wrap around": (with_counts([2**32, 7680]), "rle-counts-negative"),
    "RLE counts too few": (with_counts(COUNTS[:-1]), "rle-counts-sum"),
    "RLE counts too many": (with_counts([*COUNTS, 5]), "rle-counts-sum"),
    "RLE text no RLE": (with_text("hello, world"), "rle-counts-invalid"),
    "RLE text foreign": (with_text("äöü"), "rle-counts-invalid"),
    "RLE text base64": (with_text("eJwrySxJBQAEXQHB=="), "rle-counts-invalid"),
    "RLE text cut off": (with_text(STRING[:-1]), "rle-counts-invalid"),
    "RLE text shortened": (with_text(STRING[:6]), "rle-counts-sum"),
    "RLE text of long numbers": (with_text("o" * 20 + "0"), "rle-counts-invalid"),
    "RLE text negative": (with_text("D"), "rle-counts-negative"),
    "RLE without a pixel": (with_counts([7680]), "rle-no-pixel"),
    # keypoints
    "keypoint names text": (put("categories", 0, "keypoints", to="nose"), "keypoint-names"),
    "keypoint names numbers": (put("categories", 0, "keypoints", to=[1, 2, 3, 4, 5]), "keypoint-names"),
    "keypoint name twice": (put("categories", 0, "keypoints", to=["nose", "nose", *NAMES[2:]]), "keypoint-names-twice"),
    "keypoint names differ": (put("categories", 1, "keypoints", to=["tip"]), "keypoint-names-differ"),
    "skeleton from 0": (put("categories", 0, "skeleton", to=[[0, 1]]), "skeleton-odd"),
    "skeleton infinite": (put("categories", 0, "skeleton", to=[[INF, 1]]), "skeleton-odd"),
    "num_keypoints a list": (put("annotations", 3, "num_keypoints", to=[1, 2]), "keypoints-count"),
    "skeleton text": (put("categories", 0, "skeleton", to="ab"), "skeleton-odd"),
    "keypoints too few": (put(*KEYPOINTS, to=POSE[:-3]), "keypoints-length"),
    "keypoints as pairs": (put(*KEYPOINTS, to=[[60, 40, 2]] * 5), "keypoints-length"),
    "keypoints null": (put(*KEYPOINTS, to=None), "keypoints-length"),
    "keypoints with null": (pose(at0=None), "keypoints-no-numbers"),
    "keypoints NaN": (pose(at0=NAN), "keypoints-no-numbers"),
    "keypoints of booleans": (pose(at2=True), "keypoints-no-numbers"),
    "keypoints absent": (drop(*KEYPOINTS), "keypoints-absent"),
    "num_keypoints absent": (drop("annotations", 3, "num_keypoints"), "keypoints-absent"),
    "visibility 7": (pose(at2=7), "keypoints-visibility"),
    "visibility -1": (pose(at2=-1), "keypoints-visibility"),
    "keypoint outside": (pose(at0=400), "keypoints-outside"),
    "keypoints off the box": (put(*KEYPOINTS, to=[v - 48 if i % 3 == 0 else v for i, v in enumerate(POSE)]), "keypoints-off-box"),
    "num_keypoints 0": (put("annotations", 3, "num_keypoints", to=0), "keypoints-count"),
    "num_keypoints text": (put("annotations", 3, "num_keypoints", to="5"), "keypoints-count"),
    "no keypoint annotated": (put(*KEYPOINTS, to=[0] * 15), "keypoints-none"),
    "left and right mirrored": (many_people(mirrored), "keypoints-mirrored"),
    "eyes exchanged": (many_people(eyes_exchanged), "keypoint-pair-swapped"),
}  # fmt: skip
