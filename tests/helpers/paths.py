"""Where the checkout and the stored files of the tests lie."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STORED = ROOT / "tests" / "stored"
