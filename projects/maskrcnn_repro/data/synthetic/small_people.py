"""The figures of ``mini_people`` at the size of ``small_coco``: 5 to 25 cells of stride 16, some cut, some in a throng.

``small_people_train`` (2,000 images) and ``small_people_val`` (1,000) come from seed 0; other seeds give
independent sets under names such as ``small_people_seed1_train``.
"""

from __future__ import annotations

from dataclasses import replace

from maskrcnn_repro.data.synthetic.dataset import GeneratedSet
from maskrcnn_repro.data.synthetic.draws import Draws, lengths
from maskrcnn_repro.data.synthetic.mini_people import CATEGORIES, METADATA
from maskrcnn_repro.data.synthetic.mini_people.scenes import Proportions, Scene, draw_scene
from maskrcnn_repro.data.synthetic.small_coco.grounds import expose

import numpy as np

SMALL = Proportions(
    sides=range(384, 513, 32),
    heights=lengths(80, 400),
    unlabelled=range(40, 65),
    counts=(1, 1, 2, 2, 3, 3, 4, 5, 6, 8),
    crowded=range(32, 49),
    spread=80,
    margin=90,
)


def draw_photograph(draws: Draws) -> Scene:
    """Draw an image with one to eight figures, uneven light, blur and noise."""
    scene = draw_scene(draws, SMALL)
    return replace(scene, image=expose(draws, scene.image.astype(np.int16)))


SMALL_PEOPLE = GeneratedSet(
    name="small_people",
    version=1,
    draw=draw_photograph,
    has_surfaces=True,
    categories=CATEGORIES,
    metadata=METADATA,
)

DIGESTS = {
    ("val", 2): "fd593c37d9ce489a2eb5521bf3a5a8bdcdda90e57f753addddea148af80f794c",
    ("train", 50): "8ff6566b44145cdd384e6da304101175d395675246b282ea38691c8c48b58af8",
    ("val", 50): "79d1ad36cf7cf6e8ac7cb4da9cde85b8e096bd22c9978f65b015a8a862a5daf2",
}
"""(split, number of images) -> digest of that data set with seed 0, on every machine."""
