#!/usr/bin/env python3
"""Print how often the intervals of reports hold the truth, measured in simulated levels, as a table in Markdown.

Example: ``python scripts/measure_coverage.py --trials 300``. Each cell: of all gaps; of those with the row whose
seeds lie furthest apart.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "projects"), str(ROOT)]

from maskrcnn_cli.parsing import count
from maskrcnn_repro.tables.report.text import grid

from tests.helpers.coverage import SHARES, SPREADS, coverage


def main() -> None:
    """Simulate all settings and print a line for each number of seeds and what dominates."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--trials",
        type=count,
        default=300,
        metavar="N",
        help="simulated levels of each cell (%(default)s)",
    )
    trials = parser.parse_args().trials
    settings = [("used", seeds, name) for seeds in (1, 2, 3, 5) for name in SHARES]
    settings += [(rule, seeds, "seeds") for rule in ("whole pool", "own") for seeds in (2, 3, 5)]
    lines = []
    for rule, seeds, name in settings:
        cells = [
            coverage(seeds, SHARES[name], spreads, trials, rule=rule)
            for spreads in SPREADS.values()
        ]
        words = [f"{every:.1f}; {widest:.1f}" for every, widest in cells]
        lines.append([rule, str(seeds), name, *words])
    print(grid(["spread by", "seeds", "what dominates", *SPREADS], lines, "pipe", left=3))


if __name__ == "__main__":
    main()
