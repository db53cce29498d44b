"""Generated COCO-format data: eight shapes on textured backgrounds, exact masks, the same on every machine.

A class has a shape and a typical colour, so that it is learnt in few iterations. AP is then limited by boxes
and masks, which the paper's tables compare.

``mini_coco_train`` (2,000 images) and ``mini_coco_val`` (1,000) come from seed 0; other seeds give
independent sets under names such as ``mini_coco_seed1_train``.

The texture of the ground is its class of stuff; these labels are drawn when a config asks for them.
"""

from maskrcnn_repro.data.synthetic.dataset import GeneratedSet
from maskrcnn_repro.data.synthetic.mini_coco.scenes import CATEGORY_IDS, STUFF_IDS, draw_scene

MINI_COCO = GeneratedSet(
    name="mini_coco",
    version=2,
    draw=draw_scene,
    categories=tuple(
        {"id": number, "name": name, "supercategory": "shape"}
        for name, number in CATEGORY_IDS.items()
    ),
    stuff=tuple(
        {"id": number, "name": name, "supercategory": "ground"}
        for name, number in STUFF_IDS.items()
    ),
)

DIGESTS = {
    ("train", 50): "25db80bf81343c87359a7836ad586e234fca57ef3fc45376570ee7fc81c7792c",
    ("val", 50): "b0c7f9197d1e4b339ac83a9872d89ec6d6a6042a906b1167e95aa67cd19c4249",
    ("train", 2000): "6f6e7efe8892a5893a0a6864ad299656368189c5b19577dfeb84305257ade5c0",
    ("val", 1000): "967244b5cc66341cf07d4901271bd119e217f6728eb275171834f91c781af196",
}
"""(split, number of images) -> digest of that data set with seed 0, on every machine."""

__all__ = ["DIGESTS", "MINI_COCO"]
