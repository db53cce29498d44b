"""``maskrcnn train`` and ``maskrcnn eval``."""

from __future__ import annotations

import argparse

from maskrcnn_repro.engine.main import start


def run(args: argparse.Namespace) -> None:
    """Train or evaluate the model of a config."""
    start(args)
