#!/usr/bin/env python3
"""Write the results of the README anew from ``results/``; ``maskrcnn table … --save-records`` does it, too.

Example: ``python scripts/update_readme.py``
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "projects"))

from maskrcnn_repro.tables.report.readme import main

if __name__ == "__main__":
    sys.exit(main(ROOT))
