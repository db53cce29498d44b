"""Proposals of the tiny data set, as Detectron2 stores them."""

import pickle

from maskrcnn_repro.config import load_config
from maskrcnn_repro.data import prepare_data

import numpy as np

IDS = [10, 11, 12, 13]
"""Images of ``write_tiny_coco``."""

# Options of the tiny model that make it an RPN alone, or a detector on stored proposals.
RPN = ["MODEL.META_ARCHITECTURE", "ProposalNetwork", "MODEL.MASK_ON", "False"]
STORED = ["MODEL.LOAD_PROPOSALS", "True", "MODEL.PROPOSAL_GENERATOR.NAME", "PrecomputedProposals"]


def on_stored(*stores):
    """Return the options of a detector on the given stores, the same for training and test."""
    names = repr(tuple(map(str, stores)))
    return [*STORED, "DATASETS.PROPOSAL_FILES_TRAIN", names, "DATASETS.PROPOSAL_FILES_TEST", names]


def random_proposals(images=4, count=30):
    """Return (boxes, logits) per image; some boxes reach out of the image or lie outside, logits tie."""
    random = np.random.default_rng(3)
    result = []
    for _ in range(images):
        corners = random.uniform(-20, 70, (count, 2))
        sizes = random.uniform(1, 50, (count, 2))
        boxes = np.concatenate([corners, corners + sizes], axis=1).astype(np.float32)
        result.append((boxes, random.integers(-9, 9, count).astype(np.float32)))
    return result


def write_pickle(file, proposals, ids=IDS, protocol=4, **extra):
    """Write Detectron2's file; ``extra`` keys replace or join its own."""
    content = {
        "ids": list(ids),
        "boxes": [boxes for boxes, _ in proposals],
        "objectness_logits": [logits for _, logits in proposals],
        "bbox_mode": 0,
        **extra,
    }
    content = {key: value for key, value in content.items() if value is not None}
    file.write_bytes(pickle.dumps(content, protocol=protocol))
    return file


def tiny_config(data, *opts, files=None):
    """Return a config on the tiny data set ``tiny``, on stored proposals where ``files`` are given."""
    own = ["SEED", "3", "DATALOADER.NUM_WORKERS", "0", "MODEL.ROI_HEADS.NUM_CLASSES", "2"]
    cfg = load_config("mini/mask_rcnn_fpn.yaml", [*own, *opts])
    cfg.DATASETS.CUSTOM = [("tiny", *map(str, data))]
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = ("tiny",)
    if files is not None:
        cfg.MODEL.LOAD_PROPOSALS = True
        cfg.MODEL.PROPOSAL_GENERATOR.NAME = "PrecomputedProposals"
        cfg.DATASETS.PROPOSAL_FILES_TRAIN = cfg.DATASETS.PROPOSAL_FILES_TEST = tuple(
            map(str, files)
        )
    prepare_data(cfg)
    return cfg
