"""A COCO file and results of a few rectangles, as boxes and masks."""

import json

import numpy as np
from pycocotools import mask as coco_mask

SIDE = 100


def rectangle(box):
    """Return the mask of an integral (left, top, width, height) box."""
    x, y, w, h = box
    mask = np.zeros((SIDE, SIDE), np.uint8, order="F")
    mask[y : y + h, x : x + w] = 1
    rle = coco_mask.encode(mask)
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def write_pair(folder, objects, detections, *, images=1, classes=("disc", "bar", "star")):
    """Write ``truth.json`` and ``results.json`` and return their paths.

    Args:
        folder: for the files.
        objects: (image, class, box) each, with a dict of other fields as a fourth.
        detections: (image, class, box, score) each.
        images: how many, with the ids 1, 2 …
        classes: names, with the ids 1, 2 …
    """
    annotations = [
        {
            "id": number,
            "image_id": image + 1,
            "category_id": category + 1,
            "bbox": list(box),
            "area": float(box[2] * box[3]),
            "segmentation": rectangle(box),
            "iscrowd": 0,
            **(more[0] if more else {}),
        }
        for number, (image, category, box, *more) in enumerate(objects, start=1)
    ]
    tree = {
        "images": [
            {"id": i + 1, "file_name": f"{i}.png", "width": SIDE, "height": SIDE}
            for i in range(images)
        ],
        "annotations": annotations,
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(classes)],
    }
    results = [
        {
            "image_id": image + 1,
            "category_id": category + 1,
            "bbox": list(box),
            "score": score,
            "segmentation": rectangle(box),
        }
        for image, category, box, score in detections
    ]
    paths = folder / "truth.json", folder / "results.json"
    for path, content in zip(paths, (tree, results), strict=True):
        path.write_text(json.dumps(content))
    return paths


def random_pair(folder, *, images=12, seed=0):
    """Write a pair with crowds, ignored objects, equal scores and every kind of error; see :func:`write_pair`."""
    random = np.random.default_rng(seed)

    def box():
        x, y = random.integers(0, 60, 2)
        w, h = random.integers(4, 40, 2)
        return [int(v) for v in (x, y, w, h)]

    objects, detections = [], []
    for image in range(images):
        for _ in range(random.integers(0, 8)):
            place, category = box(), int(random.integers(3))
            crowd = {"iscrowd": int(random.random() < 0.15)}
            objects.append((image, category, place, crowd))
            for _ in range(random.integers(0, 4)):
                moved = [max(0, v + int(random.integers(-3, 4))) for v in place[:2]] + place[2:]
                other = category if random.random() < 0.7 else int(random.integers(3))
                detections.append((image, other, moved, round(float(random.random()), 1)))
        detections += [
            (image, int(random.integers(3)), box(), round(float(random.random()), 1))
            for _ in range(3)
        ]
    return write_pair(folder, objects, detections, images=images)
