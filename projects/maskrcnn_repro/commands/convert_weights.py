"""``maskrcnn convert-weights``: another library's weights as ours, and back."""

from __future__ import annotations

import argparse

from maskrcnn_repro.checkpoint.convert import convert


def run(args: argparse.Namespace) -> None:
    """Convert a detector or a backbone of another library, or a converted detector back to torchvision."""
    convert(args.source, args.out, to=args.to, backbone=args.backbone, classes=args.classes)
