"""Stored proposals on their way to the model: looked up per image, then Detectron2's own mapper.

P = proposals of one image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from maskrcnn_repro.data.proposals.store import ProposalStore
from maskrcnn_repro.errors import DataError

from detectron2.structures import BoxMode

Record = dict[str, Any]
PLACE = "proposals_at"
"""Key of a dataset dict: number of the store and row in it."""
SHOWN = 5


def placed(records: Sequence[Record], store: ProposalStore, number: int) -> list[Record]:
    """Return copies of dataset dicts that say where their proposals lie.

    Args:
        records: dataset dicts.
        store: proposals of these images, and perhaps of others.
        number: the store's place among those of :class:`WithStoredProposals`.

    Raises:
        DataError: the store has nothing for some of the images; the first are named.
    """
    ids = [record["image_id"] for record in records]
    rows = store.rows(ids)
    missing = [image_id for image_id, row in zip(ids, rows, strict=True) if row is None]
    if missing:
        first = ", ".join(repr(image_id) for image_id in missing[:SHOWN])
        raise DataError(
            f"Proposals {store.path} have nothing for {len(missing)} of {len(ids)} images: {first}"
            f"{', …' if len(missing) > SHOWN else ''}; write them for this data set with "
            "`maskrcnn proposals`."
        )
    return [{**record, PLACE: (number, row)} for record, row in zip(records, rows, strict=True)]


class WithStoredProposals:
    """A mapper that gives another one the stored proposals of its image, in Detectron2's keys.

    Args:
        mapper: a ``DatasetMapper`` or the like; it moves the proposals with the image and keeps
            ``DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TRAIN`` or ``_TEST`` of them.
        stores: in the order of the numbers given to :func:`placed`.
    """

    def __init__(self, mapper: Callable[[Record], Record], stores: Sequence[ProposalStore]) -> None:
        self.mapper = mapper
        self.stores = list(stores)

    def __call__(self, record: Record) -> Record:
        """Map a dataset dict of :func:`placed`; the dict itself is not changed."""
        rest = {key: value for key, value in record.items() if key != PLACE}
        number, row = record[PLACE]
        boxes, logits = self.stores[number][row]
        return self.mapper(
            {
                **rest,
                "proposal_boxes": boxes,
                "proposal_objectness_logits": logits,
                "proposal_bbox_mode": BoxMode.XYXY_ABS,
            }
        )
