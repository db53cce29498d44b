"""Stored proposals that a config names, held against its data sets before anything is trained."""

from __future__ import annotations

import logging
from pathlib import Path

from maskrcnn_repro.data.proposals.detectron2_format import find_imported, keep_imported
from maskrcnn_repro.data.proposals.mapper import placed
from maskrcnn_repro.data.proposals.store import ProposalStore, digest_of
from maskrcnn_repro.errors import ConfigError, DataError
from maskrcnn_repro.utils.files import local_copy

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.utils import comm

logger = logging.getLogger(__name__)
PRECOMPUTED = "PrecomputedProposals"


def check_proposal_keys(cfg: CfgNode, *, training: bool) -> None:
    """Raise ConfigError if the keys about stored proposals contradict each other."""
    loads, generator = cfg.MODEL.LOAD_PROPOSALS, cfg.MODEL.PROPOSAL_GENERATOR.NAME
    if loads != (generator == PRECOMPUTED):
        raise ConfigError(
            f"MODEL.LOAD_PROPOSALS is {loads}, but MODEL.PROPOSAL_GENERATOR.NAME is {generator!r}: a "
            f"model on stored proposals has True and {PRECOMPUTED!r}, any other has neither."
        )
    if not loads:
        return
    for split in _splits(cfg, training=training):
        key = f"PROPOSAL_FILES_{split}"
        names, files = cfg.DATASETS[split], cfg.DATASETS[key]
        if len(names) != len(files):
            raise ConfigError(
                f"DATASETS.{key} names {len(files)} stores, but DATASETS.{split} has {len(names)} data "
                f"sets ({', '.join(names)}): give one for each, in the same order. 'maskrcnn experiment ID' makes "
                "them first; MODEL.LOAD_PROPOSALS False MODEL.PROPOSAL_GENERATOR.NAME RPN trains an RPN along."
            )


def prepare_proposals(cfg: CfgNode, *, training: bool) -> None:
    """In the main process: import Detectron2's files, check that all stores fit their data sets.

    Args:
        cfg: its data sets are registered.
        training: also those of ``DATASETS.TRAIN``.

    Raises:
        DataError: not a store, altered, of another data set, or without some of the images.
    """
    if not (cfg.MODEL.LOAD_PROPOSALS and comm.is_main_process()):
        return
    for split in _splits(cfg, training=training):
        key = f"PROPOSAL_FILES_{split}"
        for name, file in zip(cfg.DATASETS[split], cfg.DATASETS[key], strict=True):
            _import(file)
            store = open_store(file)
            store.verify()
            check_store(store, name)


def stores_of(cfg: CfgNode, split: str) -> list[ProposalStore]:
    """Open the stores of ``DATASETS.PROPOSAL_FILES_<split>``, ``TRAIN`` or ``TEST``.

    Raises:
        DataError: see :class:`ProposalStore`.
    """
    return [open_store(file) for file in cfg.DATASETS[f"PROPOSAL_FILES_{split}"]]


def open_store(file: str) -> ProposalStore:
    """Open a store given by its folder or by Detectron2's file, which was imported before.

    Raises:
        DataError: there is none, or it was altered.
    """
    if not file.endswith(".pkl"):
        return ProposalStore(file)
    local = _find_local(file)
    path = find_imported(local)
    if path is None:
        raise DataError(
            f"Proposals {str(local)!r} were not imported yet; `maskrcnn convert-proposals` does so."
        )
    return ProposalStore(path)


def check_store(store: ProposalStore, dataset: str) -> None:
    """Raise DataError unless ``store`` holds the proposals of a registered data set.

    Of an imported store it is only known that it has something for every image.
    """
    records = DatasetCatalog.get(dataset)
    if store.dataset not in (None, dataset):
        raise DataError(
            f"Proposals {store.path} belong to data set {store.dataset!r} ({len(store)} images), not to "
            f"{dataset!r} ({len(records)} images)."
        )
    placed(records, store, 0)
    if store.index["images_sha256"] not in (None, digest_of(records)):
        raise DataError(
            f"Proposals {store.path} were made when data set {dataset!r} had other images "
            f"({len(store)}, now {len(records)}) or other sizes; write them again with "
            "`maskrcnn proposals`."
        )
    mean = store.index["proposals"] / max(1, len(store))
    logger.info("Proposals of %s: %.0f per image, from %s", dataset, mean, store.path)


def _import(file: str) -> None:
    if file.endswith(".pkl"):
        keep_imported(_find_local(file))


def _find_local(file: str) -> Path:
    """Return the local copy of a file given by path or URL, such as Detectron2's own."""
    return local_copy(file, f"Proposals {file!r}", DataError)


def _splits(cfg: CfgNode, *, training: bool) -> list[str]:
    return [split for split in ("TRAIN", "TEST") if training or split == "TEST"]
