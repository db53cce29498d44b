"""The same evaluation as pycocotools', in compiled code: package faster-coco-eval."""

from faster_coco_eval import COCOeval_faster
from pycocotools.coco import COCO

from detectron2._absent import module_getattr


class COCOeval_opt(COCOeval_faster):
    """`COCOeval_faster` for the data and the categories of pycocotools; prints like it.

    Args:
        cocoGt: ground truth.
        cocoDt: detections, from ``cocoGt.loadRes``.
        iouType: "bbox", "segm" or "keypoints".
    """

    def __init__(self, cocoGt: COCO, cocoDt: COCO, iouType: str = "segm"):
        for data in (cocoGt, cocoDt):
            data.cat_img_map = data.catToImgs  # faster-coco-eval's name for it
        super().__init__(cocoGt, cocoDt, iouType, print_function=print)
        # It leaves out categories without objects; keep one entry per category.
        self.params.catIds = sorted(cocoGt.getCatIds())


__getattr__ = module_getattr(__name__)
