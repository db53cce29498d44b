"""Generated data in COCO format: eight shapes on textured ground, exact masks, the same on every machine.

A class is told by its shape, and has a typical colour as many things in photographs do: classes are learnt
in few iterations. What limits AP then is boxes and masks, which is what the paper's tables compare.

``mini_coco_train`` (2,000 images) and ``mini_coco_val`` (1,000) come from seed 0; other seeds give
independent sets under names such as ``mini_coco_seed1_train``.
"""

from maskrcnn_repro.data.generated.dataset import GeneratedSet
from maskrcnn_repro.data.mini_coco.scenes import CATEGORY_IDS, draw_scene

MINI_COCO = GeneratedSet(
    name="mini_coco",
    version=2,
    draw=draw_scene,
    categories=tuple(
        {"id": number, "name": name, "supercategory": "shape"}
        for name, number in CATEGORY_IDS.items()
    ),
)

DIGESTS = {
    ("train", 50): "061092a6fbd1f290b67a18c5f857105f3e82f6b4601d230b57a3e969646362ec",
    ("val", 50): "ad4f41eff3bfc3c5d07b4540b0ec9b1163ab4d3c51b40ebd68d3ff4367217d3b",
    ("train", 2000): "e06ef91bcaa3dae8a85c7576b12202a0c1630131f9d0368af558f1ae8d0cc806",
    ("val", 1000): "cb219563c5d77db1c2c2bbbb56a518c440841d92b864deade3f168a6db3a4212",
}
"""(split, number of images) of seed 0 to its digest: the same on every machine."""

__all__ = ["DIGESTS", "MINI_COCO"]
