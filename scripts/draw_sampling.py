#!/usr/bin/env python3
"""Draw where the RoI operations read the feature map; see ``--help``.

Example: ``python scripts/draw_sampling.py docs/roi_sampling.svg``
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "projects"))

from maskrcnn_repro.commands.draw_sampling import main

if __name__ == "__main__":
    sys.exit(main())
