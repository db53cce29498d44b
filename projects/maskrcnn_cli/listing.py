"""Listing of the paper's tables and their experiments, read from the data files without PyTorch."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from maskrcnn_cli.location import PACKAGE
from maskrcnn_cli.output import while_read
from maskrcnn_cli.parsing import unknown

DATA = PACKAGE / "tables" / "paper" / "data"


def run(args: argparse.Namespace) -> int:
    """Print the rows of ``args.tables``, or of all tables.

    Raises:
        UsageError: a table does not exist.
    """
    text = "\n".join(lines(args.tables))
    return while_read(lambda: print(text))


def lines(names: list[str]) -> Iterator[str]:
    """Yield the lines of tables and their rows, with each row's experiment, or the reason for having none.

    Args:
        names: ids of tables; empty or with ``all`` for all tables and the experiments without a row.

    Raises:
        UsageError: a table does not exist.
    """
    paper, ours = _read("paper.yaml"), _read("experiments.yaml")
    tables: Mapping[str, Any] = paper["tables"]
    for name in names:
        if name not in (*tables, "all"):
            raise unknown("Table", name, tables)
    names = [] if "all" in names else names
    rows: dict[str, dict[str, Any]] = {name: dict(table["rows"]) for name, table in tables.items()}
    for key, row in ours["extra_rows"].items():
        rows[row["table"]][key] = row
    for name in names or tables:
        yield f"{name}: {tables[name]['title']} ({tables[name]['split']})"
        for key, row in rows[name].items():
            yield f"    {key:<22} {row['name']:<46} {_purpose(row | ours['rows'].get(key, {}))}"
    if not names:
        yield from _without_row(ours)


def _purpose(row: Mapping[str, Any]) -> str:
    """Return the experiment of a row, or the reason for having none."""
    if "experiment" in row:
        return str(row["experiment"])
    if "why_not" in row:
        return f"cannot be run: {row['why_not']}"
    return "difference of two rows" if "gap_of" in row else "another method"


def _without_row(ours: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of the experiments without a row, such as RPNs."""
    used = {row.get("experiment") for part in ("rows", "extra_rows") for row in ours[part].values()}
    yield "Experiments behind these:"
    yield from (f"    {name}" for name in ours["experiments"] if name not in used)


def _read(name: str) -> Mapping[str, Any]:
    # Imported here, as the other subcommands need only the standard library for their help.
    yaml = importlib.import_module("yaml")
    # The loader in C takes a tenth of the time, but not every installation has it.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    content: Mapping[str, Any] = yaml.load((DATA / name).read_text(encoding="utf-8"), loader)
    return content
