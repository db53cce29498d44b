"""``python -m maskrcnn_cli``: the command without installation, with ``projects`` on ``PYTHONPATH``."""

import sys

from maskrcnn_cli import main

if __name__ == "__main__":
    sys.exit(main())
