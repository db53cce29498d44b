"""Conversion between Detectron2's proposal files and stores, by the names of the files."""

from __future__ import annotations

from pathlib import Path

from maskrcnn_repro.data.proposals.detectron2_format import export_pickle, import_pickle
from maskrcnn_repro.data.proposals.store import SUFFIX, ProposalStore
from maskrcnn_repro.errors import OutputError


def convert(source: Path, target: Path) -> None:
    """Convert Detectron2's ``.pkl`` to a store ``*.proposals``, or a store to a ``.pkl``.

    Raises:
        OutputError: the target has the wrong suffix, exists already or cannot be written.
        DataError: the source is not in the format that its name says.
    """
    suffix = SUFFIX if source.suffix == ".pkl" else ".pkl"
    if target.suffix != suffix:
        raise OutputError(
            f"{str(source)!r} is converted to a name with {suffix!r} at its end, not to {str(target)!r}."
        )
    if target.exists():
        raise OutputError(f"{str(target)!r} is there already; choose another name.")
    if suffix == SUFFIX:
        import_pickle(source, target)
    else:
        store = ProposalStore(source)
        store.verify()  # opening a store compares sizes only, not checksums
        export_pickle(store, target)
