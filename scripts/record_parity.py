"""Store what an installed Detectron2 computes, for ``tests/test_parity.py`` to compare with.

Usage: ``PYTHONPATH=projects python scripts/record_parity.py`` with a Python that has Detectron2. It takes a
few minutes and rewrites ``tests/stored/parity``; the embedded subset is refused.
"""

import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    runpy.run_module("tests.helpers.parity.record", run_name="__main__", alter_sys=True)
