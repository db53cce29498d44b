"""Generated data in COCO format: eight shapes on textured ground, exact masks, the same on every machine.

``mini_coco_train`` (2,000 images) and ``mini_coco_val`` (1,000) come from seed 0; other seeds give
independent sets under names such as ``mini_coco_seed1_train``.
"""

from maskrcnn_repro.data.mini_coco.registration import mini_coco_name, register_mini_coco
from maskrcnn_repro.data.mini_coco.writing import DIGESTS, SPLITS, VERSION, digest, generate

__all__ = [
    "DIGESTS",
    "SPLITS",
    "VERSION",
    "digest",
    "generate",
    "mini_coco_name",
    "register_mini_coco",
]
