#!/usr/bin/env python3
"""Measure speed and memory; ``--help`` lists the benchmarks.

Example: ``python scripts/benchmark.py backend --installed PYTHON_WITH_DETECTRON2 --output backend.json``
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "projects"))

from maskrcnn_repro.commands.benchmark import main

if __name__ == "__main__":
    sys.exit(main())
