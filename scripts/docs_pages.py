"""MkDocs hook: pages of the documentation that are generated from code, data and files at the root.

The start page is the README, with links into ``docs/`` made relative; commands, experiments, config keys and the
figure of the floors come from the parsers, the data of the tables, the keys' table and the floors test.
"""

from __future__ import annotations

import ast
import contextlib
import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
DETECTRON2_KEYS = (
    "With their defaults; [Detectron2's documentation](https://detectron2.readthedocs.io/en/latest/modules/config.html) "
    "says what they mean."
)
DEFECTS = "<!-- table of defects -->"
"""Where a page has the table of defects."""
REPOSITORY_FILES = {
    "README.md": "index.md",
    "DEVIATIONS.md": "deviations.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
}
"""Markdown at the root -> its page."""

EXPERIMENTS = (
    "An experiment has the name of its config: `r50_c4` is `configs/coco/r50_c4.yaml`, `rpn_r50_c4` is "
    "`configs/rpn/r50_c4.yaml`. `maskrcnn experiment NAME` runs its stages; `maskrcnn list --experiments NAME` "
    "prints its line."
)


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages to those of ``docs/``."""
    sys.path.insert(0, str(ROOT / "projects"))
    for name, content in pages():
        files.append(File.generated(config, name, content=content))
    return files


def pages() -> Iterator[tuple[str, str]]:
    """Yield the name and the content of each generated page."""
    for source, page in REPOSITORY_FILES.items():
        yield page, relink((ROOT / source).read_text(encoding="utf-8"))
    yield "floors.svg", floors_figure(floors())
    yield "commands.md", commands()
    yield "config_keys.md", config_keys()
    yield "experiments.md", experiments()


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Return a page's Markdown, with links that leave ``docs/`` as text and the table of defects in its place."""
    if DEFECTS in markdown:
        markdown = markdown.replace(DEFECTS, defects())
    return re.sub(r"\[([^\]]*)\]\(\.\./([^)\s]+)\)", r"\1 (`\2`)", markdown)


def relink(text: str) -> str:
    """Return Markdown of the root as a page of ``docs/``: links to pages relative, to other files as text."""

    def replace(match: re.Match[str]) -> str:
        mark, label, target = match.groups()
        if "://" in target or target.startswith("#"):
            return match[0]
        path, _, anchor = target.partition("#")
        page = REPOSITORY_FILES.get(path) or path.removeprefix("docs/")
        if path in REPOSITORY_FILES or path.startswith("docs/"):
            return f"{mark}[{label}]({page}{'#' + anchor if anchor else ''})"
        return label if mark else f"{label} (`{path}`)"

    return re.sub(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)", replace, text)


def floors() -> list[tuple[str, ...]]:
    """Return the rooms of each floor, from the ground up, as the floors test has them."""
    tree = ast.parse((ROOT / "tests" / "test_floors.py").read_text(encoding="utf-8"))
    values = (
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "FLOORS"
    )
    return list(ast.literal_eval(next(values)))


def floors_figure(floors: list[tuple[str, ...]]) -> str:
    """Return an SVG with one row per floor, the ground at the bottom."""
    width, height, gap = 640, 34, 8
    rows = []
    for number, rooms in enumerate(reversed(floors)):
        room_width = (width - gap * (len(rooms) - 1)) / len(rooms)
        for place, room in enumerate(rooms):
            x, y = place * (room_width + gap), number * (height + gap)
            rows.append(
                f'<rect x="{x:.1f}" y="{y}" width="{room_width:.1f}" height="{height}" rx="4"/>'
                f'<text x="{x + room_width / 2:.1f}" y="{y + 22}">{room}</text>'
            )
    bottom = len(floors) * (height + gap) - gap
    style = (
        "rect{fill:#e8eefb;stroke:#3f63b5}text{font:14px monospace;text-anchor:middle;fill:#1b2a4d}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-1 -1 {width + 2} {bottom + 2}" '
        f'role="img"><title>Floors of the package</title><style>{style}</style>{"".join(rows)}</svg>'
    )


def commands() -> str:
    """Return the help of ``maskrcnn`` and of each subcommand."""
    from maskrcnn_cli.dispatch import GROUPS, overview

    parts = ["# Commands", "", "```text", overview(), "```"]
    for title, group in GROUPS.items():
        parts += ["", f"## {title[0].upper()}{title[1:]}"]
        for command in group:
            parts += ["", f"### maskrcnn {command.name}", "", "```text", help_of(command), "```"]
    return "\n".join(parts) + "\n"


def experiments() -> str:
    """Return the table of all experiments: what follows from their names, configs and rows."""
    from maskrcnn_repro.tables.paper.description import as_markdown, describe
    from maskrcnn_repro.tables.paper.experiments import experiments as all_experiments

    table = as_markdown(map(describe, all_experiments().values()))
    return f"# Experiments\n\n{EXPERIMENTS}\n\n{table}\n"


def help_of(command: Any) -> str:
    """Return what ``--help`` of a subcommand prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        command.arguments(["--help"])
    return printed.getvalue().rstrip()


def config_keys() -> str:
    """Return our config keys with their meaning, then Detectron2's with their defaults."""
    from maskrcnn_repro.config import KEYS, leaves

    own = yaml.safe_load(KEYS.read_text("utf-8"))
    parts = ["# Config keys", "", "## This project's", ""]
    parts += ["| key and default | meaning |", "| --- | --- |"]
    for name, key in own.items():
        notes = [f"Unit: {key['unit']}."] if "unit" in key else []
        notes += [f"Paper: {key['section']}."] if "section" in key else []
        meaning = " ".join([*key["meaning"].split(), *notes])
        parts.append(f"| `{name}` `{key['default']!r}` | {meaning} |")
    parts += ["", "## Detectron2's", "", DETECTRON2_KEYS, ""]
    parts += ["| key | default |", "| --- | --- |"]
    defaults = yaml.safe_load((ROOT / "compat/detectron2/config/defaults.yaml").read_text("utf-8"))
    parts += [f"| `{name}` | `{value!r}` |" for name, value in leaves(defaults)]
    return "\n".join(parts) + "\n"


def defects() -> str:
    """Return the table of what the data check looks for."""
    from maskrcnn_repro.data.check.table import defects as rows

    head = ["| code | trained on | tested on | training | evaluation | cure |", "| --- " * 6 + "|"]
    lines = [
        f"| `{row.code}` | {row.train or '-'} | {row.test or '-'} | {row.training} | {row.evaluation} | {row.cure} |"
        for row in rows().values()
    ]
    return "\n".join([*head, *lines])
