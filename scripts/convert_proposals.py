#!/usr/bin/env python3
"""Convert proposals: Detectron2's ``.pkl`` to a ``.proposals`` folder, or back.

Example: ``python scripts/convert_proposals.py coco_2017_val.pkl coco_2017_val.proposals``
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "projects"))

from maskrcnn_repro.data.proposals.convert import main

if __name__ == "__main__":
    sys.exit(main())
