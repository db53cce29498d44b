"""Sharper masks for maskrcnn-repro: importing this package registers its parts."""

from boundary_plugin import head, loss, roi_op
from boundary_plugin.config import add_config

__all__ = ["add_config", "head", "loss", "roi_op"]
