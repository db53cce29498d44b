#!/usr/bin/env python3
"""Make each listed change of the code in a copy of the tree, and run the tests that must notice it.

The changes are those of ``tests/stored/survivors*.yaml``: ``name``; ``file``, a path in the repository; ``find``,
a text that occurs once in it; ``replace``; and ``tests``, ids as pytest takes them. The checkout is not touched.

Example: ``python scripts/check_survivors.py --only pooler-order-of-rois``. The exit status is 0 only if each
change makes at least one of its tests fail.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
LISTS = "tests/stored/survivors*.yaml"
TREE = ("projects", "compat", "configs", "tests", "pyproject.toml")
"""What the tests need of the repository."""
LIMIT = 600
"""Seconds that the tests of one change may take."""


@dataclass(frozen=True)
class Change:
    """One change of the code, and the tests that must fail with it."""

    name: str
    file: str
    find: str
    replace: str
    tests: list[str]

    def occurrences(self, root: Path) -> int:
        """Return how often ``find`` occurs in ``file``; 0 if there is no such file."""
        path = root / self.file
        return path.read_text(encoding="utf-8").count(self.find) if path.is_file() else 0


@dataclass(frozen=True)
class Outcome:
    """What pytest says of some tests."""

    status: int
    """pytest's exit status: 0 all passed, 1 some failed, another number: they did not run."""
    failed: list[str]
    """Ids without parameters, each with the number of its cases that failed."""

    @property
    def noticed(self) -> bool:
        """Whether a test ran and failed."""
        return self.status == 1 and bool(self.failed)


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Check the changes and return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", metavar="NAME", nargs="+", help="the changes to make; all by default"
    )
    args = parser.parse_args(arguments)
    changes = read_changes(root)
    names = [change.name for change in changes]
    unknown = sorted(set(args.only or ()) - set(names))
    if unknown:
        parser.error(
            f"--only {unknown[0]!r} is no change of {LISTS}; there are {', '.join(names)}."
        )
    chosen = [change for change in changes if not args.only or change.name in args.only]
    if report_misfits(root, chosen):
        return 1
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        copy_tree(root, tree)
        return check(tree, chosen)


def report_misfits(root: Path, changes: Sequence[Change]) -> bool:
    """Print the changes whose text does not occur exactly once, and tell whether there are any."""
    misfits = [change for change in changes if change.occurrences(root) != 1]
    for change in misfits:
        print(
            f"{change.name}: `find` occurs {change.occurrences(root)} times in {change.file}, not once"
        )
    return bool(misfits)


def read_changes(root: Path) -> list[Change]:
    """Return the changes of all lists, in the order of the files' names."""
    return [
        Change(**entry)
        for path in sorted(root.glob(LISTS))
        for entry in yaml.safe_load(path.read_text(encoding="utf-8"))
    ]


def copy_tree(root: Path, tree: Path) -> None:
    """Copy what the tests need, without compiled files."""
    for name in TREE:
        source = root / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, tree / name, ignore=ignored)
        elif source.is_file():
            shutil.copy2(source, tree / name)


def check(tree: Path, changes: Sequence[Change]) -> int:
    """Make each change in the copied tree, report what notices it, and return the exit status."""
    tests = sorted({test for change in changes for test in change.tests})
    unchanged = run_tests(tree, tests)
    if unchanged.status != 0:
        print(f"the tests do not pass without a change: {_in_words(unchanged)}")
        return 1
    missed = 0
    for change in tqdm(changes, unit="change"):
        outcome = run_changed(tree, change)
        missed += not outcome.noticed
        verdict = "noticed by" if outcome.noticed else "NOT NOTICED:"
        tqdm.write(f"{change.name}: {verdict} {_in_words(outcome)}")
    print(f"{len(changes) - missed} of {len(changes)} changes noticed")
    return 1 if missed else 0


def run_changed(tree: Path, change: Change) -> Outcome:
    """Return what the tests of a change say while it is made."""
    path = tree / change.file
    original = path.read_text(encoding="utf-8")
    path.write_text(original.replace(change.find, change.replace), encoding="utf-8")
    try:
        return run_tests(tree, change.tests)
    finally:
        path.write_text(original, encoding="utf-8")


def run_tests(tree: Path, tests: Sequence[str]) -> Outcome:
    """Run tests, slow ones too, with this Python."""
    # -B: a compiled file would survive a change of the same second and size.
    command = [sys.executable, "-B", "-m", "pytest", "-q", "-rfE", "--tb=no", "-m", ""]
    command += ["-p", "no:cacheprovider", *tests]
    # Subprocesses of the tests must read the copy, too, whatever is installed.
    paths = {"PYTHONPATH": str(tree / "projects"), "PYTHONDONTWRITEBYTECODE": "1"}
    environment = os.environ | paths | {"OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            command,
            cwd=tree,
            env=environment,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Outcome(-1, [])
    ids = [
        line.split()[1].partition("[")[0]
        for line in done.stdout.splitlines()
        if line.startswith(("FAILED ", "ERROR "))
    ]
    return Outcome(done.returncode, [f"{name} ({count})" for name, count in Counter(ids).items()])


def _in_words(outcome: Outcome) -> str:
    if outcome.status == -1:
        return f"the tests took over {LIMIT} s"
    if outcome.failed and outcome.status == 1:
        return ", ".join(outcome.failed)
    if outcome.status == 0:
        return "all tests pass"
    return f"pytest could not run them (exit status {outcome.status})"


if __name__ == "__main__":
    sys.exit(main())
