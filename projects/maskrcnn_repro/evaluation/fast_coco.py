"""COCO's evaluation by faster-coco-eval, with pycocotools' numbers."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

from faster_coco_eval import COCOeval_faster
from pycocotools.coco import COCO


class FastCOCOeval(COCOeval_faster):
    """``COCOeval`` in compiled code, for the data and the categories of pycocotools.

    Args:
        cocoGt: ground truth.
        cocoDt: detections, from ``cocoGt.loadRes``.
        iouType: ``bbox``, ``segm`` or ``keypoints``.
    """

    def __init__(self, cocoGt: COCO, cocoDt: COCO, iouType: str = "segm") -> None:  # noqa: N803
        for data in (cocoGt, cocoDt):
            data.cat_img_map = data.catToImgs
        super().__init__(cocoGt, cocoDt, iouType, print_function=print)
        # It leaves out categories without objects; pycocotools keeps them.
        self.params.catIds = sorted(cocoGt.getCatIds())

    def evaluate(self) -> None:
        """Match detections with objects; see ``COCOeval``."""
        with collected_later():
            super().evaluate()


@contextlib.contextmanager
def collected_later() -> Iterator[None]:
    """Leave the collection of cyclic garbage to the end of the block.

    With a million new objects, each collection would look through all detections and annotations anew.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
