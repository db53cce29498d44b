#!/usr/bin/env python3
"""List the paper's rows with experiment, config, stages and size; see ``--help``.

Example: ``python scripts/list_experiments.py 2c --train``
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "projects"))

from maskrcnn_repro.commands.list_experiments import main

if __name__ == "__main__":
    sys.exit(main())
