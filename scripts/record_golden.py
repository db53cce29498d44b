#!/usr/bin/env python3
"""Store what the reports of made-up runs look like, for ``tests/tables/test_golden.py`` to compare with.

Usage: ``python scripts/record_golden.py`` after a change of words or layout; it rewrites ``tests/stored/golden``, whose
diff shows the change. Numbers and outcomes, of these reports and of ``results/``, are stored apart: they stay as they
are unless ``--numbers`` is given, so that a change of words cannot change a number unnoticed.
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "projects"), str(ROOT)]

import maskrcnn_repro

import pytest

from tests.helpers.golden_runs import FOLDER, NUMBERS, SCENES, all_numbers


def main() -> None:
    """Parse the command line, render all scenes, write their files."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--numbers", action="store_true", help="store numbers and outcomes, too")
    args = parser.parse_args()
    if maskrcnn_repro.BACKEND.name != "embedded":
        sys.exit("The files name the embedded Detectron2; set MASKRCNN_REPRO_BACKEND=embedded.")
    for name, scene in SCENES.items():
        with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
            texts = scene(Path(folder), patch)
        shutil.rmtree(FOLDER / name, ignore_errors=True)
        for file, text in texts.items():
            path = FOLDER / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        print(f"{FOLDER / name}: {len(texts)} files")
    if args.numbers:
        text = json.dumps(all_numbers(), sort_keys=True, separators=(",", ":"))
        NUMBERS.write_text(text.replace('},"', '},\n"') + "\n", encoding="utf-8")
        print(NUMBERS)


if __name__ == "__main__":
    main()
