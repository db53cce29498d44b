"""Generated COCO-format data at the paper's proportions as far as a CPU goes: objects of 5 to 30 cells of stride 16.

A class has a shape and a texture; its typical colour is a weak cue, as in photographs. Shapes have limbs, notches,
serrations and holes below a cell; they hide each other and are cut by the border.

``small_coco_train`` (2,000 images) and ``small_coco_val`` (1,000) come from seed 0; other seeds give
independent sets under names such as ``small_coco_seed1_train``.
"""

from maskrcnn_repro.data.synthetic.dataset import GeneratedSet
from maskrcnn_repro.data.synthetic.small_coco.kinds import KINDS
from maskrcnn_repro.data.synthetic.small_coco.scenes import CATEGORY_IDS, draw_scene

SMALL_COCO = GeneratedSet(
    name="small_coco",
    version=1,
    draw=draw_scene,
    categories=tuple(
        {"id": CATEGORY_IDS[kind.name], "name": kind.name, "supercategory": kind.shape}
        for kind in KINDS
    ),
)

DIGESTS = {
    ("val", 2): "bf39f834e57a161fd53d05b89aeb4cc41a763c1eecae7201f73c7c09a8165052",
    ("train", 50): "2a7557380c4e2bd66a9d595e51a89bf772b3e4e9cd64412a4a0e3442baf7fc1e",
    ("val", 50): "dd85fbfcc20d312b9279db53d08e941455136a0c67b4a2545cf79dd2749894a5",
}
"""(split, number of images) -> digest of that data set with seed 0, on every machine."""

__all__ = ["DIGESTS", "SMALL_COCO"]
