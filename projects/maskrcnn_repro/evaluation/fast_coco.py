"""COCO's evaluation by faster-coco-eval, with pycocotools' numbers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from maskrcnn_repro.utils.collection import collected_later

from detectron2.evaluation import COCOEvaluator, coco_evaluation
from faster_coco_eval import COCOeval_faster
from pycocotools.coco import COCO


class FastCOCOeval(COCOeval_faster):
    """``COCOeval`` in compiled code, for the data and the categories of pycocotools.

    Args:
        cocoGt: ground truth.
        cocoDt: detections, from ``cocoGt.loadRes``.
        iouType: ``bbox``, ``segm`` or ``keypoints``.
    """

    def __init__(self, cocoGt: COCO, cocoDt: COCO, iouType: str = "segm") -> None:
        for data in (cocoGt, cocoDt):
            data.cat_img_map = data.catToImgs
        super().__init__(cocoGt, cocoDt, iouType, print_function=print)
        # It leaves out categories without objects; pycocotools keeps them.
        self.params.catIds = sorted(cocoGt.getCatIds())

    def evaluate(self) -> None:
        """Match detections with objects; see ``COCOeval``."""
        with collected_later():
            super().evaluate()


class FastCOCOEvaluator(COCOEvaluator):
    """Detectron2's ``COCOEvaluator`` with :class:`FastCOCOeval`, on every backend.

    Args:
        *arguments: of ``COCOEvaluator``.
        **options: of ``COCOEvaluator``; ``use_fast_impl`` has no effect.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        with _compiled():
            super().__init__(*arguments, **options | {"use_fast_impl": False})

    def evaluate(self, img_ids: Sequence[int] | None = None) -> dict[str, Any]:
        """Return the metrics of each task in the main process, an empty dict in the others.

        Args:
            img_ids: evaluate only these images.
        """
        with _compiled():
            metrics: dict[str, Any] = super().evaluate(img_ids)
        return metrics


@contextlib.contextmanager
def _compiled() -> Iterator[None]:
    """Let Detectron2's evaluator take :class:`FastCOCOeval` for the official code within the block.

    Its own fast variant is compiled with Detectron2, which has it on some machines only.
    """
    official = coco_evaluation.COCOeval
    coco_evaluation.COCOeval = FastCOCOeval
    try:
        yield
    finally:
        coco_evaluation.COCOeval = official
