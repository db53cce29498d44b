"""Listing of the tables and their experiments, the paper's and plug-ins', read from their files without PyTorch."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from maskrcnn_cli.location import PACKAGE
from maskrcnn_cli.output import while_read
from maskrcnn_cli.own_tables import SUFFIXES, hint, installed_files
from maskrcnn_cli.parsing import UsageError, unknown

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
        names: ids of tables, or files with tables; empty or with ``all`` for the paper's tables, the experiments
            without a row and the tables of installed plug-ins.

    Raises:
        UsageError: a table does not exist.
    """
    paper, ours = _read(DATA / "paper.yaml"), _read(DATA / "experiments.yaml")
    own = {name: _read_own_tables(Path(name)) for name in names if name.endswith(SUFFIXES)}
    names = [other for name in names for other in own.get(name, (name,))]
    if not names or not {*names} <= {*paper["tables"], *chain.from_iterable(own.values())}:
        own |= {name: _read_own_tables(file) for name, file in installed_files().items()}
    tables: dict[str, Any] = dict(paper["tables"])
    for added in own.values():
        tables |= added
    for name in names:
        if name not in (*tables, "all"):
            raise UsageError(f"{unknown('Table', name, tables)} {hint()}")
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


def _read_own_tables(file: Path) -> dict[str, Any]:
    """Return the tables of a plug-in's file, by id.

    Raises:
        UsageError: it cannot be read, or has none; ``maskrcnn table`` checks the rest.
    """
    try:
        return {
            name: {
                "title": table["title"],
                "split": table.get("split", "no published numbers"),
                "rows": {key: {"name": row["name"], **row} for key, row in table["rows"].items()},
            }
            for name, table in _read(file)["tables"].items()
        }
    # Whatever PyYAML, a missing key or a value of another type raises.
    except Exception as error:  # noqa: BLE001
        raise UsageError(f"{file} holds no tables: {type(error).__name__}: {error}.") from None


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


def _read(file: Path) -> Mapping[str, Any]:
    # Imported here, as the other subcommands need only the standard library for their help.
    yaml = importlib.import_module("yaml")
    # The loader in C takes a tenth of the time, but not every installation has it.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    content: Mapping[str, Any] = yaml.load(file.read_text(encoding="utf-8"), loader)
    return content
