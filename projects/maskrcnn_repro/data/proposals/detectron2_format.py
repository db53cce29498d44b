"""Import and export of Detectron2's proposal files: a pickled dict of lists with one entry per image.

Keys: ``ids``, ``boxes`` (P, 4), ``objectness_logits`` (P,), ``bbox_mode``; Detectron's older files have
``indexes`` and ``scores`` instead. P = proposals of one image. Files are read without running the code that
a pickle can name.
"""

from __future__ import annotations

import logging
import os
import pickle
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maskrcnn_repro.data.proposals.store import SUFFIX, ProposalStore
from maskrcnn_repro.data.proposals.writer import StoreWriter
from maskrcnn_repro.errors import DataError, OutputError
from maskrcnn_repro.utils.files import replaced
from maskrcnn_repro.utils.pickles import Allowance, Stand, as_array, entries, plain
from maskrcnn_repro.utils.provenance import code_origin

import numpy as np
from detectron2.structures import BoxMode

logger = logging.getLogger(__name__)
OLD_NAMES = {"indexes": "ids", "scores": "objectness_logits"}
MODES = (BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)
CACHE = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "maskrcnn_repro"


def import_pickle(file: Path, path: Path) -> ProposalStore:
    """Convert Detectron2's file to a store at ``path``; the whole file is in memory meanwhile.

    Raises:
        DataError: the file is missing, truncated, or not in this format.
        OutputError: the store cannot be written.
    """
    content = _read(file)
    ids, boxes, logits = (
        _list(file, content, key) for key in ("ids", "boxes", "objectness_logits")
    )
    if not len(ids) == len(boxes) == len(logits):
        raise DataError(
            f"{str(file)!r}: {len(ids)} ids, {len(boxes)} boxes and {len(logits)} objectness_logits; "
            "there must be one of each per image."
        )
    mode, allowance = _mode(file, content), Allowance(file.stat().st_size)
    writer, seen = StoreWriter(path), set()
    for number, entry in enumerate(zip(ids, boxes, logits, strict=True)):
        try:
            image_id, *proposals = _image(*entry, mode, allowance)
            if image_id in seen:
                raise ValueError(f"image {image_id!r}, which an earlier entry has; keep one")
            seen.add(image_id)
            writer.add(image_id, *proposals)
        except (ValueError, IndexError) as error:
            shutil.rmtree(writer.folder)
            raise DataError(
                f"{str(file)!r}: entry {number} holds {str(error).rstrip('.')}."
            ) from error
        except OutputError:  # a full disk
            shutil.rmtree(writer.folder)
            raise
    writer.finish(
        dataset=None,
        images_sha256=None,
        origin={"imported_from": str(file), **_stamp(file), "code": code_origin()},
    )
    logger.info("Imported proposals of %d images from %s to %s", len(ids), file, path)
    return ProposalStore(path)


def export_pickle(store: ProposalStore, file: Path) -> None:
    """Convert a store to Detectron2's file, which is written atomically."""
    # Slices of memory-mapped arrays: the pickler reads one after the other from disk.
    spans = list(zip(store.offsets[:-1].tolist(), store.offsets[1:].tolist(), strict=True))
    content = {
        "ids": store.image_ids(),
        "boxes": [store.boxes[begin:end] for begin, end in spans],
        "objectness_logits": [store.logits[begin:end] for begin, end in spans],
        "bbox_mode": BoxMode.XYXY_ABS.value,
    }
    with replaced(file) as beside, beside.open("wb") as stream:
        # The first protocol for objects above 4 GB, which the boxes of COCO's images are together.
        pickle.dump(content, stream, protocol=4)


def find_imported(file: Path) -> Path | None:
    """Return the store that :func:`keep_imported` wrote for this version of the file, or None."""
    for path in _store_paths(file):
        try:
            origin = ProposalStore(path).index["origin"]
        except DataError:
            continue
        if {key: origin.get(key) for key in ("bytes", "changed")} == _stamp(file):
            return path
    return None


def keep_imported(file: Path) -> Path:
    """Return the store of Detectron2's file, which is imported the first time.

    The store is written beside the file, or in the user's cache if that folder is not writable.
    """
    store = find_imported(file)
    if store:
        return store
    beside, cache = _store_paths(file)
    path = beside if os.access(file.parent, os.W_OK) else cache
    import_pickle(file, path)
    return path


def _store_paths(file: Path) -> tuple[Path, Path]:
    """Return the paths of the imported store: beside the file, and in the user's cache."""
    # The name keeps ".pkl": without it, it could be the store that was exported to this file.
    name = f"{file.name}{SUFFIX}"
    inside = "_".join(file.absolute().parent.parts[1:])
    return file.with_name(name), CACHE / "proposals" / inside / name


def _stamp(file: Path) -> dict[str, int]:
    """Return size and modification time, to detect a changed file without reading gigabytes."""
    facts = file.stat()
    return {"bytes": facts.st_size, "changed": facts.st_mtime_ns}


def _read(file: Path) -> Mapping[str, Any]:
    try:
        with file.open("rb") as stream:
            content = entries(stream)
    except OSError as error:
        raise DataError(f"Proposals {str(file)!r} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise DataError(
            f"{str(file)!r} is no file of proposals in Detectron2's format: {error}."
        ) from error
    return {OLD_NAMES.get(str(key), str(key)): value for key, value in content.items()}


def _list(file: Path, content: Mapping[str, Any], key: str) -> Any:
    if key not in content:
        raise DataError(
            f"{str(file)!r} has no {key!r}, which Detectron2's files of proposals have; it has "
            f"{', '.join(sorted(content)) or 'nothing'}."
        )
    value = content[key]
    try:
        return as_array(value).tolist() if isinstance(value, Stand) else list(value)
    except (TypeError, ValueError) as error:
        raise DataError(f"{str(file)!r}: {key!r} is no list, but {error}.") from error


def _image(
    image_id: Any, boxes: Any, logits: Any, mode: BoxMode, allowance: Allowance
) -> tuple[int | str, np.ndarray, np.ndarray]:
    """Return the id of an image, its boxes as xyxy and its logits, sorted as Detectron2 does it."""
    image_id, boxes, logits = plain(image_id), as_array(boxes), as_array(logits)
    for array in (boxes, logits):
        allowance.spend(array)
    if not isinstance(image_id, int | str):
        raise ValueError(f"an image id that is neither integer nor text, {image_id!r}")  # noqa: TRY004
    # With logits of two dimensions each box would be taken once for every row of them.
    if logits.ndim != 1 or boxes.shape != (*logits.shape, 4):
        raise ValueError(f"boxes {boxes.shape} and logits {logits.shape}, not (P, 4) and (P,)")
    # Detectron2's expression: it also decides the order of equal logits.
    best_first = logits.argsort()[::-1]
    return image_id, BoxMode.convert(boxes[best_first], mode, BoxMode.XYXY_ABS), logits[best_first]


def _mode(file: Path, content: Mapping[str, Any]) -> BoxMode:
    value = content.get("bbox_mode", BoxMode.XYXY_ABS.value)
    try:
        if isinstance(value, Stand) and value.name.endswith(".BoxMode"):  # pickled as an enum
            (value,) = value.arguments
        mode = BoxMode(plain(value))
    except ValueError as error:
        raise DataError(f"{str(file)!r}: 'bbox_mode' is {error}.") from error
    if mode not in MODES:
        raise DataError(f"{str(file)!r}: boxes in {mode!r}; only XYXY_ABS and XYWH_ABS are read.")
    return mode
