"""Tables and rows as a command line names them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from maskrcnn_repro.errors import TableError
from maskrcnn_repro.old_names import current_experiment
from maskrcnn_repro.tables.paper.data_file import missing
from maskrcnn_repro.tables.paper.numbers import Row, Table


@dataclass(frozen=True)
class Selection:
    """A table with the rows of it that were asked for."""

    table: Table
    rows: tuple[Row, ...]

    def experiments(self) -> list[str]:
        """Return the ids of their experiments, each once, in order."""
        return list(dict.fromkeys(row.experiment for row in self.rows if row.experiment))


def select(chosen: Sequence[Table], rows: Sequence[str]) -> list[Selection]:
    """Return the tables with the rows that were named, or with all of them.

    Args:
        chosen: the tables.
        rows: ids (``T2c.pool``), their last part (``pool``) or experiments, also by a former name.

    Raises:
        TableError: no table has such a row.
    """
    if not rows:
        return [Selection(table, tuple(table.rows.values())) for table in chosen]
    found: dict[str, list[Row]] = {table.id: [] for table in chosen}
    for name in rows:
        names = {name, current_experiment(name)}
        hits = [(t, row) for t in chosen for row in t.rows.values() if names & _names(row)]
        if not hits:
            known = [row.id for table in chosen for row in table.rows.values()]
            short = [row.id.partition(".")[2] for table in chosen for row in table.rows.values()]
            raise TableError(
                f"{missing([*known, *short], name, 'Row')} Rows of table "
                f"{', '.join(table.id for table in chosen)}: {', '.join(known)}."
            )
        for table, row in hits:
            if row not in found[table.id]:
                found[table.id].append(row)
    picked = [Selection(t, tuple(r for r in t.rows.values() if r in found[t.id])) for t in chosen]
    return [one for one in picked if one.rows]


def _names(row: Row) -> set[str | None]:
    return {row.id, row.id.partition(".")[2], row.experiment}
