"""Generated data in COCO format: eight shapes on textured ground, exact masks, the same on every machine.

``mini_coco_train`` (2,000 images) and ``mini_coco_val`` (1,000) come from seed 0; other seeds give
independent sets under names such as ``mini_coco_seed1_train``.
"""

from maskrcnn_repro.data.generated.dataset import GeneratedSet
from maskrcnn_repro.data.mini_coco.scenes import CATEGORY_IDS, draw_scene

MINI_COCO = GeneratedSet(
    name="mini_coco",
    version=1,
    draw=draw_scene,
    categories=tuple(
        {"id": number, "name": name, "supercategory": "shape"}
        for name, number in CATEGORY_IDS.items()
    ),
)

DIGESTS = {
    ("train", 50): "44cf541f44c88a3e97062f984cb11b7d6ce13b8b4827c48ae6b60f5bc1ced158",
    ("val", 50): "cbf66168bf405590d439c3fd1d2e4538aedcf3f84d045a531b18d512f87ddacf",
    ("train", 2000): "f42a4972b5db85901d3eb05a10599280de31f5ac2651567dd45d5de464ba2dfe",
    ("val", 1000): "babe39255a77752ed6d7fee35d136286b585db5249db916a0f10e07db85a45bd",
}
"""(split, number of images) of seed 0 to its digest: the same on every machine."""

__all__ = ["DIGESTS", "MINI_COCO"]
