#!/usr/bin/env python3
"""Run the paper's tables; see ``--help``. A doorway for checkouts to ``maskrcnn table``.

Example: ``python scripts/run_table.py 2c --level mini``
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "projects"))

from maskrcnn_cli import run_command

if __name__ == "__main__":
    sys.exit(run_command("table", prog="run_table.py"))
