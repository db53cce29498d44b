#!/usr/bin/env python3
"""Store what every config resolves to, for ``tests/test_config_dump.py`` to compare with.

Usage: ``python scripts/record_config_dump.py`` with the embedded Detectron2. It prints what differs from the dump
there is, and rewrites ``tests/stored/configs/resolved.json.gz`` in a few seconds. Recording is a decision: a
difference that is meant goes into ``differences.yaml`` beside it, with its reason.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "projects"), str(ROOT / "tests")]

import maskrcnn_repro

from config_dump import DUMP, compare, read_dump, resolve_all, write_dump  # type: ignore[import-not-found]


def main() -> None:
    """Compare with the stored dump, then replace it."""
    if maskrcnn_repro.BACKEND.name != "embedded":
        sys.exit("An installed Detectron2 has more keys; set MASKRCNN_REPRO_BACKEND=embedded.")
    resolved = resolve_all()
    if DUMP.is_file():
        print("\n".join(compare(read_dump(DUMP), resolved, [])) or "Nothing differs.")
    write_dump(DUMP, resolved)
    print(f"{DUMP}: {len(resolved)} configs")


if __name__ == "__main__":
    main()
