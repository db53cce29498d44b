"""Rows of the paper's tables as a command line selects them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from maskrcnn_repro.errors import TableError
from maskrcnn_repro.old_names import current_experiment
from maskrcnn_repro.tables.paper.claims import all_claims
from maskrcnn_repro.tables.paper.data_file import describe_missing
from maskrcnn_repro.tables.paper.numbers import Row, Table

CLAIMED = "claims"
"""Stands for all rows that a claim is about."""


@dataclass(frozen=True)
class Selection:
    """A table and those of its rows that were selected."""

    table: Table
    rows: tuple[Row, ...]

    def experiments(self) -> list[str]:
        """Return the ids of the selected rows' experiments, each once, in order."""
        return list(dict.fromkeys(row.experiment for row in self.rows if row.experiment))


def select(chosen: Sequence[Table], rows: Sequence[str]) -> list[Selection]:
    """Return the tables with the named rows, or with all rows if none is named; tables without any are left out.

    Args:
        chosen: the tables.
        rows: ids (``T2c.pool``), their last part (``pool``) or experiments, also under a former name; :data:`CLAIMED`.

    Raises:
        TableError: none of the tables has such a row.
    """
    if not rows:
        return [Selection(table, tuple(table.rows.values())) for table in chosen]
    candidates = [row for table in chosen for row in table.rows.values()]
    last_part = {row.id: row.id.partition(".")[2] for row in candidates}
    selected: set[str] = set()
    for name in rows:
        names = _select_claimed() if name == CLAIMED else {name, current_experiment(name)}
        hits = [row.id for row in candidates if names & {row.id, last_part[row.id], row.experiment}]
        if not hits and name == CLAIMED:
            tables = ", ".join(table.id for table in chosen)
            raise TableError(
                f"--rows {CLAIMED}: no finding is about a row of table {tables}; leave it out for all rows."
            )
        if not hits:
            raise TableError(
                f"{describe_missing([*last_part, *last_part.values()], name, 'Row')} Rows of table "
                f"{', '.join(table.id for table in chosen)}: {', '.join(last_part)}."
            )
        selected.update(hits)
    picked = [Selection(t, tuple(r for r in t.rows.values() if r.id in selected)) for t in chosen]
    return [selection for selection in picked if selection.rows]


def _select_claimed() -> set[str]:
    return {row for claim in all_claims().values() for pair in claim.rows for row in pair}
