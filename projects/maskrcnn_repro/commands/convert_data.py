"""``maskrcnn convert-data``: annotations of a labelling tool as COCO JSON."""

from __future__ import annotations

import argparse
import shlex
from functools import partial

from maskrcnn_repro.data.check.judge import by_severity
from maskrcnn_repro.data.formats.convert import NAMES, Converted, Request, convert
from maskrcnn_repro.data.formats.options import Options
from maskrcnn_repro.data.formats.registry import FORMATS
from maskrcnn_repro.errors import counted, listing

from tqdm import tqdm


def run(args: argparse.Namespace) -> int:
    """Convert, and print counts, losses and the command to type next; return 1 if an image was left out."""
    request = Request(
        source=args.source,
        out=args.out,
        images=args.images,
        form=args.format,
        share=args.split,
        seed=args.seed,
        group_by=args.group_by,
        keep_unused=args.keep_unused,
        merge=tuple(args.merge),
        options=Options(args.class_name, args.attribute, args.predictions),
    )
    bar = partial(tqdm, desc="images", unit="image", mininterval=1.0, leave=False, disable=None)
    converted = convert(request, bar)
    print(f"{args.source} is {FORMATS[converted.form].title}.")
    for line in (*_counts(request, converted), *_remarks(converted)):
        print(line)
    print(f"Next: {_suggest_next(request, converted)}", flush=True)
    return 0 if converted.complete else 1


def _counts(request: Request, converted: Converted) -> list[str]:
    lines = []
    for part, scan in converted.scans.items():
        tree = scan.tree or {}
        counts = ", ".join(
            counted(len(tree[key]), *words)
            for key, *words in (
                ("images", "image"),
                ("annotations", "object"),
                ("categories", "class", "classes"),
            )
        )
        lines.append(f"Written: {request.out / NAMES[part]}.json, {counts}")
    return lines


def _remarks(converted: Converted) -> list[str]:
    lines = [f"  {line}" for line in (*converted.losses.lines(), *converted.notes)]
    if converted.left_out:
        lines.append(f"  left out: classes without objects: {listing(converted.left_out)}")
    if converted.unused:
        lines.append(f"  kept: classes without objects: {listing(converted.unused)}")
    for scan in converted.scans.values():
        for row in by_severity(scan.findings, ("train",))["warning"]:
            lines.append(f"  warning: {scan.findings.sentence(row.code)}")
    objects = sum(len((scan.tree or {})["annotations"]) for scan in converted.scans.values())
    if len(converted.losses.places.get("box", ())) >= objects:
        lines.append("  All outlines are boxes: train with MODEL.MASK_ON False.")
    return lines


def _suggest_next(request: Request, converted: Converted) -> str:
    """Return the command that trains on what was written."""
    root = str(converted.root)

    def words(part: str) -> list[str]:
        return [str(request.out / f"{NAMES[part]}.json"), root]

    first = "train" if "train" in converted.scans else next(iter(converted.scans))
    measured = next((p for p in ("val", "test") if p in converted.scans and p != first), None)
    line = ["maskrcnn", "train", "--data", *words(first)]
    return shlex.join(line if measured is None else [*line, "--val", *words(measured)])
