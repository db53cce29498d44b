#!/usr/bin/env python3
"""Print how often the intervals of reports hold the truth, and Holm's correction errs, in simulated levels, as tables in Markdown.

Example: ``python scripts/measure_coverage.py --trials 300``. Each cell of the first two: of all gaps; of those with the row
whose seeds lie furthest apart. The third: levels in which any gap is taken for true, though none is.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "projects"), str(ROOT)]

from maskrcnn_cli.parsing import count
from maskrcnn_repro.tables.report.text import grid

from tests.helpers.coverage import FEW, SHARES, SPREADS, coverage, family_error


def main() -> None:
    """Simulate all settings and print three tables."""
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
        lines.append([rule, str(seeds), name, *map(_cell, cells)])
    print(grid(["spread by", "seeds", "what dominates", *SPREADS], lines, "pipe", left=3))
    few = [
        [str(seeds), *(_cell(coverage(seeds, SHARES["seeds"], FEW[n], trials)) for n in FEW)]
        for seeds in (2, 3)
    ]
    print("\n" + grid(["seeds", *(f"{n} trainings" for n in FEW)], few, "pipe"))
    wrong = [
        [
            rule,
            str(seeds),
            *(
                f"{family_error(seeds, SHARES['seeds'], spreads, trials, rule=rule):.1f}"
                for spreads in SPREADS.values()
            ),
        ]
        for rule in ("used", "own")
        for seeds in (2, 3)
    ]
    print("\n" + grid(["spread by", "seeds", *SPREADS], wrong, "pipe", left=2))


def _cell(shares: tuple[float, float]) -> str:
    return "; ".join(f"{share:.1f}" for share in shares)


if __name__ == "__main__":
    main()
