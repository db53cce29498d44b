"""A COCO data set of a few flat shapes, and a model that trains on it in seconds."""

import json

import cv2
import numpy as np
from pycocotools import mask as coco_mask

CLASSES = ("disc", "bar")
SIDE = 64

# Numbers small enough for two iterations in about a second on one thread.
TINY_MODEL = [
    # Of the size of the objects: an RPN of few iterations finds some.
    "MODEL.ANCHOR_GENERATOR.SIZES",
    "[[16], [32], [64]]",
    "DATALOADER.NUM_WORKERS",
    "0",
    "INPUT.MIN_SIZE_TRAIN",
    "(64,)",
    "INPUT.MIN_SIZE_TEST",
    "64",
    "MODEL.DEVICE",
    "cpu",
    "MODEL.NARROW_RESNET.CHANNELS",
    "[8,12,16,24]",
    "MODEL.FPN.OUT_CHANNELS",
    "16",
    "MODEL.ROI_BOX_HEAD.FC_DIM",
    "32",
    "MODEL.ROI_MASK_HEAD.CONV_DIM",
    "16",
    "MODEL.ROI_MASK_HEAD.NUM_CONV",
    "1",
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE",
    "8",
    "MODEL.ROI_HEADS.NUM_CLASSES",
    "2",
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST",
    "0.0",
    "MODEL.RPN.POST_NMS_TOPK_TRAIN",
    "20",
    "MODEL.RPN.POST_NMS_TOPK_TEST",
    "20",
    "SOLVER.IMS_PER_BATCH",
    "2",
    "SOLVER.MAX_ITER",
    "2",
    "SOLVER.CHECKPOINT_PERIOD",
    "1",
    "SEED",
    "7",
    "TEST.DETECTIONS_PER_IMAGE",
    "5",
    "TEST.SHEET_IMAGES",
    "2",
    "TEST.SHEET_SCORE_THRESH",
    "0.0",
]


def write_tiny_coco(folder, images=4):
    """Write images and ``instances.json`` into ``folder``; returns the JSON and the image folder."""
    random = np.random.default_rng(0)
    pictures = folder / "images"
    pictures.mkdir(parents=True)
    data = {
        "images": [],
        "annotations": [],
        "categories": [{"id": 3 * i + 1, "name": name} for i, name in enumerate(CLASSES)],
    }
    for number in range(images):
        image = np.full((SIDE, SIDE, 3), 60, np.uint8)
        data["images"].append(
            {"id": number + 10, "file_name": f"{number}.png", "height": SIDE, "width": SIDE}
        )
        for kind in range(len(CLASSES)):
            mask = np.zeros((SIDE, SIDE), np.uint8)
            x, y = (int(v) for v in random.integers(16, 48, 2))
            if kind == 0:
                cv2.circle(mask, (x, y), 12, 1, -1)
            else:
                cv2.rectangle(mask, (x - 15, y - 5), (x + 14, y + 4), 1, -1)
            image[mask > 0] = (220, 40, 40) if kind == 0 else (40, 200, 240)
            rle = coco_mask.encode(np.asfortranarray(mask))
            data["annotations"].append(
                {
                    "id": len(data["annotations"]) + 1,
                    "image_id": number + 10,
                    "category_id": 3 * kind + 1,
                    "bbox": coco_mask.toBbox(rle).tolist(),
                    "area": float(coco_mask.area(rle)),
                    "iscrowd": 0,
                    "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
                }
            )
        cv2.imwrite(str(pictures / f"{number}.png"), image)
    json_file = folder / "instances.json"
    json_file.write_text(json.dumps(data))
    return json_file, pictures


def command_line(data, output, *options, opts=()):
    """Return the arguments that train or evaluate the tiny model on the data of ``write_tiny_coco``."""
    json_file, pictures = data
    return [
        "--config-file",
        "configs/mini/mask_rcnn_fpn.yaml",
        *("--dataset", "tiny", str(json_file), str(pictures)),
        *options,
        *("DATASETS.TRAIN", "('tiny',)", "DATASETS.TEST", "('tiny',)"),
        *("OUTPUT_DIR", str(output)),
        *TINY_MODEL,
        *opts,
    ]
