"""Tables of plug-ins: files with experiments, rows and claims that plan, run and report like the paper's.

A file has the keys ``tables``, ``experiments``, ``claims``, ``metrics`` (further columns) and ``explanations`` (of its
claims, as in ``explanations.yaml``), all but the first optional. Rows name the paper's experiments beside the file's own, so that a baseline is trained once for both.
Nothing of the paper is changed: a name that exists is refused.
"""

from __future__ import annotations

import copy
import functools
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from maskrcnn_cli.own_tables import SUFFIXES, installed_files
from maskrcnn_repro.errors import TableError
from maskrcnn_repro.tables.paper import claims, experiments, numbers
from maskrcnn_repro.tables.paper.data_file import Node, read_data

UNPUBLISHED = "no published numbers"
_files: dict[Path, Addition] = {}


@dataclass(frozen=True)
class Addition:
    """What one file adds, each by id."""

    tables: Mapping[str, numbers.Table]
    metrics: Mapping[str, numbers.Metric]
    experiments: Mapping[str, experiments.Experiment]
    claims: Mapping[str, claims.Claim]
    explanations: Node | None = None
    """Unread: what a report says of claims is no business of what is registered."""


def register_table(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Make the tables of a file known to ``maskrcnn table`` and ``list``; again, it does nothing.

    Args:
        path: of a YAML file; configs in it lie relative to its folder.

    Returns:
        The ids of its tables.

    Raises:
        TableError: the file cannot be read, has a mistake, or uses a name that exists; nothing is registered.
    """
    file = Path(path).resolve()
    if file not in _files:
        added = parse_addition(read_data(file), file.parent)
        numbers.ADDED_TABLES.update(added.tables)
        numbers.ADDED_METRICS.update(added.metrics)
        experiments.ADDED.update(added.experiments)
        claims.ADDED.update(added.claims)
        _files[file] = added
    return tuple(_files[file].tables)


def register_installed() -> None:
    """Register the tables of all installed packages (entry points ``maskrcnn_repro.tables``).

    Raises:
        TableError: one of the files has a mistake; the message names its entry point.
    """
    for value, file in installed_files().items():
        try:
            register_table(file)
        except TableError as error:
            raise TableError(f"Tables of the installed plug-in {value!r}: {error}") from error


def named_tables(words: Iterable[str], paper: Iterable[str]) -> list[str]:
    """Return the ids of tables that a command line names, each once.

    Args:
        words: ids, paths of files, which are registered, or ``all``; where one is no table that there is, those of
            installed plug-ins are registered.
        paper: ids of the paper's tables, which ``all`` stands for.

    Raises:
        TableError: a file has a mistake.
    """
    names: list[str] = []
    for word in words:
        if word.endswith(SUFFIXES):
            names += register_table(word)
        elif word == "all":
            names += paper
        else:
            if word not in numbers.all_tables():
                register_installed()
            names.append(word)
    return list(dict.fromkeys(names))


def tables_beside(name: str) -> tuple[str, ...]:
    """Return the ids of all tables of the file that added a table, itself among them; none for one of the paper's."""
    return next((tuple(added.tables) for added in _files.values() if name in added.tables), ())


def experiments_apart(name: str) -> set[str]:
    """Return the ids of the experiments that other files than a table's own added."""
    others = [added for added in _files.values() if name not in added.tables]
    return {experiment for added in others for experiment in added.experiments}


def claims_beside(name: str) -> tuple[str, ...]:
    """Return the ids of all claims that belong together with a claim: the paper's, or those of the file that added it."""
    files = [claims.claims(), *(added.claims for added in _files.values())]
    return next((tuple(judged) for judged in files if name in judged), ())


def added_explanations() -> list[Node]:
    """Return what the registered files explain, each node to be read once."""
    nodes = [added.explanations for added in _files.values()]
    return [copy.deepcopy(node) for node in nodes if node]


def parse_addition(top: Node, folder: Path) -> Addition:
    """Return what a file adds to the paper and to what is registered.

    Args:
        top: the file.
        folder: where its configs lie.

    Raises:
        TableError: a mistake in it.
    """
    columns = {}
    for name, node in top.node("metrics").nodes() if "metrics" in top else ():
        columns[name] = node.build(numbers.Metric, name=name)
    trained: Mapping[str, experiments.Experiment] = {}
    if "experiments" in top:
        trained = experiments.parse_experiments(top, experiments.all_experiments(), folder)
    every = {**experiments.all_experiments(), **trained}
    everything = {**numbers.all_metrics(), **columns}
    parse_row = functools.partial(numbers.parse_own_row, experiments=every)
    tables = {}
    for name, node in top.node("tables").nodes():
        split = node.maybe("split", str) or UNPUBLISHED
        tables[name] = numbers.parse_table(name, node, everything, parse_row, split=split)
    own = numbers.index_rows(tables.values(), top.place)
    there = {key: row for table in numbers.all_tables().values() for key, row in table.rows.items()}
    judged = {}
    for name, node in top.node("claims").nodes() if "claims" in top else ():
        judged[name] = claims.parse_own_claim(name, node, everything, {**there, **own})
    explained = top.node("explanations") if "explanations" in top else None
    top.end()
    added = Addition(tables, columns, trained, judged, explained)
    _refuse_taken(added, own, there, top.place)
    return added


def _refuse_taken(
    added: Addition, own: Iterable[str], there: Mapping[str, numbers.Row], place: str
) -> None:
    """Raise TableError if a table, a row, a column or a claim has the name of another."""
    pairs: tuple[tuple[str, Iterable[str], Mapping[str, object]], ...] = (
        ("table", added.tables, {"all": None, **numbers.all_tables()}),
        ("row", own, there),
        ("metric", added.metrics, numbers.all_metrics()),
        ("claim", added.claims, claims.all_claims()),
    )
    for what, names, others in pairs:
        for name in names:
            if name in others:
                raise TableError(f"{place}: {what} {name!r} exists already; choose another name.")
