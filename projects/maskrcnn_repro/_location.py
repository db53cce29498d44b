"""Where this package lies, in a checkout or among installed packages."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
SEARCH_PATH = PACKAGE.parent
"""The folder to put on ``PYTHONPATH`` so that another process finds the same copy of this package."""
CHECKOUT = SEARCH_PATH.parent
"""The root of the checkout, if this is one."""
RESULTS = CHECKOUT / "results"
"""What is kept of runs with the code; there is none behind an installed package."""
