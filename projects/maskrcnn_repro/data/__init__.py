"""Data sets: generated ones, the user's own, and checks before training. Importing it registers them."""

from maskrcnn_repro.data.mini_coco import register_mini_coco

for _seed in (0, 1):
    register_mini_coco(_seed)

__all__ = ["register_mini_coco"]
