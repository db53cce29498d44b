"""RoI operations of our own."""

from maskrcnn_repro.roi_ops.roi_align import BagRoIAlign, bag_roi_align

__all__ = ["BagRoIAlign", "bag_roi_align"]
