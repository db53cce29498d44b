"""``maskrcnn check``: the defects of a COCO file and its images, a mended copy, and two forms of report."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskrcnn_cli.training import OWN_DATA_CONFIG
from maskrcnn_repro.config import load_config, set_value
from maskrcnn_repro.data.check.findings import Findings
from maskrcnn_repro.data.check.fix import fix_tree
from maskrcnn_repro.data.check.judge import by_severity
from maskrcnn_repro.data.check.pairs import check_pair
from maskrcnn_repro.data.check.pixels import check_pixels, check_shared_pixels
from maskrcnn_repro.data.check.scan import Scan, scan_coco
from maskrcnn_repro.data.check.sizes import check_sizes
from maskrcnn_repro.data.check.table import SEVERITIES, USES
from maskrcnn_repro.data.image_file import ImageFiles
from maskrcnn_repro.data.loader import image_files
from maskrcnn_repro.data.sets import features_of
from maskrcnn_repro.data.statistics import Statistics
from maskrcnn_repro.engine.suggest import suggestions
from maskrcnn_repro.errors import DataError, counted
from maskrcnn_repro.utils.files import check_output, write_text
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
        OutputError: a file that is to be written is one that is read, or has another ending.
    """
    cfg = load_config(args.config_file or OWN_DATA_CONFIG)
    _check_outputs(args)
    checked = _check(args, cfg)
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


def _check_outputs(args: argparse.Namespace) -> None:
    others = [args.file, *([args.val[0]] if args.val else [])]
    for option, ending in (("fix", ".json"), ("json", ".json"), ("html", ".html")):
        path = getattr(args, option)
        if path is not None:
            check_output(f"--{option}", path, ending, others)
            others.append(path)


def _check(args: argparse.Namespace, cfg: CfgNode) -> list[Checked]:
    first: tuple[str, ...] = ("train",) if args.val else ("test",) if args.test else USES
    sets = [(args.file, args.images, first)]
    sets += [(*args.val, ("test",))] if args.val else []
    scans = [scan_coco(file, root) for file, root, _ in sets]
    sized = cfg if args.config_file else _with_chosen_sizes(cfg, scans)
    checked = []
    for (file, _, uses), scan in zip(sets, scans, strict=True):
        others = [Findings(file) for _ in uses]
        for use, findings in zip(uses, others, strict=True):
            check_sizes(scan, sized, use, findings)
        checked.append(Checked(scan, uses, [scan.findings, *others]))
    pixels = [_pixels(item, image_files(cfg)) for item in checked] if args.full else []
    if args.val and all(item.scan.complete for item in checked):
        train, test = (item.scan for item in checked)
        check_pair(train, test, checked[0].findings[1])
        if pixels:
            check_shared_pixels(pixels[0], pixels[1], test, checked[0].findings[1])
    return checked


def _with_chosen_sizes(cfg: CfgNode, scans: Sequence[Scan]) -> CfgNode:
    """Return the config with the sizes that ``maskrcnn train --data`` chooses; unchanged where it would refuse."""
    features = features_of(cfg)
    if not all(scan.complete and scan.objects is not None for scan in scans):
        return cfg
    if any(by_severity(scan.findings, USES, features)["error"] for scan in scans):
        return cfg
    statistics = [Statistics.of(scan) for scan in scans]
    if not len(statistics[0].sides):
        return cfg
    cfg = cfg.clone()
    cfg.defrost()
    for suggestion in suggestions(cfg, statistics[0], statistics[-1]):
        if suggestion.key.startswith(("INPUT.", "MODEL.ANCHOR_GENERATOR.", "TEST.")):
            set_value(cfg, suggestion.key, suggestion.value, "suggested")
    return cfg


def _pixels(item: Checked, files: ImageFiles) -> dict[bytes, tuple[int, str]]:
    return check_pixels(item.scan, item.scan.findings, files) if item.scan.complete else {}


def _listing(item: Checked, features: frozenset[str]) -> str:
    scan = item.scan
    images, annotations, classes = (
        len(records) if isinstance(records := (scan.tree or {}).get(key), list) else 0
        for key in ("images", "annotations", "categories")
    )
    numbers = (counted(images, "image"), counted(annotations, "annotation"))
    counts = f"{', '.join(numbers)}, {counted(classes, 'class', 'classes')}"
    head = f"{scan.file}, to {' and '.join(item.uses)}: {counts}"
    lines = [head]
    for finding in item.rows(features):
        row = finding.row
        effects = {"train": row.training, "test": row.evaluation}
        lines.append(f"  {finding.severity} {row.code}: {finding.says}")
        lines += [f"      {use}: {effects[use]}" for use in item.uses]
        lines.append(f"      cure: {row.cure}")
    if not scan.complete:
        lines.append("  Nothing else was looked at: it needs these to be right.")
    return "\n".join(lines if len(lines) > 1 else [head, "  nothing found"])


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
    tree, counts = fix_tree(item.scan, features)
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
