"""MkDocs hook: pages of the documentation that are generated from code, data and files at the root.

The start page is the README, with links into ``docs/`` made relative; commands, experiments and config keys
come from the parsers, the data of the tables and the keys' table.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
CONFIG_KEYS = (
    "A key is set in a YAML file or, behind all options, on the command line as `KEY VALUE` or `KEY=VALUE`. A value is what "
    "its key's type makes of it: `1` is a learning rate, `1e3` a number of iterations, `true` a bool, and `tr` or `('tr')` the "
    "only entry of a tuple of names; whatever else does not fit is refused with the file, the line and the spelling that "
    "works. A wrong name is answered with the keys that may have been meant, a key that a file says twice, a file that "
    "is its own `_BASE_` and one whose aliases never end with a sentence. Keys that contradict each other are found "
    "before a model is built, for a table those of all its stages; keys that say nothing in a training, such as `STEPS` of "
    "a cosine schedule, stand in its log."
)
OTHER_KEYS = (
    "With their defaults; only their type is checked. "
    "[Detectron2's documentation](https://detectron2.readthedocs.io/en/latest/modules/config.html) says what they mean."
)
DEFECTS = "<!-- table of defects -->"
"""Where a page has the table of defects."""
FATES = "<!-- table of fates -->"
"""Where a page has the table of what a conversion changes or leaves out."""
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
    yield "commands.md", commands()
    yield "config_keys.md", config_keys()
    yield "experiments.md", experiments()
    yield "roi_figure.html", roi_figure()


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Return a page's Markdown, with links that leave ``docs/`` as text and tables in their places."""
    for place, table in ((DEFECTS, defects), (FATES, fates)):
        if place in markdown:
            markdown = markdown.replace(place, table())
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


def roi_figure() -> str:
    """Return the page with an RoI to drag."""
    from maskrcnn_repro.tables.report.html.roi_figure import page

    return page()


def help_of(command: Any) -> str:
    """Return what ``--help`` of a subcommand prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        command.arguments(["--help"])
    return printed.getvalue().rstrip()


def config_keys() -> str:
    """Return our config keys and those of Detectron2 that a run reads: default, values and meaning; then the others."""
    from maskrcnn_repro.config import DETECTRON2_KEYS, KEYS, leaves, read_keys

    from detectron2.config import get_cfg

    import maskrcnn_family

    defaults = dict(leaves(get_cfg()))
    parts = ["# Config keys", "", CONFIG_KEYS, ""]
    heads = sorted(Path(maskrcnn_family.__file__).parent.glob("*/config_keys.yaml"))
    files = {
        "This project's": KEYS,
        "Detectron2's": DETECTRON2_KEYS,
        **{f"Of maskrcnn_family.{file.parent.name}": file for file in heads},
    }
    for title, file in files.items():
        parts += [
            f"## {title}",
            "",
            "| key and default | values | meaning |",
            "| --- | --- | --- |",
        ]
        for name, fields in read_keys(file).items():
            default = fields["default"] if "default" in fields else defaults.pop(name)
            parts.append(
                f"| `{name}` `{default!r}` | {key_values(name, file)} | {key_meaning(fields)} |"
            )
        parts.append("")
    parts += ["## Detectron2's of other models", "", OTHER_KEYS, ""]
    parts += ["| key | default |", "| --- | --- |"]
    parts += [f"| `{name}` | `{value!r}` |" for name, value in defaults.items()]
    return "\n".join(parts) + "\n"


def key_values(name: str, file: Path) -> str:
    """Return what a config key of a file may be, as a cell of a table."""
    from maskrcnn_repro.config import key_table

    return str(key_table(file)[name]).replace("|", "\\|")


def key_meaning(fields: Mapping[str, Any]) -> str:
    """Return the meaning of a config key with unit and section, as a cell of a table."""
    notes = [f"Unit: {fields['unit']}."] if "unit" in fields else []
    notes += [f"Paper: {fields['section']}."] if "section" in fields else []
    return " ".join([*fields["meaning"].split(), *notes])


def defects() -> str:
    """Return the table of what the data check looks for."""
    from maskrcnn_repro.data.check.table import defects as rows

    head = ["| code | trained on | tested on | training | evaluation | cure |", "| --- " * 6 + "|"]
    lines = [
        f"| `{row.code}` | {row.train or '-'} | {row.test or '-'} | {row.training} | {row.evaluation} | {row.cure} |"
        for row in rows().values()
    ]
    return "\n".join([*head, *lines])


def fates() -> str:
    """Return the table of what a conversion changes or leaves out."""
    from maskrcnn_repro.data.formats.fates import FATES as ROWS

    lines = [f"| {row.what} | {row.becomes} |" for row in ROWS.values()]
    return "\n".join(["| what | becomes |", "| --- | --- |", *lines])
