"""COCO trees of placed images: classes, ids, and which classes are left out."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from maskrcnn_repro.data.formats.contents import Contents
from maskrcnn_repro.data.formats.placing import Placed

BACKGROUND = frozenset({"_background_", "__background__", "background", "__ignore__", "_ignore_"})
"""Names of a class without objects that scripts and tools add."""
Record = dict[str, Any]


def unused_classes(contents: Contents, placed: Iterable[Placed], *, whole: bool) -> list[str]:
    """Return the classes that can be left out, as no object has them and no other file may need them.

    Args:
        contents: with all classes.
        placed: all images.
        whole: whether these are all images that train or test; else only those classes are returned that tools
            add by themselves: parents of other classes (Roboflow's class 0) and background.
    """
    used = {label for image in placed for label, _ in image.objects}
    parents = [fields.get("supercategory") for fields in contents.classes.values()]
    unused = []
    for name, fields in contents.classes.items():
        parent = name in parents and fields.get("supercategory") in (None, "", "none")
        if name not in used and (whole or parent or name.lower() in BACKGROUND):
            unused.append(name)
    return unused


def categories(contents: Contents, unused: Collection[str]) -> list[Record]:
    """Return the categories but for the unused ones, in the order of the contents, which have all classes.

    Ids are the source's where all are numbers from 1 upwards and differ; else they count from 1.
    """
    kept = {name: fields for name, fields in contents.classes.items() if name not in unused}
    given = [fields.get("id") for fields in kept.values()]
    numbers = _select_usable(given) or list(range(1, len(kept) + 1))
    return [
        {**{k: v for k, v in fields.items() if k != "id"}, "id": number, "name": name}
        for number, (name, fields) in zip(numbers, kept.items(), strict=True)
    ]


def _select_usable(numbers: list[Any], first: int = 1) -> list[int] | None:
    usable = all(type(n) is int and first <= n < 2**53 for n in numbers)
    return numbers if usable and len(set(numbers)) == len(numbers) else None


def coco_tree(placed: list[Placed], classes: list[Record], description: str) -> Record:
    """Return the top level of a COCO file; ids of images and objects are the source's where these will do.

    Args:
        placed: its images.
        classes: its categories.
        description: for ``info``.
    """
    ids = {record["name"]: record["id"] for record in classes}
    image_ids = _select_usable([image.id for image in placed], 0) or list(range(1, len(placed) + 1))
    images, annotations = [], []
    for number, image in zip(image_ids, placed, strict=True):
        width, height = image.size
        images.append(
            {"id": number, "file_name": image.file_name, "height": height, "width": width}
        )
        for label, record in image.objects:
            annotations.append({**record, "image_id": number, "category_id": ids[label]})
    # COCO's evaluation takes a match with the id 0 for a miss.
    numbers = _select_usable([a.get("id") for a in annotations]) or range(1, len(annotations) + 1)
    for number, annotation in zip(numbers, annotations, strict=True):
        annotation["id"] = number
    return {
        "info": {"description": description},
        "images": images,
        "annotations": annotations,
        "categories": classes,
    }
