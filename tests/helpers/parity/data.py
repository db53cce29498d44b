"""The data mapper and COCO evaluation on scenes written to disk."""

import json
import random

from maskrcnn_repro.benchmark import models, scenes

import detectron2.data.transforms as T
import numpy as np
import pycocotools.mask
import torch
from detectron2.data import DatasetCatalog, DatasetMapper, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.evaluation import COCOEvaluator
from detectron2.structures import BitMasks, Boxes, BoxMode, Instances
from PIL import Image

from tests.helpers.parity.store import rounded

HEIGHT, WIDTH = 60, 80
# Left and right change places at a horizontal flip; the nose stays.
FLIPPED_KEYPOINTS = [0, *(k + 1 if k % 2 else k - 1 for k in range(1, scenes.NUM_KEYPOINTS))]


def mapped(folder):
    """Return (annotations, images) of the mapper: dicts of plain numbers and of uint8 arrays."""
    record = _record(folder)
    augmentations = {
        "flip": [T.Resize((45, 64)), T.RandomFlip(prob=1.0)],
        "crop": [T.CropTransform(7, 5, 50, 40), T.ResizeShortestEdge([56], 90, "choice")],
        "vertical": [T.RandomFlip(prob=1.0, horizontal=False, vertical=True)],
    }
    outputs = {
        f"{name}, {mask_format}": _fixed_mapper(augmentations[name], mask_format)(
            record if mask_format == "bitmask" else _without_rle(record)
        )
        for name in augmentations
        for mask_format in ("polygon", "bitmask")
    }
    for seed in range(4):
        # The three generators that augmentations may draw from.
        np.random.seed(seed)
        random.seed(seed)
        torch.manual_seed(seed)
        outputs[f"random {seed}"] = _random_mapper()(_without_rle(record))
    test = _random_mapper(is_train=False)(record)
    assert "instances" not in test
    # The format of the masks does not touch the pixels.
    images = {
        name: output["image"].numpy()
        for name, output in {**outputs, "test": test}.items()
        if not name.endswith("bitmask")
    }
    return {name: _plain(output["instances"]) for name, output in outputs.items()}, images


def average_precision(folder):
    """Return the results of COCOEvaluator for made-up predictions, task by task."""
    kept = _mask_results(folder)
    return {**kept, "person": _keypoint_results(folder)}


def _fixed_mapper(augmentations, mask_format):
    return DatasetMapper(
        True,
        augmentations=augmentations,
        image_format="BGR",
        use_instance_mask=True,
        use_keypoint=True,
        instance_mask_format=mask_format,
        keypoint_hflip_indices=np.array(FLIPPED_KEYPOINTS),
    )


def _random_mapper(is_train=True):
    cfg = models.config(
        "R50-FPN",
        {
            "INPUT.MIN_SIZE_TRAIN": (40, 52, 64),
            "INPUT.MAX_SIZE_TRAIN": 90,
            "INPUT.MIN_SIZE_TEST": 50,
            "INPUT.CROP.ENABLED": True,
        },
    )
    return DatasetMapper(cfg, is_train)


def _record(folder):
    """Write one image and return its dataset dict: polygons, an RLE, a crowd, keypoints."""
    scene = scenes.scene(3, HEIGHT, WIDTH, objects=4)
    path = folder / "scene.png"
    Image.fromarray(scene.image.transpose(1, 2, 0)[:, :, ::-1].copy()).save(path)
    annotations = [
        {
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "bbox_mode": BoxMode.XYWH_ABS,
            "category_id": number,
            "segmentation": [polygon],
            "keypoints": points.ravel().tolist(),
            "iscrowd": 0,
        }
        for number, ((x1, y1, x2, y2), polygon, points) in enumerate(
            zip(scene.boxes.tolist(), scene.polygons, scene.keypoints, strict=True)
        )
    ]
    for number in (1, 2):
        annotations[number]["segmentation"] = _rle(scene.polygons[number])
    annotations[2]["iscrowd"] = 1
    return {
        "file_name": str(path),
        "height": HEIGHT,
        "width": WIDTH,
        "image_id": 7,
        "annotations": annotations,
    }


def _rle(polygon):
    mask = scenes.decode([polygon], HEIGHT, WIDTH)
    return pycocotools.mask.encode(np.asfortranarray(mask.astype(np.uint8)))


def _without_rle(record):
    """Drop the RLE that is no crowd: polygon masks cannot hold it."""
    kept = [annotation for number, annotation in enumerate(record["annotations"]) if number != 1]
    return {**record, "annotations": kept}


def _plain(instances):
    masks = instances.gt_masks if instances.has("gt_masks") else None
    plain = {
        "size": list(instances.image_size),
        "boxes": rounded(instances.gt_boxes.tensor, 4),
        "classes": instances.gt_classes.tolist(),
    }
    if isinstance(masks, BitMasks):
        plain["bitmasks"] = [
            pycocotools.mask.encode(np.asfortranarray(mask.numpy().astype(np.uint8)))[
                "counts"
            ].decode()
            for mask in masks.tensor
        ]
    elif masks is not None:
        plain["polygons"] = [[rounded(part, 4) for part in parts] for parts in masks.polygons]
    if instances.has("gt_keypoints"):
        plain["keypoints"] = rounded(instances.gt_keypoints.tensor, 4)
    return plain


def _mask_results(folder):
    all_scenes = [scenes.scene(10 + k, HEIGHT, WIDTH, objects=6) for k in range(6)]
    names = ["ring", "star", "bar"]
    annotations = [
        _annotation(scene, image, number, category=1 + 2 * ((image + number) % 3))
        for image, scene in enumerate(all_scenes)
        for number in range(len(scene.boxes))
    ]
    categories = [{"id": 1 + 2 * k, "name": name} for k, name in enumerate(names)]
    outputs = [_shifted(scene, image) for image, scene in enumerate(all_scenes)]
    return _evaluate(folder, "parity_masks", categories, annotations, outputs, ("bbox", "segm"))


def _keypoint_results(folder):
    all_scenes = [scenes.scene(30 + k, 3 * HEIGHT, 3 * WIDTH, objects=5) for k in range(6)]
    annotations = []
    for image, scene in enumerate(all_scenes):
        for number, points in enumerate(scene.keypoints):
            annotations.append(
                _annotation(scene, image, number, category=1)
                | {
                    "keypoints": points.ravel().tolist(),
                    "num_keypoints": int((points[:, 2] > 0).sum()),
                }
            )
    categories = [{"id": 1, "name": "person"}]
    outputs = [_shifted(scene, image, one_class=True) for image, scene in enumerate(all_scenes)]
    return _evaluate(
        folder, "parity_keypoints", categories, annotations, outputs, ("bbox", "keypoints")
    )


def _annotation(scene, image, number, category):
    x1, y1, x2, y2 = scene.boxes[number].tolist()
    mask = scenes.decode([scene.polygons[number]], *scene.size)
    return {
        "id": 100 * image + number + 1,
        "image_id": image,
        "category_id": category,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": int(mask.sum()),
        "iscrowd": int(number == 5),
        "segmentation": [scene.polygons[number]],
    }


def _shifted(scene, image, one_class=False):
    """Return predictions: the truth moved by a few pixels, some classes wrong, one false alarm."""
    count = len(scene.boxes)
    numbers = np.arange(count + 1)
    source = np.vstack([scene.boxes, scene.boxes[:1] / 2])
    moves = np.stack([(numbers * 5 + image) % 7 - 3, (numbers * 3 + image) % 5 - 2], axis=1) / 2
    height, width = scene.size
    boxes = np.clip(source + np.tile(moves, 2), 0, [width, height, width, height])
    predictions = Instances((height, width))
    predictions.pred_boxes = Boxes(torch.from_numpy(boxes).float())
    predictions.scores = torch.from_numpy((numbers * 37 + image * 11) % 97 / 97).float()
    wrong = (numbers + image) % 4 == 0
    predictions.pred_classes = torch.from_numpy(
        numbers * 0 if one_class else (image + numbers + wrong) % 3
    )
    octagons = [_moved(scene.polygons[k % count], moves[k]) for k in numbers.tolist()]
    predictions.pred_masks = torch.stack(
        [torch.from_numpy(scenes.decode([octagon], height, width)) for octagon in octagons]
    )
    if one_class:
        points = scene.keypoints[numbers % count].copy()
        points[..., :2] += moves[:, None] * 2
        predictions.pred_keypoints = torch.from_numpy(points).float()
        predictions.remove("pred_masks")
    return predictions


def _moved(polygon, move):
    return (np.array(polygon).reshape(-1, 2) + move).clip(0).ravel().tolist()


def _evaluate(folder, name, categories, annotations, outputs, tasks):
    sizes = [output.image_size for output in outputs]
    images = [
        {"id": k, "height": height, "width": width, "file_name": f"{k}.png"}
        for k, (height, width) in enumerate(sizes)
    ]
    path = folder / f"{name}.json"
    path.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    register_coco_instances(name, {}, str(path), str(folder))
    try:
        inputs = DatasetCatalog.get(name)
        evaluator = COCOEvaluator(name, tasks=tasks, distributed=False, output_dir=str(folder))
        evaluator.reset()
        for image, output in zip(inputs, outputs, strict=True):
            evaluator.process([image], [{"instances": output}])
        results = evaluator.evaluate()
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    return {
        task: {key: round(float(value), 9) for key, value in results[task].items()}
        for task in tasks
    }
