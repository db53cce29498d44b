"""Sharper masks for maskrcnn-repro: importing this package registers its parts."""

from boundary_plugin import head, loss, roi_op

__all__ = ["head", "loss", "roi_op"]
