#!/usr/bin/env python3
"""Store an RPN's proposals for training and test sets and print their recall; see ``--help``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "projects"))

from maskrcnn_repro.engine.proposals_main import main

if __name__ == "__main__":
    sys.exit(main())
