"""Panoptic segmentation: files in COCO's format, and the semantic labels that follow from them."""
