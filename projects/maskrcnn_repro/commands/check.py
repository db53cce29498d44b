"""``maskrcnn check``: the defects of a COCO file and its images, a mended copy, and two forms of report."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskrcnn_repro.config import load_config
from maskrcnn_repro.data.check.findings import Findings
from maskrcnn_repro.data.check.fix import fixed
from maskrcnn_repro.data.check.judge import by_severity
from maskrcnn_repro.data.check.pairs import check_pair
from maskrcnn_repro.data.check.pixels import check_pixels, check_shared_pixels
from maskrcnn_repro.data.check.scan import Scan, scan_coco
from maskrcnn_repro.data.check.sizes import check_sizes
from maskrcnn_repro.data.check.table import SEVERITIES, USES
from maskrcnn_repro.data.image_file import ImageFiles
from maskrcnn_repro.data.loader import image_files
from maskrcnn_repro.data.sets import features_of
from maskrcnn_repro.errors import DataError
from maskrcnn_repro.utils.files import refuse_inputs, write_text
from maskrcnn_repro.visualization.findings import Finding, write_page

from detectron2.config import CfgNode


@dataclass(frozen=True)
class Checked:
    """A file, what it is used for, and what was found in it."""

    scan: Scan
    uses: tuple[str, ...]
    findings: list[Findings]

    def rows(self, features: frozenset[str]) -> Iterator[Finding]:
        """Yield the findings, the gravest first."""
        for severity in SEVERITIES:
            for findings in self.findings:
                for row in by_severity(findings, self.uses, features)[severity]:
                    yield Finding(row, severity, findings.says(row.code), findings.places[row.code])


def run(args: argparse.Namespace) -> None:
    """Print all findings and write what was asked for.

    Raises:
        DataError: there is an error in the data (and no mended copy was asked for), or none can be mended.
        OutputError: a file to write is one of those that are checked.
    """
    cfg = load_config(args.config_file)
    for out in filter(None, (args.fix, args.json, args.html)):
        refuse_inputs(out, [args.file, *(args.val or ())])
    checked = _checked(args, cfg)
    features = features_of(cfg)
    for item in checked:
        print(_listing(item, features), flush=True)
    if args.json is not None:
        report = {"files": [_report(item, features) for item in checked]}
        write_text(args.json, json.dumps(report, indent=1, default=str) + "\n")
        print(f"Report: {args.json}")
    if args.html is not None:
        pages = [(item.scan, list(item.rows(features))) for item in checked]
        write_page(args.html, pages, image_files(cfg))
        print(f"Page: {args.html}")
    if args.fix is not None:
        _write_fixed(checked[0], features, args.fix)
    else:
        _raise_first(checked, features)


def _checked(args: argparse.Namespace, cfg: CfgNode) -> list[Checked]:
    first: tuple[str, ...] = ("train",) if args.val else ("test",) if args.test else USES
    sets = [(args.file, args.images, first)]
    sets += [(*args.val, ("test",))] if args.val else []
    checked = []
    for file, root, uses in sets:
        scan = scan_coco(file, root)
        others = [Findings(file) for _ in uses]
        for use, findings in zip(uses, others, strict=True):
            check_sizes(scan, cfg, use, findings)
        checked.append(Checked(scan, uses, [scan.findings, *others]))
    pixels = [_pixels(item, image_files(cfg)) for item in checked] if args.full else []
    if args.val and all(item.scan.complete for item in checked):
        train, test = (item.scan for item in checked)
        check_pair(train, test, checked[0].findings[1])
        if pixels:
            check_shared_pixels(pixels[0], pixels[1], test, checked[0].findings[1])
    return checked


def _pixels(item: Checked, files: ImageFiles) -> dict[bytes, tuple[int, str]]:
    return check_pixels(item.scan, item.scan.findings, files) if item.scan.complete else {}


def _listing(item: Checked, features: frozenset[str]) -> str:
    scan = item.scan
    counts = f"{len(scan.image_ids)} images, {0 if scan.objects is None else len(scan.objects.ids)} annotations, "
    head = f"{scan.file}, to {' and '.join(item.uses)}: {counts}{len(scan.class_names)} classes"
    lines = [head]
    for finding in item.rows(features):
        row = finding.row
        effects = {"train": row.training, "test": row.evaluation}
        lines.append(f"  {finding.severity} {row.code}: {finding.says}")
        lines += [f"      {use}: {effects[use]}" for use in item.uses]
        lines.append(f"      cure: {row.cure}")
    return "\n".join([*lines] if len(lines) > 1 else [head, "  nothing found"])


def _report(item: Checked, features: frozenset[str]) -> dict[str, Any]:
    scan = item.scan
    rows = [
        {
            "code": finding.row.code,
            "severity": finding.severity,
            "count": len(finding.places),
            "of": finding.row.of,
            "ids": finding.places,
            "says": finding.says,
            "training": finding.row.training,
            "evaluation": finding.row.evaluation,
            "cure": finding.row.cure,
        }
        for finding in item.rows(features)
    ]
    return {
        "file": str(scan.file),
        "images": str(scan.root),
        "uses": list(item.uses),
        "complete": scan.complete,
        "findings": rows,
    }


def _write_fixed(item: Checked, features: frozenset[str], target: Path) -> None:
    tree, counts = fixed(item.scan, features)
    write_text(target, json.dumps(tree))
    print(
        f"Written: {target}, {len(tree['images'])} images, {len(tree['annotations'])} annotations"
    )
    for code, count in counts.items():
        print(f"  mended or left out: {code} ({count})")


def _raise_first(checked: list[Checked], features: frozenset[str]) -> None:
    errors = [
        (findings, row)
        for item in checked
        for findings in item.findings
        for row in by_severity(findings, item.uses, features)["error"]
    ]
    if errors:
        findings, row = errors[0]
        kinds = f" ({len(errors)} kinds of error in all)" if len(errors) > 1 else ""
        raise DataError(f"{findings.sentence(row.code)[:-1]}{kinds}.")
