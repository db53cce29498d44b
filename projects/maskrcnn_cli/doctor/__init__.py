"""The subcommand ``doctor``: what of this machine would stop or slow Mask R-CNN, each with its remedy.

It imports the standard library alone and asks PyTorch in processes of their own: it answers too where PyTorch
cannot be imported, hangs or crashes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from maskrcnn_cli.doctor.finding import LEVELS, Finding
from maskrcnn_cli.doctor.libraries import library_findings
from maskrcnn_cli.doctor.machine import machine_findings
from maskrcnn_cli.location import version
from maskrcnn_cli.output import while_read
from maskrcnn_cli.parsing import Command, Parser

EXAMPLES = """
  All of it, a line each, with what to do about warnings and errors:
    %(prog)s

  For a machine that nobody looks at: status 1 after an error, and with --strict also after a warning:
    %(prog)s --json --strict

  The folders that a run will use:
    %(prog)s --data datasets --output output
"""
MARKS = {"fine": "ok     ", "note": "note   ", "warning": "WARNING", "error": "ERROR  "}


def add_options(parser: Parser) -> None:
    """Add the options of ``maskrcnn doctor``."""
    parser.add_argument("--json", action="store_true", help="print JSON in place of lines")
    parser.add_argument("--strict", action="store_true", help="status 1 after a warning too")
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="folder with coco/ and cityscapes/ (default: DETECTRON2_DATASETS, or datasets)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("output"),
        metavar="DIR",
        help="where runs go (%(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Print the findings; return 1 if there is an error, or with ``--strict`` a warning, else 0."""
    findings = [*library_findings(), *machine_findings(args.data, args.output)]
    text = as_json(findings) if args.json else as_lines(findings)
    while_read(lambda: print(text))
    worst = max(LEVELS.index(finding.level) for finding in findings)
    return int(worst >= LEVELS.index("warning" if args.strict else "error"))


def as_json(findings: list[Finding]) -> str:
    """Return the findings and their counts as a JSON object."""
    report = {
        "version": version(),
        "counts": {level: _count(findings, level) for level in LEVELS},
        "findings": [finding.__dict__ for finding in findings],
    }
    return json.dumps(report, indent=1)


def as_lines(findings: list[Finding]) -> str:
    """Return a line for each finding, its remedy below it, and a last line that counts them."""
    lines = [f"maskrcnn {version()}"]
    for finding in findings:
        lines.append(f"{MARKS[finding.level]}  {finding.subject:<15}{finding.says}")
        if finding.remedy:
            lines.append(f"{'':<24}{finding.remedy}")
    errors, warnings = (_count(findings, level) for level in ("error", "warning"))
    lines.append(
        f"{errors} errors, {warnings} warnings"
        + ("." if errors else ": this machine can train, evaluate and predict.")
    )
    return "\n".join(lines)


def _count(findings: list[Finding], level: str) -> int:
    return sum(finding.level == level for finding in findings)


DOCTOR = Command(
    name="doctor",
    summary="Check this machine: libraries, GPU, backend, folders, disk and memory.",
    example="--json",
    runs="maskrcnn_cli.doctor:run",
    add_options=add_options,
    examples=EXAMPLES,
)
