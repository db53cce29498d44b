#!/usr/bin/env python3
"""Convert Cityscapes' fine annotations to COCO JSON; a few minutes for train and val.

Example: ``python scripts/convert_cityscapes.py --root datasets/cityscapes``
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "projects"))

from maskrcnn_repro.commands.convert_cityscapes import main

if __name__ == "__main__":
    sys.exit(main())
