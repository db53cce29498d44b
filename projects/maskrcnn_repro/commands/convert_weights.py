"""``maskrcnn convert-weights``: another library's backbone as weights to start from."""

from __future__ import annotations

import argparse

from maskrcnn_repro.checkpoint.convert import convert


def run(args: argparse.Namespace) -> None:
    """Convert a backbone of torchvision, timm, MMDetection or Caffe2 Detectron."""
    convert(args.source, args.out)
