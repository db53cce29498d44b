"""Four images that a model can learn by heart only with right targets.

No shape fills half of its box, and none is its own transpose or mirror image: a filled box, or a mask with
axes exchanged, is no match at IoU 0.5. Keypoints lie in one of two mirrored poses.
"""

import json

from maskrcnn_repro.data.keypoints import COCO_KEYPOINTS

import cv2
import numpy as np

SIDE = 128
NAME = "four"
# Corners as fractions of the box: a slanted triangle, an L, a diagonal band.
SHAPES = (
    ((0, 0), (1, 0.35), (0.35, 1)),
    ((0, 0), (0.25, 0), (0.25, 0.75), (1, 0.75), (1, 1), (0, 1)),
    ((0, 0), (0.2, 0), (1, 0.7), (1, 1), (0.8, 1), (0, 0.3)),
)
COLORS = ((220, 60, 40), (40, 200, 240), (90, 230, 60))
PER_IMAGE = 2


def write_four(folder, *, people=False, categories=80):
    """Write images and ``instances.json`` below ``folder``; return the entry for DATASETS.CUSTOM.

    Args:
        folder: created.
        people: objects are persons with 17 keypoints, the only category.
        categories: how many the JSON lists otherwise; three of them have objects.
    """
    random = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    pose = random.uniform(0.05, 0.95, (len(COCO_KEYPOINTS), 2))
    images, annotations = [], []
    for number in range(1, 5):
        image = random.integers(90, 130, (SIDE, SIDE, 3)).astype(np.uint8)
        for place in range(PER_IMAGE):
            kind = (number + place) % len(SHAPES)
            size = int(random.integers(40, 56))
            corner = np.array([place * 64 + random.integers(2, 62 - size), random.integers(2, 70)])
            annotation = _object(SHAPES[kind], corner, size)
            annotation |= {"id": len(annotations) + 1, "image_id": number, "category_id": kind + 1}
            if people:
                annotation |= {
                    "category_id": 1,
                    **_keypoints(pose, corner, size, mirrored=kind == 0),
                }
            annotations.append(annotation)
            corners = np.array(annotation["segmentation"]).reshape(-1, 2).round().astype(np.int32)
            cv2.fillPoly(image, [corners], COLORS[kind])
        cv2.imwrite(str(folder / "images" / f"{number}.png"), image)
        images.append({"id": number, "file_name": f"{number}.png", "height": SIDE, "width": SIDE})
    names = ["person"] if people else [f"class {i}" for i in range(1, categories + 1)]
    classes = [{"id": i, "name": name} for i, name in enumerate(names, start=1)]
    if people:
        classes[0] |= {"keypoints": list(COCO_KEYPOINTS), "skeleton": []}
    content = {"images": images, "annotations": annotations, "categories": classes}
    (folder / "instances.json").write_text(json.dumps(content))
    return NAME, str(folder / "instances.json"), str(folder / "images")


def _object(shape, corner, size):
    points = np.array(shape) * size + corner
    return {
        "bbox": [*map(float, corner), float(size), float(size)],
        "segmentation": [points.ravel().tolist()],
        "area": float(cv2.contourArea(points.astype(np.float32))),
        "iscrowd": 0,
    }


def _keypoints(pose, corner, size, *, mirrored):
    points = np.where([mirrored, False], 1 - pose, pose) * size + corner
    visible = np.full((len(pose), 1), 2.0)
    visible[3] = 0  # one that is not labelled
    flat = np.concatenate([points * (visible > 0), visible], axis=1).ravel()
    return {"keypoints": flat.tolist(), "num_keypoints": len(pose) - 1}
