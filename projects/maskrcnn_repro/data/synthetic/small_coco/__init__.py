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
    ("train", 50): "2e70f9b2c736c879b9f039a3ec72629760bd2047fc72a76a5240af3cc52622c5",
    ("val", 50): "aeaa46d0d695cf09474f80d749263a5780e76a98f9a925f0a191953e1caace90",
    ("val", 1000): "34820d0bb2e6581602f2647492fe1c5e15aa50c6f6c1282e44b63ac60c8a05df",
}
"""(split, number of images) -> digest of that data set with seed 0, on every machine."""

__all__ = ["DIGESTS", "SMALL_COCO"]
