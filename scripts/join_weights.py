#!/usr/bin/env python3
"""Join an RPN and a detector that share a frozen backbone into one checkpoint; see ``--help``.

Example: ``python scripts/join_weights.py rpn/model_final.pth detector/model_final.pth shared.pth``
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "projects"))

from maskrcnn_repro.checkpoint.join import main

if __name__ == "__main__":
    sys.exit(main())
