#!/usr/bin/env python3
"""Train or evaluate Mask R-CNN; see ``--help``. A doorway for checkouts to ``maskrcnn train``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "projects"))

from maskrcnn_cli import run_command

if __name__ == "__main__":
    sys.exit(run_command("train", prog="train_net.py"))
