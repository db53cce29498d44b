#!/usr/bin/env python3
"""Run one experiment with all its stages; see ``--help``.

Example: ``python scripts/run_experiment.py r50-c4-roipool --level mini``
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "projects"))

from maskrcnn_repro.commands.tables import main_experiment

if __name__ == "__main__":
    sys.exit(main_experiment())
